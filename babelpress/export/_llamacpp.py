"""llama.cpp's own quantizer, which the package llama-cpp-python has.

It runs in a process of its own: where it gives up it ends the process that it is in. Who calls it
reads one line then.

Tested in tests/export/test_llamacpp.py.
"""

import ctypes
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from babelpress.errors import BadRun, BadSetting, MissingPackage
from babelpress.system.progress import Progress, silent

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
LOGGED = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")  # how llama.cpp begins its line on a tensor
TOLD = re.compile(r"tensor (\d+) of (\d+)")  # what the process says of it


def check(kind: str, known: Sequence[str], imatrix: str, *, moments: bool) -> None:
    """All that is wrong with a kind and what weighs its errors, from the words alone.

    `known` are the kinds that need no quantizer. Raises BadSetting for an unknown kind, one that
    needs an imatrix, two of them, or a file that is none, MissingPackage without the quantizer.
    """
    if kind not in (*known, *TYPES):
        raise BadSetting(f"kind is '{kind}'. Choose one of {', '.join((*known, *TYPES))}.")
    if imatrix and moments:
        raise BadSetting(f"--imatrix {imatrix} and --moments say two things. Give one of them.")
    if kind not in TYPES:
        return
    if find_spec("llama_cpp") is None:
        raise MissingPackage("llama-cpp-python", "llamacpp")
    if kind in WITH_IMATRIX and not (imatrix or moments):
        raise BadSetting(
            f"{kind} is only good with an imatrix: give --moments FOLDER (`babelpress calibrate` "
            "makes it), or --imatrix FILE."
        )
    if imatrix:
        means(Path(imatrix))


def check_fits(path: Path, means_I: Mapping[str, Any], inputs: Mapping[str, int]) -> int:
    """How many of a model's matrices in blocks an imatrix has.

    `inputs` are those of each. Raises BadSetting for an imatrix of another model: llama.cpp itself
    takes what has the same name, and the plain error for the rest.
    """
    made = "Make one of this model: give --moments FOLDER, or --format imatrix first."
    there = {name: mean_I.size for name, mean_I in means_I.items() if name.startswith("blk.")}
    if other := sorted(set(there) - set(inputs)):
        raise BadSetting(
            f"--imatrix {path} is of another model: it has {other[0]}, which this one has not. "
            f"{made}"
        )
    for name, size in there.items():
        if size != inputs[name]:
            raise BadSetting(
                f"--imatrix {path} is of another model: {name} has {size} inputs there, and "
                f"{inputs[name]} here. {made}"
            )
    if not there:
        raise BadSetting(f"--imatrix {path} has no matrix of this model's blocks. {made}")
    return len(there)


def quantize(
    dense: Path,
    out: Path,
    kind: str,
    imatrix: Path | None,
    threads: int,
    progress: Progress = silent,
) -> None:
    """Quantize a GGUF file into another; who watches is told of every tensor.

    Raises BadRun with what llama.cpp says, and leaves no file then.
    """
    words = map(str, (dense, out, kind, imatrix or "", threads))
    # -P: a llama_cpp.py that lies where the user stands is not what is meant
    command = [sys.executable, "-P", "-m", __name__, *words]
    with TemporaryFile() as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as running:
            assert running.stdout is not None
            for line in running.stdout:
                if found := TOLD.fullmatch(line.decode(errors="replace").strip()):
                    progress(f"quantize {kind}: tensor", int(found[1]), int(found[2]))
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
    if running.returncode or not out.exists():
        out.unlink(missing_ok=True)
        last = said[-1] if said else f"it ended with {running.returncode}"
        raise BadRun(f"llama.cpp's quantizer gave up on {kind}: {last}")


def means(path: Path) -> dict[str, Any]:
    """Mean squared inputs (I) by tensor name in an imatrix.gguf, as llama-quantize makes them.

    They are 1 where no token was counted. Raises BadSetting for a file that is none.
    """
    import numpy as np

    reader = _reader(path)
    found = {each.name: np.asarray(each.data, dtype=np.float32) for each in reader.tensors}
    names = [name.removesuffix(SUMS) for name in found if name.endswith(SUMS)]
    if not names:
        raise BadSetting(f"--imatrix {path} holds no sums of inputs (*{SUMS}): it is no imatrix.")
    made: dict[str, Any] = {}
    for name in names:
        counts = found.get(name + COUNTS)
        if counts is None:
            raise BadSetting(
                f"--imatrix {path} has {name}{SUMS} and no {name}{COUNTS}: it is damaged. Make it "
                "again."
            )
        mean = found[name + SUMS] / np.where(counts > 0, counts, 1)
        made[name] = np.where(counts > 0, mean, 1).astype(np.float32).reshape(-1)
    return made


def datasets(path: Path) -> list[str]:
    """What an imatrix says of its text, a line each; of a path only the last name."""
    field = _reader(path).fields.get("imatrix.datasets")
    return [] if field is None else [str(each).rpartition("/")[2] for each in field.contents()]


def _reader(path: Path) -> Any:
    from babelpress.models import gguf_package as ggufs

    try:
        return ggufs.package().GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:
        raise BadSetting(
            f"--imatrix {path} cannot be read as GGUF. Give the imatrix.gguf that `babelpress "
            "export --format imatrix` or llama-imatrix writes."
        ) from error


# ---- in the process of its own -------------------------------------------------------------


def _main(words: Sequence[str]) -> int:
    import llama_cpp as engine  # type: ignore[import-not-found]

    dense, out, kind, imatrix, threads = words
    said: list[str] = []

    @engine.llama_log_callback
    def log(level: int, text: bytes, _: Any) -> None:
        line = text.decode(errors="replace")
        if level == ERROR or (level == CONTINUED and said):
            said.append(line)
        elif found := LOGGED.match(line):
            print(f"tensor {found[1]} of {found[2]}", flush=True)

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
