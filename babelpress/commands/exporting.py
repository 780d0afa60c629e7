"""The command that hands a model over to the engines that run it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from babelpress.commands import asked
from babelpress.commands.outcome import Outcome, Progress, Row, silent


def export(
    model: str,
    *,
    out: Path,
    format: Annotated[str, Parameter(name="--format")],
    moments: Path | None = None,
    mixture: str = "",
    against: Path | None = None,
    option: Sequence[str] = (),
    progress: Progress = silent,
) -> Outcome:
    """Write a model for an engine: transformers, vLLM, gptqmodel, llama.cpp.

    Example: babelpress export run --format compressed-tensors --out packed

    Args:
        model: A finished run; a model too for safetensors, gguf, imatrix and text.
        out: A new folder.
        format: compressed-tensors (vLLM, transformers), gptq (vLLM, gptqmodel), gguf (llama.cpp),
            imatrix (llama.cpp's quantizer), safetensors (dense), text (calibration text).
        moments: A moments folder of this model, which imatrix needs.
        mixture: How languages are weighted in imatrix and text; that of the run by default.
        against: Folder with scores of the dense model, for the card.
        option: NAME=VALUE of the format, as in --option kind=f16; may be repeated.

    Returns:
        file: a file that was written
        bytes: its size
    """
    from babelpress import exporting

    says = exporting.write(
        model,
        out,
        format,
        moments=moments,
        mixture=mixture,
        against=against,
        options=asked.options(option),
        progress=progress,
    )
    files = sorted(path for path in out.rglob("*") if path.is_file())
    rows: list[Row] = [
        {"file": str(path.relative_to(out)), "bytes": path.stat().st_size} for path in files
    ]
    size = sum(row["bytes"] for row in rows) / 2**20
    return Outcome(rows, out, says=(*says, f"{format}: {out}, {size:.1f} MiB"))
