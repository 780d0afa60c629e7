"""The command that hands a model over to the engines that run it.

Tested in tests/commands/test_commands.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from babelpress.commands import checks
from babelpress.commands import outcome as o
from babelpress.commands.declared import Model, Offers, Watched, command
from babelpress.commands.given import Pairs
from babelpress.commands.outcome import Outcome, Row
from babelpress.errors import BadSetting
from babelpress.export import FORMATS
from babelpress.runs.places import run_of
from babelpress.system.progress import silent
from babelpress.system.settings import pairs
from babelpress.text.mixtures import OFFERED


@command(rows={"file": "a file that was written", "bytes": "its size"})
def export(
    model: Model,
    *,
    out: Annotated[Path, Parameter(help="A new folder.")],
    format: Annotated[
        str,
        Parameter(name="--format", help=f"{', '.join(FORMATS.names())}."),
        Offers(tuple(FORMATS.names())),
    ],
    moments: Annotated[
        Path | None, Parameter(help="A moments folder of this model, for imatrix or text.")
    ] = None,
    mixture: Annotated[
        str,
        Parameter(
            help="How languages are weighted in imatrix and text; that of the run by default."
        ),
        Offers(OFFERED),
    ] = "",
    against: Annotated[
        Path | None, Parameter(help="Folder with scores of the dense model, for the card.")
    ] = None,
    option: Annotated[
        Sequence[str],
        Parameter(help="NAME=VALUE of the format, as in --option kind=f16; may be repeated."),
        Pairs(example="kind=f16"),
    ] = (),
    progress: Watched = silent,
) -> Outcome:
    """Write a model for an engine: transformers, vLLM, gptqmodel, llama.cpp.

    Example: babelpress export run --format compressed-tensors --out packed
    """
    options = pairs(option, example="kind=f16")
    FORMATS.check_options(format, options)
    if against:
        checks.scores(against)
    _check_read(model, format, moments, mixture, against)
    checks.model(model)
    checks.format(model, format)
    checks.new_folder(out)
    checks.load(progress)
    from babelpress.export import _write

    reads = {"moments": moments, "mixture": mixture, "against": against}
    says, serve = _write.write(model, out, format, **reads, options=options, progress=progress)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    rows: list[Row] = [
        {"file": str(path.relative_to(out)), "bytes": path.stat().st_size} for path in files
    ]
    size = o.size(sum(row["bytes"] for row in rows))
    after = (f"next: {serve}",) if serve else ()
    return Outcome(rows, out, says=(*says, f"{format}: {out}, {size}", *after))


def _check_read(
    model: str, form: str, moments: Path | None, mixture: str, against: Path | None
) -> None:
    """Raise BadSetting for what a format, or a model that is no run, has no use for."""
    weighs = [name for name in FORMATS.names() if FORMATS.facts(name).get("WEIGHS")]
    for flag, given in (("--moments", moments), ("--mixture", mixture)):
        if given and form not in weighs:
            raise BadSetting(
                f"{flag} {given} has no effect on {form}: it is for {' and '.join(weighs)}. Leave "
                "it out."
            )
    if against and not run_of(model):
        raise BadSetting(
            f"--against {against} is for the card of a run, and {model} is none. Leave it out."
        )
