"""llama.cpp's own quantizer, which the package llama-cpp-python has.

It runs in a process of its own: where it gives up it ends the process that it is in. Who calls it
reads one line then.

Tested in tests/export/test_llamacpp.py.
"""

import ctypes
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from babelpress.errors import BadRun, BadSetting, MissingPackage

# What llama-quantize takes, in its words: mixtures of block types.
TYPES = (
    "q4_k_m",
    "q2_k",
    "q2_k_s",
    "q3_k_s",
    "q3_k_m",
    "q3_k_l",
    "q4_0",
    "q4_1",
    "q4_k_s",
    "q5_0",
    "q5_1",
    "q5_k_s",
    "q5_k_m",
    "q6_k",
    "iq1_s",
    "iq1_m",
    "iq2_xxs",
    "iq2_xs",
    "iq2_s",
    "iq2_m",
    "iq3_xxs",
    "iq3_xs",
    "iq3_s",
    "iq3_m",
    "iq4_nl",
    "iq4_xs",
)
WITH_IMATRIX = ("q2_k_s", "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq3_xxs")
BLOCK = 256  # inputs of a block of K-quants: what it does not divide gets another type
ERROR, CONTINUED = 4, 5  # levels of llama.cpp's log
SUMS, COUNTS = ".in_sum2", ".counts"
GAVE_UP = 3  # the exit code of the process


def check(kind: str, imatrix: bool) -> None:
    """Raise BadSetting for a type that needs an imatrix, MissingPackage without the quantizer."""
    if find_spec("llama_cpp") is None:
        raise MissingPackage("llama-cpp-python", "llamacpp")
    if kind in WITH_IMATRIX and not imatrix:
        raise BadSetting(
            f"{kind} is only good with an imatrix: give --moments FOLDER (`babelpress calibrate` "
            "makes it), or --imatrix FILE."
        )


def quantize(dense: Path, out: Path, kind: str, imatrix: Path | None, threads: int) -> None:
    """Quantize a GGUF file into another. Raises BadRun with what llama.cpp says."""
    words = [dense, out, kind, imatrix or "", threads]
    done = subprocess.run(
        [sys.executable, "-m", __name__, *map(str, words)], stderr=subprocess.PIPE, check=False
    )
    if done.returncode or not out.exists():
        said = done.stderr.decode(errors="replace").strip().splitlines()
        last = said[-1] if said else f"it ended with {done.returncode}"
        raise BadRun(f"llama.cpp's quantizer gave up on {kind}: {last}")


def means(path: Path) -> dict[str, Any]:
    """Mean squared inputs (I) by tensor name in an imatrix.gguf, as llama-quantize makes them.

    Raises BadSetting for a file that is none.
    """
    import numpy as np

    from babelpress.models import gguf_package as ggufs

    try:
        reader = ggufs.package().GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:
        raise BadSetting(
            f"--imatrix {path} cannot be read as GGUF. Give the imatrix.gguf that `babelpress "
            "export --format imatrix` or llama-imatrix writes."
        ) from error
    found = {each.name: np.asarray(each.data, dtype=np.float32) for each in reader.tensors}
    names = [name.removesuffix(SUMS) for name in found if name.endswith(SUMS)]
    if not names:
        raise BadSetting(f"--imatrix {path} holds no sums of inputs (*{SUMS}): it is no imatrix.")
    return {name: (found[name + SUMS] / found[name + COUNTS]).reshape(-1) for name in names}


# ---- in the process of its own -------------------------------------------------------------


def _main(words: Sequence[str]) -> int:
    import llama_cpp as engine  # type: ignore[import-not-found]

    dense, out, kind, imatrix, threads = words
    said: list[str] = []

    @engine.llama_log_callback
    def log(level: int, text: bytes, _: Any) -> None:
        if level == ERROR or (level == CONTINUED and said):
            said.append(text.decode(errors="replace"))

    engine.llama_log_set(log, None)
    settings = engine.llama_model_quantize_default_params()
    settings.nthread = int(threads)
    settings.ftype = getattr(engine, f"LLAMA_FTYPE_MOSTLY_{kind.upper()}")
    rows = means(Path(imatrix)) if imatrix else {}
    if rows:
        row = engine.llama_model_imatrix_data
        pointer = ctypes.POINTER(ctypes.c_float)
        filled = [
            row(name.encode(), mean_I.ctypes.data_as(pointer), mean_I.size)
            for name, mean_I in rows.items()
        ]
        settings.imatrix = (row * (len(filled) + 1))(*filled, row(None, None, 0))
    failed = engine.llama_model_quantize(dense.encode(), out.encode(), ctypes.byref(settings))
    if failed:
        sys.stderr.write(" ".join("".join(said).split()) or f"llama_model_quantize gave {failed}")
        return GAVE_UP
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
