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
from babelpress.judge.settings import EvaluationSettings
from babelpress.system.progress import silent

if TYPE_CHECKING:
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
    device: Device = "cpu",
    progress: Watched = silent,
) -> Outcome:
    """Score a model in every language, keeping the tally of every document.

    Example: babelpress eval babel-mini --corpus "flores?src=flores" --out dense
    """
    from babelpress.runs.places import run_of

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
    opened = _open(model, device, generate)
    seen = _ranges(opened, model, moments, mixture) if asks else None
    with _kept(keep) as here:
        rows = score(opened, here, asked, memory_mb=memory_mb, ranges=seen, progress=progress)
        rows = [{**row, "parts": _parts(here, row)} for row in rows]
        if generate:
            write(opened, here, asked.corpus, asked.languages, tokens=generate, progress=progress)
    return _outcome(rows, asked.on, keep, tuple(unread))


def _outcome(
    rows: list[Row], on: Sequence[str], keep: Path | None, unread: tuple[str, ...]
) -> Outcome:
    said = [line for name in on for line in (*_machine(rows, name), *evals.notes(name))]
    tables = (*_scores(rows), *_beside(rows))
    return Outcome(rows, keep, tables, (*said, _where(keep)), warnings=unread)


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
