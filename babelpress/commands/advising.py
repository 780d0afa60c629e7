"""The command that says what to do: advise.

Tested in tests/commands/test_advising.py.
"""

from collections.abc import Sequence
from pathlib import Path
from shlex import join, quote
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from pydantic import BeforeValidator

from babelpress.commands import checks
from babelpress.commands import outcome as o
from babelpress.commands.declared import Device, Model, Watched, command
from babelpress.commands.hands import Hands, check, working
from babelpress.commands.outcome import Outcome, Row, Table
from babelpress.errors import BadSetting
from babelpress.system.progress import Progress, silent
from babelpress.text.settings import CalibrationSettings

if TYPE_CHECKING:
    from babelpress.judge.contest import Difference, Entrant
    from babelpress.sweeps.advice import Advice, Asked

PART = 2  # of the documents half choose
ADVICE = {
    "kind": "round: a way in the last round that it was scored in; proof: on text that chose "
    "nothing; or difference: what the best loses more than the plain way, on that text",
    "name": "the way in words; of a difference worst, mean, or repaired (worst, both repaired)",
    "documents": "documents of each language; null of a difference",
    "language": "canonical tag of the worst language; null of a difference",
    "worst": "relative change in that language against the dense model, 0.05 is 5 %; of a "
    "difference, that in points, 0.01 is one; null with --dry-run",
    "low": "lower end of its 95 % interval",
    "high": "upper end",
    "mean": "mean change over languages; null of a difference",
    "p": "p-value of a difference; null else",
    "best": "whether it is what is advised; null of a difference",
    "run": "its folder; null of a difference, and with --dry-run",
}
EMPTY: Row = dict.fromkeys(ADVICE)

Minutes = Annotated[
    float, Parameter(help="How long to search; the proof comes on top. 0: to the end.")
]
Documents = Annotated[
    int,
    Parameter(help="Test documents of each language (0: all). Half choose, the others prove."),
]


@command(rows=ADVICE)
def advise(
    model: Model,
    *,
    pattern: Annotated[
        str,
        Parameter(help="What shall be pruned, as 0.5 or 2of4. This or --bits."),
        BeforeValidator(str),
    ] = "",
    bits: Annotated[int, Parameter(help="Bits of a weight: quantize instead.")] = 0,
    group: Annotated[
        str, Parameter(help="With --bits: inputs that share a scale."), BeforeValidator(str)
    ] = "128",
    minutes: Minutes = 20.0,
    documents: Documents = 36,
    text: CalibrationSettings,
    out: Annotated[Path, Parameter(help="Folder of the search; a second call goes on.")],
    hands: Hands,
    dry_run: Annotated[bool, Parameter(help="List what comes first, and stop.")] = False,
    device: Device = "cpu",
    progress: Watched = silent,
) -> Outcome:
    """How to prune or quantize this model for these languages, by measurement.

    Methods, mixtures, weighted moments and allocation are narrowed in rounds by what the worst-off
    language loses; the best is held against the plain way (uniform mixture) on text that chose
    nothing, with an interval: where no difference is known, the advice is uniform. Both are
    repaired and compared once more.

    Example: babelpress advise babel-mini --languages sw,hi --pattern 0.5 --tokens 2048 --out advice
    """
    check(hands, device)
    kind, amount = _amount(pattern, bits, group)
    known = checks.search(model, text, out, minutes=minutes, documents=documents)
    checks.load(progress)
    from babelpress.sweeps import advice, parting
    from babelpress.text import mixtures

    chooses, proves = parting.parted(model, known, documents, PART)
    english, prior = parting.has_english(known), mixtures.distribution_of(model).disclosed
    asked = advice.Asked(model, kind, amount, minutes, known, chooses, proves, english, bool(prior))
    if dry_run:
        return _listed(asked, out)
    return _advised(asked, out, hands, device, progress)


def _amount(pattern: str, bits: int, group: str) -> tuple[str, dict[str, Any]]:
    """The kind of step, and how much it takes. Raises BadSetting for both or none."""
    if bool(pattern) == bool(bits):
        raise BadSetting(
            "--pattern says what to prune, as 0.5, and --bits how many to keep, as 4. Give one."
        )
    if pattern:
        return "prune", {"pattern": str(pattern)}
    return "quantize", {"bits": bits, "group": str(group)}


def _advised(asked: "Asked", out: Path, hands: Hands, device: str, progress: Progress) -> Outcome:
    from babelpress.sweeps.advice import Advise
    from babelpress.sweeps.setup import Setup

    where = out.absolute()
    setup = Setup(where, str(where / "results"), device, keep_models=True)
    with working(hands, setup, device, progress) as doing:
        found = Advise(asked, setup, doing, progress).do()
    advised = found.best if found.known else found.plain
    rounds = [
        _row("round", each.arm.label, each.entrant, each.folder, best=each.arm == advised)
        for each in sorted(found.standings, key=lambda s: (-s.documents, s.entrant.worst))
    ]
    proofs = [
        _row("proof", each.label, each.entrant, each.folder, best=each.arm == advised)
        for each in found.proofs
    ]
    named = {"worst": found.worst, "mean": found.mean, "repaired": found.repaired}
    differences = [_difference(name, each) for name, each in named.items() if each]
    columns = (
        o.key(o.word("name", "way")),
        o.count("documents", "documents"),
        o.change("mean", "mean"),
        o.key(o.change("worst", "worst")),
        o.interval(),
        o.name(),
    )
    tables = (
        Table(columns, rounds, "each in the last round that it was scored in\n"),
        Table(columns, proofs, "\non text that chose nothing\n"),
    )
    says = (
        *(f"note: {line}" for line in found.notes),
        *_said(found),
        _next(asked, found),
    )
    return Outcome([*rounds, *proofs, *differences], out, tables, says)


def _row(kind: str, name: str, found: "Entrant", run: Path, *, best: bool) -> Row:
    low, high = found.interval
    return {
        **EMPTY,
        "kind": kind,
        "name": name,
        "documents": found.documents,
        "language": found.language,
        "worst": found.worst,
        "low": low,
        "high": high,
        "mean": found.mean,
        "best": best,
        "run": str(run),
    }


def _difference(name: str, found: "Difference") -> Row:
    values = {"worst": found.value, "low": found.low, "high": found.high, "p": found.p}
    return {**EMPTY, "kind": "difference", "name": name, **values}


def _said(found: "Advice") -> list[str]:
    """What to do, and how well it is known."""
    worst, plain = found.worst, found.plain.label
    if worst is None:
        lost = f" {found.best.label} did, and could not be proved." * (found.best != found.plain)
        return [f"advice: {plain}.{lost or ' Nothing that was tried did better.'}"]
    points = f"{_points(worst)} in the worst language on text that chose nothing"
    if not found.known:
        return [
            f"advice: {plain}. No difference is known: {found.best.label} did best where it was "
            f"chosen, and is {points}.",
            *_repaired(found),
        ]
    return [f"advice: {found.best.label}. It is {points}, beside {plain}.", *_repaired(found)]


def _repaired(found: "Advice") -> list[str]:
    if found.repaired is None:
        return []
    return [f"repaired as long, both: {_points(found.repaired)} in the worst language."]


def _points(found: "Difference") -> str:
    """A difference in points of per cent."""
    value, low, high = (100 * each for each in (found.value, found.low, found.high))
    return f"{value:+.2f} points ({low:+.2f} to {high:+.2f})"


def _next(asked: "Asked", found: "Advice") -> str:
    """The command that does what is advised."""
    arm = found.best if found.known else found.plain
    looks: dict[str, Any] = asked.calibration.model_dump(exclude_defaults=True)
    if own := arm.own(asked.kind, asked.amount).get("calibration.languages"):
        looks["languages"] = own
    words = ["babelpress", asked.kind, asked.model, *arm.flags(asked.amount)]
    for name, value in looks.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag)
        elif name != "weigh":
            said = ",".join(value) if isinstance(value, tuple | list) else str(value)
            words += [flag, said]
    run = next((each.folder for each in found.standings if each.arm == arm), None)
    there = f"   (it lies in {quote(str(run))})" if run else ""
    return f"next: {join([*words, '--out', 'run'])}{there}"


def _listed(asked: "Asked", out: Path) -> Outcome:
    """What the first round would try."""
    from babelpress.sweeps import arms

    some: Sequence[arms.Arm] = arms.first(asked.kind, english=asked.english, prior=asked.prior)
    documents = asked.round(1).documents
    rows = [{**EMPTY, "kind": "round", "name": arm.label, "documents": documents} for arm in some]
    columns = (o.key(o.word("name", "way")), o.count("documents", "documents"))
    says = (
        "what was better than the first of them goes on together, with the mixture measured and "
        "minimax allocation beside it.",
        f"into {out}; nothing was done.",
    )
    return Outcome(rows, out, (Table(columns, rows),), says)
