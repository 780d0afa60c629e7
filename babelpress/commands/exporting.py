"""The command that hands a model over to the engines that run it.

Tested in tests/commands/test_commands.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

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

Type = Annotated[
    str,
    Parameter(
        help="How gguf stores weights: f16, bf16, q8_0, or what llama.cpp's quantizer makes, as "
        "q4_k_m (pip install 'babelpress[llamacpp]'). The same as --option kind=TYPE."
    ),
]
Imatrix = Annotated[
    Path | None, Parameter(help="An imatrix.gguf for that quantizer; --moments makes one.")
]


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
    type: Type = "",
    imatrix: Imatrix = None,
    moments: Annotated[
        Path | None,
        Parameter(help="A moments folder of this model, for imatrix, text, or --type q4_k_m."),
    ] = None,
    mixture: Annotated[
        str,
        Parameter(help="How languages are weighted with --moments; that of the run by default."),
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
    options = _with(pairs(option, example="kind=f16"), format, type, imatrix)
    FORMATS.check_options(format, options)
    if against:
        checks.scores(against)
    _check_read(model, format, moments, mixture, against)
    _check_weighed(format, options, moments)
    checks.weighed(model, moments, mixture)
    if format == "gguf":
        checks.gguf(options, moments=bool(moments))
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


def _with(options: Mapping[str, Any], form: str, kind: str, imatrix: Path | None) -> dict[str, Any]:
    """Options with those that have a flag of their own.

    Raises BadSetting for a flag that the format has no such option for, or that is given twice.
    """
    found = dict(options)
    if isinstance(found.get("kind"), str):
        found["kind"] = found["kind"].lower()
    known = FORMATS.options(form)
    for flag, name, value in (
        ("--type", "kind", kind.lower()),
        ("--imatrix", "imatrix", str(imatrix or "")),
    ):
        if not value:
            continue
        if name not in known:
            others = [each for each in FORMATS.names() if name in FORMATS.options(each)]
            raise BadSetting(
                f"{flag} {value} has no effect on {form}: it is for {' and '.join(others)}. Leave "
                "it out."
            )
        if found.setdefault(name, value) != value:
            raise BadSetting(f"{flag} {value} and --option {name}={found[name]} say two things.")
    if imatrix and not imatrix.is_file():
        raise BadSetting(
            f"--imatrix {imatrix} is no file. Make one with `babelpress export --format imatrix`, "
            "or give --moments FOLDER."
        )
    return found


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


def _check_weighed(form: str, options: Mapping[str, Any], moments: Path | None) -> None:
    """Raise BadSetting for moments where the type that is asked for weighs no errors by them."""
    kinds = FORMATS.facts(form).get("ONLY_WITH", {}).get("imatrix", {}).get("kind", ())
    kind = {**FORMATS.options(form), **options}.get("kind")
    if moments and kinds and kind not in kinds:
        raise BadSetting(
            f"--moments {moments} is for what llama.cpp quantizes, as --type {kinds[0]}, and has "
            f"no effect on {kind}. Leave it out."
        )
