"""What compare finds: which folders are meant, and of every run all that stands in its rows.

Tested in tests/commands/test_comparing.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from babelpress.commands import tabled
from babelpress.commands.outcome import Row, Table

if TYPE_CHECKING:
    from babelpress.judge.collapse import Collapse
    from babelpress.judge.ladders import Ladder

NO_THIRDS = (
    "{}: {} gives documents no order of easy and hard: they are right or wrong, fewer than nine, "
    "or parts of a whole."
)


@dataclass(frozen=True, slots=True)
class Folders:
    """Scored folders on one corpus; `notes` are about runs of a sweep that are not among them.

    `words` say what each run is where its name does not: those of a sweep go by fingerprints.
    """

    dense: Path
    runs: Sequence[Path]
    corpus: str
    languages: Sequence[str]
    notes: Sequence[str] = ()
    words: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What is compared, and how."""

    folders: Folders
    on: str
    ood: str
    buckets: bool
    max_loss: float
    draws: int
    seed: int

    @property
    def common(self) -> dict[str, Any]:
        """What every part of it takes."""
        found = self.folders
        return {
            "on": self.on,
            "corpus": found.corpus,
            "languages": found.languages,
            "draws": self.draws,
            "seed": self.seed,
        }


@dataclass(slots=True)
class Said:
    """Rows, tables and lines as they come; `aside` are languages that are in no comparison."""

    rows: list[Row] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    says: list[str] = field(default_factory=list)
    aside: dict[str, None] = field(default_factory=dict)


def folders(
    dense: Path,
    runs: Sequence[Path],
    on: str,
    corpus: str,
    languages: Sequence[str],
    ood: str = "",
) -> Folders:
    """The folders that are named, or those of a sweep, where it is alone.

    Raises BadRun where there are none, or where it is not clear on which corpus.
    """
    from babelpress.judge import scores
    from babelpress.report import twins
    from babelpress.runs import manifest
    from babelpress.sweeps import found

    notes, told = [], []
    if not runs:
        swept = found.find(dense, on, languages, corpus)
        dense, runs = swept.dense, swept.runs
        languages, notes = languages or swept.languages, swept.notes(on)
        told = twins.apart([manifest.read(run).recipes for run in runs])
    if ood and not corpus:  # of two corpora the other one is meant
        there = {name for each in scores.in_common([dense, *runs], on) for name in each.values()}
        corpus = next(iter(there - {ood})) if len(there - {ood}) == 1 else ""
    corpus = scores.common_corpus([dense, *runs], on, corpus)
    return Folders(dense, runs, corpus, languages, notes, told)


def compared(asked: Asked) -> Said:
    """Every run against the dense model, then all of them together."""
    from babelpress.judge import verdicts
    from babelpress.judge.rows import of_collapse

    found, said = asked.folders, Said()
    names = verdicts.names(found.runs)
    spoken = dict(zip(names, found.words or names, strict=True))
    for run, label in zip(found.runs, names, strict=True):
        _changes(asked, run, label, spoken[label], said)
        _beyond(asked, run, label, spoken[label], said)
        _costs(asked, run, label, said)
    said.tables += [*tabled.together(said.rows, spoken), *tabled.costs(said.rows, spoken)]
    for ladder, points in _points(asked):
        said.tables.append(tabled.held(ladder, points))
        said.rows += of_collapse(ladder, points, said.rows[0])
    return said


def _changes(asked: Asked, run: Path, label: str, spoken: str, said: Said) -> None:
    """The change of every language."""
    from babelpress.judge import predicted, scores, verdicts
    from babelpress.judge.rows import of_comparison

    dense, on = asked.folders.dense, asked.on
    which = scores.the_corpus([dense, run], on, asked.folders.corpus)
    found = verdicts.against(dense, run, **asked.common)
    left = verdicts.left_out(dense, on, which[dense], asked.folders.languages, found)
    said.aside |= dict.fromkeys([*left.apart, *left.unscored])
    own = of_comparison(label, found)
    said.rows += own
    said.tables += tabled.of_run(
        own, f"{spoken} against {dense}: change of {on}, positive is worse"
    )
    said.says += _predicted(spoken, predicted.note_prediction(run, on, which[run], found))
    said.says += verdicts.at_chance(found, spoken)


def _beyond(asked: Asked, run: Path, label: str, spoken: str, said: Said) -> None:
    """The loss on easy and hard documents, and on another corpus, where that is asked for."""
    from babelpress.judge import verdicts
    from babelpress.judge.rows import of_buckets, of_ood

    dense = asked.folders.dense
    if asked.buckets:
        thirds = verdicts.thirds(dense, run, **asked.common)
        said.rows += of_buckets(label, thirds, said.rows[0])
        said.tables += tabled.thirds(thirds, spoken)
        said.says += [] if thirds else [NO_THIRDS.format(spoken, asked.on)]
    if asked.ood:
        beside = verdicts.ood(dense, run, asked.ood, **asked.common)
        said.rows += of_ood(label, beside, said.rows[0])
        said.tables += tabled.elsewhere(beside, spoken, asked.folders.corpus, asked.ood)


def _costs(asked: Asked, run: Path, label: str, said: Said) -> None:
    """Sizes, and times where both were timed."""
    from babelpress.judge import costs, verdicts
    from babelpress.judge.rows import of_sizes, of_times

    dense = asked.folders.dense
    said.rows += of_sizes(label, costs.of(dense), costs.of(run), said.rows[0])
    found = asked.folders
    times = verdicts.timed(dense, run, asked.on, found.languages, found.corpus)
    said.rows += [of_times(label, times.found, said.rows[0])] if times.found else []
    said.says += [times.why] if times.why else []


def _predicted(run: str, noted: Mapping[str, Any] | None) -> list[str]:
    """A line about predicted damage beside what was measured, where there is such a thing."""
    from babelpress.judge.predicted import SPOKEN, ranked

    if noted is None:
        return []
    said = [
        f"{run}: predicted damage ranks the {noted['languages']} languages with a Spearman "
        f"correlation of {noted['spearman']:.2f}: {ranked(noted['spearman'])} (1: in the order "
        "measured here; 0: no order; -1: the wrong way round)."
    ]
    if of_loss := noted.get("of_loss"):
        each = ", ".join(f"{SPOKEN[by]} {value:.2f}" for by, value in of_loss.items())
        said.append(f"{run}: what was predicted of the loss itself ranks them with {each}.")
    return said


def _points(asked: Asked) -> "list[tuple[Ladder, Collapse]]":
    """The collapse points of every ladder that some of the runs are."""
    from babelpress.judge import ladders, verdicts

    runs = asked.folders.runs
    return [
        (
            ladder,
            verdicts.collapsed(
                asked.folders.dense,
                [runs[rung.run] for rung in ladder.rungs],
                max_loss=asked.max_loss,
                **asked.common,
            ),
        )
        for ladder in ladders.find(runs)
    ]
