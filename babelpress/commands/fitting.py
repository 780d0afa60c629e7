"""The command that searches: fit.

Tested in tests/commands/test_fitting.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import BeforeValidator

from babelpress.commands import checks
from babelpress.commands import outcome as o
from babelpress.commands.declared import Device, Model, Offers, Watched, command
from babelpress.commands.hands import Hands, check, working
from babelpress.commands.outcome import Outcome, Row, Table
from babelpress.errors import BabelpressError, BadSetting
from babelpress.system.progress import Progress, silent
from babelpress.text.settings import CalibrationSettings

if TYPE_CHECKING:
    from babelpress.steps._kind import Estimate
    from babelpress.sweeps.candidates import Asked, Plan
    from babelpress.sweeps.search import Candidate, Fitted

ENGINES = ("llama.cpp", "transformers", "vllm")
FIT = {
    "kind": "candidate, or proof: of the run that was chosen, on text that chose nothing",
    "name": "of a candidate what was done, in words; of a proof mean, worst, or the tag",
    "language": "canonical tag; of the worst language for a candidate and for worst; else null",
    "change": "relative change against the dense model, 0.05 is 5 %; positive is worse; of a "
    "candidate that of its worst language; null with --dry-run",
    "low": "lower end of its 95 % interval",
    "high": "upper end",
    "mean": "of a candidate, the mean change over languages; null else",
    "foretold": "bytes that a candidate was foretold to come to; null of a proof",
    "stored": "bytes of its packed weights; null of a proof, and with --dry-run",
    "usual": "whether it is what is done mostly: the whole model, calibrated on English; null of a "
    "proof",
    "run": "its folder; null with --dry-run",
}
EMPTY: Row = dict.fromkeys(FIT)


Size = Annotated[
    str,
    Parameter(
        help="Bytes of the folder that the program loads, tokenizer and all: 150MB, or 30% of the "
        "dense one."
    ),
    BeforeValidator(str),  # a number of bytes is a size too
]
Program = Annotated[str, Parameter(help=f"The program: {', '.join(ENGINES)}."), Offers(ENGINES)]
MaxLoss = Annotated[float, Parameter(help="What no language may lose more than (0.05 is 5 %).")]
Minutes = Annotated[
    float, Parameter(help="How long to search; scoring the best comes on top. 0: to the end.")
]
Documents = Annotated[
    int,
    Parameter(help="Test documents of each language (0: all). A third choose, the others prove."),
]


@command(rows=FIT)
def fit(
    model: Model,
    *,
    size: Size,
    engine: Program = "transformers",
    max_loss: MaxLoss = 0.05,
    minutes: Minutes = 60.0,
    documents: Documents = 36,
    text: CalibrationSettings,
    out: Annotated[Path, Parameter(help="Folder of the search; a second call goes on.")],
    hands: Hands,
    dry_run: Annotated[
        bool, Parameter(help="List the candidates, with time, memory and disk, and stop.")
    ] = False,
    device: Device = "cpu",
    progress: Watched = silent,
) -> Outcome:
    """Languages and a size in, a model and its proof out.

    Chains of trim, shrink and quantize that come to the size are pressed and scored; the best are
    repaired; what loses least in its worst language is scored beside the dense model on text that
    chose nothing, and exported. The exit code is 1 where a language loses more than --max-loss.

    Example: babelpress fit babel-mini --languages sw,hi --size 50% --tokens 2048 --out fitted
    """
    check(hands, device)
    if engine not in ENGINES:
        raise BadSetting(f"--engine {engine} is none of {', '.join(ENGINES)}.")
    least = {"max_loss": max_loss, "minutes": minutes, "documents": documents}
    known = checks.search(model, text, out, **least)
    if engine == "llama.cpp":
        checks.gguf({}, moments=False)
    checks.load(progress)
    from babelpress.sweeps import candidates

    asked = candidates.Asked(model, str(size), engine, max_loss, minutes, documents, known)
    plan = candidates.prepare(asked, progress)
    if dry_run:
        return _listed(asked, plan, out, device)
    return _fitted(asked, plan, out, hands, device, progress)


def _fitted(
    asked: "Asked", plan: "Plan", out: Path, hands: Hands, device: str, progress: Progress
) -> Outcome:
    from babelpress.sweeps.search import Search
    from babelpress.sweeps.setup import Setup

    where = out.absolute()
    setup = Setup(where, str(where / "results"), device, keep_models=True)
    with working(hands, setup, device, progress) as doing:
        found = Search(asked, plan, setup, doing, progress).do()
    pages = _pages(found, plan, where)
    rows = [*map(_row, found.candidates), *_proof(found, where)]
    columns = (
        o.key(o.word("name", "candidate")),
        o.Column("stored", lambda row: o.size(row["stored"]), number=True),
        o.change("mean", "mean"),
        o.key(o.change("change", "worst")),
        o.key(o.name()),
        o.interval(),
    )
    tried = [row for row in rows if row["kind"] == "candidate"]
    proved = [row for row in rows if row["kind"] == "proof"]
    shown = (o.key(o.word("name", "proof")), o.key(o.change()), o.interval(), o.name())
    ordered = sorted(tried, key=lambda row: row["change"])
    tables = (
        Table(columns, ordered, f"candidates, on {plan.chooses.documents} documents a language\n"),
        Table(shown, proved, f"\nthe best, on {_apart(plan)}\n"),
    )
    says = (
        *(f"note: {line}" for line in found.notes),
        *_promise(asked, plan, found),
        *(f"page: {page}" for page in pages),
        f"exported: {where / 'exported'}, {o.size(found.bytes)}",
        *([f"next: {found.serve}"] if found.serve else []),
    )
    return Outcome(rows, out, tables, says, exit_code=1 if found.failed else 0)


def _apart(plan: "Plan") -> str:
    return f"{plan.proves.documents} documents a language that chose nothing"


def _row(each: "Candidate") -> Row:
    return {
        **EMPTY,
        "kind": "candidate",
        "name": each.label,
        "language": each.worst.language,
        "change": each.worst.value,
        "low": each.worst.low,
        "high": each.worst.high,
        "mean": each.mean.value,
        "foretold": each.way.foretold,
        "stored": each.stored,
        "usual": each.way.usual,
        "run": str(each.folder),
    }


def _proof(found: "Fitted", out: Path) -> list[Row]:
    common = {**EMPTY, "kind": "proof", "run": str(out / "best")}
    summaries = [each for each in found.proof.summaries if each.name in ("mean", "worst")]
    return [
        *(
            {
                **common,
                "name": each.name,
                "language": each.language,
                "change": each.value,
                "low": each.low,
                "high": each.high,
            }
            for each in summaries
        ),
        *(
            {
                **common,
                "name": each.language,
                "language": each.language,
                "change": each.change,
                "low": each.low,
                "high": each.high,
            }
            for each in found.proof.changes
        ),
    ]


def _promise(asked: "Asked", plan: "Plan", found: "Fitted") -> list[str]:
    """Whether it is kept, and where not which sizes are nearest that keep it."""
    said = f"{100 * asked.max_loss:g} %"
    chosen = f"chosen: {found.best.label}, {o.size(found.bytes)} of at most {o.size(plan.size)}"
    if not found.failed:
        high = max(found.proof.changes, key=lambda each: each.high)
        upper = f"{o.spoken(high.language)} up to {o.signed(high.high)}"
        return [f"{chosen}; no language loses more than {said} (estimates; intervals: {upper})."]
    names = ", ".join(o.spoken(each.language) for each in found.failed)
    broken = f"{chosen}; more than {said} is lost in {names}."
    if not found.nearest:
        return [broken, f"no candidate that was tried keeps to {said}: give a larger --size."]
    near = "; ".join(f"{each.label}, {o.size(each.stored)} packed" for each in found.nearest[:3])
    return [broken, f"nearest that keep to it, on the text that chose: {near}."]


def _pages(found: "Fitted", plan: "Plan", out: Path) -> list[Path]:
    """A page with every candidate, size against worst loss; and one of the proof."""
    from babelpress.report import write_report
    from babelpress.report.gather import report_input
    from babelpress.sweeps.search import BEST, PROOF

    folders = [each.folder for each in found.candidates]
    every = report_input(
        found.dense,
        folders,
        on=plan.on,
        title="What every candidate costs each language",
        notes=[f"These scores chose: {plan.chooses.documents} documents a language."],
        about="languages",
    )
    best = report_input(
        out / PROOF,
        [out / BEST],
        on=plan.on,
        title=f"The best of {len(folders)} candidates: {found.best.label}",
        notes=[f"Scores are of {_apart(plan)}."],
    )
    return [write_report(every, out / "report.html"), write_report(best, out / "proof.html")]


# ---- before it is done ---------------------------------------------------------------------


def _listed(asked: "Asked", plan: "Plan", out: Path, device: str) -> Outcome:
    """What would be tried, and what that takes."""
    rows = [
        {
            **EMPTY,
            "kind": "candidate",
            "name": way.chain.label,
            "foretold": way.foretold,
            "usual": way.usual,
        }
        for way in plan.ways
    ]
    columns = (
        o.key(o.word("name", "candidate")),
        o.Column("foretold", lambda row: o.size(row["foretold"]), number=True),
        o.Column("usual", lambda row: "usual" if row["usual"] else ""),
    )
    says = [f"note: {line}" for line in plan.notes]
    says += _costs(asked, plan, out, device)
    says.append(f"into {out}; nothing was done.")
    size = f"at most {o.size(plan.size)}, of {o.size(plan.dense)} dense"
    return Outcome(rows, out, (Table(columns, rows, f"{size}\n"),), tuple(says))


def _costs(asked: "Asked", plan: "Plan", out: Path, device: str) -> Sequence[str]:
    """Time, memory and disk of all candidates, from trying the first block of one of each kind.

    What others of the same steps take differs little beside what is not known.
    """
    from babelpress.runs.estimate import estimate
    from babelpress.sweeps.candidates import recipe_of

    near = next(parent for parent in out.absolute().parents if parent.exists())
    seconds, disk, memory, said = 0.0, 0, 0, []
    known: dict[tuple[str, ...], Sequence[Estimate]] = {}
    for way in plan.ways:
        try:
            made = recipe_of(asked, plan, way)
            kinds = tuple(step.kind for step in made.steps)
            steps = known.get(kinds) or estimate(made, device=device, near=near)
        except BabelpressError as error:
            said.append(f"note: {way.chain.label} cannot be done: {error}")
            continue
        known[kinds] = steps
        seconds += sum(step.seconds for step in steps)
        disk += max(step.disk_bytes for step in steps)
        memory = max(memory, *(step.memory_bytes for step in steps))
    limit = f" of at most {asked.minutes:g}" if asked.minutes else ""
    return [
        *said,
        f"pressing all: about {seconds / 60:.1f} minutes{limit}, {memory / 2**30:.2f} GiB of "
        f"memory and {o.size(disk)} of disk, where weights of all stay; scoring and repairing come "
        "on top.",
    ]
