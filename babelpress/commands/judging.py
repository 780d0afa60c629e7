"""The command that measures: eval.

Tested in tests/commands/test_commands.py.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from babelpress import evals
from babelpress.commands import checks
from babelpress.commands import outcome as o
from babelpress.commands.declared import Device, Model, Watched, command
from babelpress.commands.outcome import Outcome, Row, Table
from babelpress.errors import BadSetting
from babelpress.evals import HELD_AGAINST
from babelpress.judge.evidence import ALPHA
from babelpress.judge.settings import EvaluationSettings, PromiseSettings
from babelpress.system.progress import silent

if TYPE_CHECKING:
    from babelpress.judge.until import Promise
    from babelpress.models.open import Opened

SCORED = {
    "model": "as it was asked for",
    "language": "canonical tag",
    "evaluation": "its name",
    "corpus": "the corpus that it was done on",
    "metric": "what its value is",
    "value": "numerator over denominator",
    "numerator": "summed over documents",
    "denominator": "summed over documents",
    "documents": "how many",
    "seed": "of the evaluation; null where it draws nothing",
    "chance": "what guessing finds; null where there is no such thing",
    "made_with": "what the value hangs on besides model and text, by name: versions, or processor "
    "and threads of a time; null where there is no such thing",
    "parts": "what stands beside the value, by name: quartiles of a time, say; null without any",
    "until": "where only the first documents are scored, why: the promise, how many there are, and "
    "what is known; null where all are",
    "majority": "what the answer that is right most often finds; null where there is no such thing",
}


@command(rows=SCORED)
def evaluate(
    model: Model,
    *,
    asked: EvaluationSettings,
    out: Annotated[
        Path | None,
        Parameter(
            help="Folder for results.jsonl and tallies/, which compare, gate and report read. A "
            "run keeps its own by default; of another model nothing is kept."
        ),
    ] = None,
    memory_mb: Annotated[
        int, Parameter(help="MiB of logits, or comparisons, in memory at once, at most.")
    ] = 256,
    moments: Annotated[
        Path | None, Parameter(help="What calibration saw, for range; a run keeps its own.")
    ] = None,
    mixture: Annotated[
        str,
        Parameter(help="Only languages with a share in it, of those of the moments; else all."),
    ] = "",
    generate: Annotated[
        int,
        Parameter(
            help="Also keep what the model writes after the beginning of a test document of every "
            "language: so many tokens, 40 say. A report shows it before and after pressing."
        ),
    ] = 0,
    promise: PromiseSettings,
    device: Device = "cpu",
    progress: Watched = silent,
) -> Outcome:
    """Score a model in every language, keeping the tally of every document.

    With --until-known a run is scored in rounds, on documents drawn alike for all runs, until it is
    known (at 95 %) whether any language loses more than --max-loss against the dense model.

    Example: babelpress eval babel-mini --corpus "flores?src=flores" --out dense
    """
    from babelpress.runs.places import run_of

    asked_of = promise.asked()
    checks.model(model, quantized=True)
    if out:
        checks.folder(out)
    keep = out or run_of(model)
    _check_kept(keep, generate)
    asks = _asks_ranges(model, asked.on, moments, mixture)
    checks.evaluation(asked)
    checks.load(progress)
    from babelpress.judge.evaluate import evaluate as score
    from babelpress.judge.evaluate import wanted_of
    from babelpress.judge.generations import keep as write

    unread = dict.fromkeys(line for each in wanted_of(asked) for line in o.aside(each.texts))
    unread |= dict.fromkeys(asked.set_aside())
    until = _until(asked_of, asked.on, keep)
    opened = _open(model, device, generate)
    seen = _ranges(opened, model, moments, mixture) if asks else None
    with _kept(keep) as here:
        given = {"memory_mb": memory_mb, "ranges": seen, "until": until, "progress": progress}
        rows = score(opened, here, asked, **given)
        rows = [{"until": None, **row, "parts": _parts(here, row)} for row in rows]
        if generate:
            write(opened, here, asked.corpus, asked.languages, tokens=generate, progress=progress)
    return _outcome(rows, asked.on, keep, tuple(unread), until)


def _outcome(
    rows: list[Row],
    on: Sequence[str],
    keep: Path | None,
    unread: tuple[str, ...],
    until: "Promise | None",
) -> Outcome:
    said = [line for name in on for line in (*_machine(rows, name), *evals.notes(name))]
    tables = (*_scores(rows), *_beside(rows))
    if until:
        tables, said = (*tables, _known(until)), [*said, *_answer(until)]
    return Outcome(rows, keep, tables, (*said, _where(keep)), warnings=unread)


def _until(asked: PromiseSettings | None, on: Sequence[str], keep: Path | None) -> "Promise | None":
    """Who says when enough is scored. Raises BadSetting where that cannot be asked of these."""
    from babelpress.judge import until

    if asked is None:
        return None
    if len(on) > 1 or not keep:
        wrong = f"is of one evaluation, and --on names {', '.join(on)}"
        raise BadSetting(
            f"--until-known {wrong if len(on) > 1 else 'goes on with what is kept: add --out'}."
        )
    until.check(on[0], Path(asked.against))
    best = Path(asked.beat) if asked.beat else None
    return until.Promise(Path(asked.against), asked.max_loss, asked.at_most, best)


def _known(until: "Promise") -> Table:
    """What is known of each language at the levels of the answer, and from how many documents."""
    rows: list[Row] = []
    for tag, first in until.first.items():
        low, high = first.limits(ALPHA / len(until.first), ALPHA)
        rows.append(
            {
                "language": tag,
                "change": first.loss(),
                "low": low,
                "high": high,
                "documents": f"{len(first.pressed_T)} of {len(first.dense_N)}",
                "known": until.known[tag],
            }
        )
    columns = (
        o.key(o.name()),
        o.change(),
        o.change("low", "at least"),
        o.change("high", "at most"),
        o.word("documents", "documents"),
        o.word("known", "promise"),
    )
    rows.sort(key=lambda row: -row["change"])
    return Table(columns, rows, f"change against {until.dense}, positive is worse")


def _answer(until: "Promise") -> list[str]:
    """The answer, and what it took."""
    from babelpress.judge.known import BROKEN, KEPT

    scored = sum(len(each.pressed_T) for each in until.first.values())
    there = sum(len(each.dense_N) for each in until.first.values())
    more = f"more than {100 * until.max_loss:.4g} % against {until.dense}"
    more += f", as the worst-off of {until.beat}" if until.beat else ""
    lost = [tag for tag, word in until.known.items() if word == BROKEN]
    open_ = sum(word not in (BROKEN, KEPT) for word in until.known.values())
    words = f"undecided: of {open_} languages it is not known whether they lose {more}"
    if lost:
        words = f"broken: {', '.join(lost)} lose{'s' if len(lost) == 1 else ''} {more}"
    elif not open_:
        words = f"kept: no language loses {more}"
    return [f"{words}. Known from {scored:,} of {there:,} documents."]


def _parts(folder: Path, row: Row) -> dict[str, float] | None:
    """What an evaluation shows beside a score; None where it shows nothing."""
    from babelpress.judge import scores

    names = evals.shown(row["evaluation"])
    found = scores.sites(folder, row["evaluation"], row["corpus"]) if names else {}
    own = found.get(row["language"], {})
    return {name: own[name] for name in names if name in own} or None


def _beside(rows: Sequence[Row]) -> list[Table]:
    """Tables of what stands beside scores; what has a `beginning: ` shares one with its like."""
    tables = []
    for name in dict.fromkeys(row["evaluation"] for row in rows if row["parts"]):
        own = [row for row in rows if row["evaluation"] == name and row["parts"]]
        groups: dict[str, dict[str, None]] = {}
        for part in (part for row in own for part in row["parts"]):
            groups.setdefault(part.rpartition(": ")[0], {})[part] = None
        for group, parts in groups.items():
            columns = (o.key(o.name()), *map(_part, parts))
            tables.append(Table(columns, own, ", ".join(filter(None, (name, group)))))
    return tables


def _part(name: str) -> o.Column:
    title = name.rpartition(": ")[2]
    return o.Column(title, lambda row: o.rounded(row["parts"].get(name)), number=True)


def _machine(rows: Sequence[Row], name: str) -> list[str]:
    """What times were measured on."""
    if not evals.is_timed(name):
        return []
    made = next(row["made_with"] for row in rows if row["evaluation"] == name)
    parts = ", ".join(f"{key} {value}" for key, value in made.items())
    return [f"{name} was measured with {parts}; times of another machine are not compared with it."]


def _scores(rows: list[Row]) -> tuple[Table]:
    held_against = [key for key in HELD_AGAINST if any(row[key] is not None for row in rows)]
    columns = (
        o.key(o.tag()),
        o.beside(o.name()),
        o.word("metric", "metric"),
        o.key(o.Column("value", _value, number=True)),
        *(o.number(key, key) for key in held_against),
        o.count("documents", "documents"),
    )
    return (Table(columns, rows),)


def _where(kept: Path | None) -> str:
    if kept:
        return f"scores: {kept}/results.jsonl"
    return "nothing was kept: with --out FOLDER scores stay, for compare, gate and report."


def _open(model: str, device: str, generate: int) -> "Opened":
    """A model to be scored, and asked to write so many tokens."""
    from babelpress.judge.generations import check_writes
    from babelpress.runs.open import open_any

    opened = open_any(model, device=device, quantized=True)
    if generate:
        check_writes(opened)
    return opened


def _check_kept(keep: Path | None, generate: int) -> None:
    if generate and not keep:
        raise BadSetting("--generate keeps what a model writes beside its scores: add --out.")


@contextmanager
def _kept(folder: Path | None) -> Iterator[Path]:
    """The folder of scores; without one a place that is gone afterwards."""
    if folder:
        yield folder
        return
    with TemporaryDirectory(prefix="babelpress-") as gone:
        try:
            yield Path(gone) / "scores"
        except KeyboardInterrupt as error:
            lost = "interrupted. Nothing was kept: with --out FOLDER what is done stays."
            raise KeyboardInterrupt(lost) from error


def _ranges(opened: Any, model: str, moments: Path | None, mixture: str) -> Any:
    """What calibration saw: of moments that are named, else of the run."""
    from babelpress.moments.ranges import of_moments
    from babelpress.runs.open import ranges_of
    from babelpress.runs.places import folder_of, origin_of

    opened = replace(opened, name=origin_of(model))
    return of_moments(moments, opened, mixture) if moments else ranges_of(folder_of(model))


def _asks_ranges(model: str, on: Sequence[str], moments: Path | None, mixture: str) -> bool:
    """Whether an evaluation must know what calibration saw. Raises BadSetting where nobody says."""
    from babelpress import evals
    from babelpress.judge.settings import MOMENTS
    from babelpress.runs.places import RANGES, folder_of

    asking = [name for name in on if evals.facts(name).needs_ranges]
    if not asking and (moments or mixture):
        given = "--moments" if moments else "--mixture"
        raise BadSetting(f"{given} has no effect on {', '.join(on)}. Leave it out.")
    if mixture and not moments:
        raise BadSetting(f"--mixture {mixture} is a choice among languages: {MOMENTS}")
    if asking and not moments and not (folder_of(model) / RANGES).exists():
        raise BadSetting(
            f"{asking[0]} must know what calibration saw, and {model} keeps no {RANGES}: {MOMENTS}"
        )
    return bool(asking)


def _value(row: Mapping[str, Any]) -> str:
    """Three decimals, and more where they would show nothing of a small score."""
    value = row["value"]
    decimals = 3 if value == 0 or value >= 0.1 else 2 - math.floor(math.log10(value))
    return f"{value:.{decimals}f}"
