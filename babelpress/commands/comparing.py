"""Commands that hold scores against those of the dense model: compare, gate, report.

Tested in tests/commands/test_commands.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from cyclopts import Parameter

from babelpress.commands import checks
from babelpress.commands import outcome as o
from babelpress.commands.declared import Offers, command
from babelpress.commands.given import COMMAS
from babelpress.commands.outcome import Outcome, Row, Table
from babelpress.errors import BadRun
from babelpress.evals import EVALUATIONS
from babelpress.system.settings import words

if TYPE_CHECKING:
    from babelpress.judge.collapse import Collapse
    from babelpress.judge.compare import Change
    from babelpress.judge.ladders import Ladder

COMPARED = {
    "run": "folder of the run",
    "kind": "summary, language, or collapse: of runs that differ in sparsity or bits alone",
    "name": "the summary (mean, worst, low_resource, high_resource, latin, non_latin, spread, "
    "gap), the tag, or sparsity or bits",
    "language": "canonical tag; of the worst language for the summary worst; else null, as for the "
    "collapse point of all languages together",
    "dense": "score of the dense model; null for a summary",
    "pressed": "score of the run; null for a summary",
    "change": "relative change, 0.05 is 5 %; positive is worse",
    "low": "lower end of its 95 % interval, of a collapse point the milder end; null for none",
    "high": "upper end",
    "p": "two-sided p-value; null for a summary",
    "p_holm": "corrected over languages (Holm); null for a summary",
    "significant": "whether p_holm is under 0.05; null for a summary",
    "documents": "how many were compared; null for a summary",
    "needed": "how many documents it takes before the test can find anything; null for a summary",
    "at_chance": "whether the dense model does no better than guessing; null for a summary",
    "verdict": "worse, better, no significant difference, at chance or, with fewer documents than "
    "needed, too few documents to tell (N; at least M); null for a summary",
    "point": "the largest sparsity, or the fewest bits, of those measured up to which the loss is "
    "at most --max-loss; null for another kind, and where even the mildest loses more",
}
FAILED = {
    "language": "canonical tag of a language that loses too much; worst first",
    **{
        key: COMPARED[key].removesuffix("; null for a summary")
        for key in ("dense", "pressed", "change", "low", "high", "p", "p_holm", "significant")
    },
    "documents": "how many were compared",
    "needed": "how many documents it takes before the test can find anything",
    "at_chance": "false: what is at chance fails no gate",
    "verdict": "worse, better, no significant difference or, with fewer documents than needed, too "
    "few documents to tell (N; at least M)",
}

Dense = Annotated[Path, Parameter(help="Folder with the scores of the dense model.")]
DenseOrSweep = Annotated[
    Path,
    Parameter(help="Folder with the scores of the dense model; or, alone, that of a sweep."),
]
Runs = Annotated[Sequence[Path], Parameter(help="Folders with the scores of pressed models.")]
On = Annotated[str, Parameter(help="The evaluation."), Offers(tuple(EVALUATIONS.names()))]
Languages = Annotated[
    str, Parameter(help="Languages or groups; all that were scored by default."), COMMAS
]
CorpusOf = Annotated[str, Parameter(help="Which corpus's scores, where there are some on several.")]


@command(rows=COMPARED)
def compare(
    dense: DenseOrSweep,
    runs: Runs = (),
    *,
    on: On = "bits_per_byte",
    corpus: CorpusOf = "",
    languages: Languages = "",
    max_loss: Annotated[
        float,
        Parameter(help="Of runs that differ in sparsity or bits: the loss that a language bears."),
    ] = 0.05,
    draws: Annotated[
        int, Parameter(help="Bootstrap draws (0: 2,000, and more for more than 50 languages).")
    ] = 0,
    seed: Annotated[int, Parameter(help="Seed of the draws.")] = 0,
) -> Outcome:
    """Paired change per language of pressed runs against the dense model, with intervals.

    A change is relative, and positive where the run is worse. Summaries come first, then the
    languages, worst first. Where runs differ in sparsity or bits alone, the largest sparsity (or
    the fewest bits) up to which each language loses no more than --max-loss: its collapse point.

    Example: babelpress compare dense run-english run-uniform
    """
    from babelpress.judge import scores, verdicts
    from babelpress.judge.rows import of_collapse, of_comparison

    given = _given(dense, runs, on, corpus, words(languages))
    dense, runs, corpus, tags = given.dense, given.runs, given.corpus, given.languages
    which = scores.the_corpus([dense, *runs], on, corpus)
    rows: list[Row] = []
    tables: list[Table] = []
    says: list[str] = []
    aside: dict[str, None] = {}
    for run, label in zip(runs, verdicts.names(runs), strict=True):
        found = verdicts.against(
            dense, run, on=on, corpus=corpus, languages=tags, draws=draws, seed=seed
        )
        aside |= dict.fromkeys(chain(*verdicts.left_out(dense, on, which[dense], tags, found)))
        own = of_comparison(label, found)
        rows += own
        tables += _tables(own, f"{label} against {dense}: change of {on}, positive is worse")
        says += _predicted(label, verdicts.note_prediction(run, on, which[run], found))
        says += verdicts.at_chance(found, label)
    tables += _together(rows)
    for ladder, points in _points(given, on, max_loss, draws, seed):
        tables.append(_held(ladder, points))
        rows += of_collapse(ladder, points, rows[0])
    return Outcome(rows, tables=tuple(tables), says=(*says, *given.notes), warnings=tuple(aside))


class _Given(NamedTuple):
    """Scored folders on one corpus; `notes` are about runs of a sweep that are not among them."""

    dense: Path
    runs: Sequence[Path]
    corpus: str
    languages: Sequence[str]
    notes: Sequence[str] = ()


def _given(
    dense: Path, runs: Sequence[Path], on: str, corpus: str, languages: Sequence[str]
) -> _Given:
    """What is compared: the folders that are named, or those of a sweep, where it is alone."""
    from babelpress.judge import scores
    from babelpress.sweeps import found

    notes: list[str] = []
    if not runs:
        swept = found.find(dense, on, languages)
        dense, runs = swept.dense, swept.runs
        languages, notes = languages or swept.languages, swept.notes(on)
    corpus = scores.common_corpus([dense, *runs], on, corpus)
    return _Given(dense, runs, corpus, languages, notes)


def _predicted(run: str, noted: Mapping[str, Any] | None) -> list[str]:
    """A line about predicted damage beside what was measured, where there is such a thing."""
    from babelpress.judge.verdicts import ranked

    if noted is None:
        return []
    return [
        f"{run}: predicted damage ranks the {noted['languages']} languages with a Spearman "
        f"correlation of {noted['spearman']:.2f}: {ranked(noted['spearman'])} (1: in the order "
        "measured here; 0: no order; -1: the wrong way round)."
    ]


def _points(
    given: _Given, on: str, max_loss: float, draws: int, seed: int
) -> "list[tuple[Ladder, Collapse]]":
    """The collapse points of every ladder that some of the runs are."""
    from babelpress.judge import ladders, verdicts

    return [
        (
            ladder,
            verdicts.collapsed(
                given.dense,
                [given.runs[rung.run] for rung in ladder.rungs],
                on=on,
                corpus=given.corpus,
                languages=given.languages,
                max_loss=max_loss,
                draws=draws,
                seed=seed,
            ),
        )
        for ladder in ladders.find(given.runs)
    ]


def _held(ladder: "Ladder", found: "Collapse") -> Table:
    """The collapse points of one ladder, of the language that collapses first first."""
    rows = [
        {
            "name": o.spoken(point.language) if point.language else "every language",
            "point": o.NOTHING if point.at_chance else ladder.said(point.holds),
            "interval": "" if point.at_chance else ladder.between(point.low, point.high),
            "note": ladder.note(point.beyond, at_chance=point.at_chance),
        }
        for point in (found.every, *found.first_lost())
    ]
    columns = (
        o.key(o.word("name", "name")),
        o.Column(ladder.axis, lambda row: row["point"], number=True),
        o.Column("95 % interval", lambda row: row["interval"], number=True),
        o.word("note", "note"),
    )
    most = f"{ladder.most} up to which each language loses at most {100 * found.max_loss:g} %"
    return Table(columns, rows, f"{ladder.label}: {most}")


def _together(rows: Sequence[Row]) -> list[Table]:
    """A line for every run, where there are several."""
    by_run: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["kind"] == "summary":
            by_run.setdefault(row["run"], {})[row["name"]] = row
    if len(by_run) < 2:
        return []
    lines = [
        {"run": run, "language": found["worst"]["language"]}
        | {name: row["change"] for name, row in found.items()}
        for run, found in by_run.items()
    ]
    columns = (
        o.key(o.word("run", "run")),
        o.change("mean", "mean"),
        o.change("worst", "worst"),
        o.beside(o.name()),
        o.share("spread", "spread"),
        o.share("gap", "worst − best"),
    )
    return [Table(columns, lines, "all runs; spread is the standard deviation over languages")]


def _tables(rows: Sequence[Row], title: str) -> list[Table]:
    summaries = [row for row in rows if row["kind"] == "summary"]
    changes = [row for row in rows if row["kind"] == "language"]
    return [
        Table((o.Column("summary", o.summary), o.change(), o.interval()), summaries, title),
        Table((o.key(o.name()), o.change(), o.interval(), o.word("verdict", "verdict")), changes),
    ]


@command(rows=FAILED)
def gate(
    run: Annotated[Path, Parameter(help="The pressed run, scored.")],
    *,
    against: Dense,
    max_loss: Annotated[
        float, Parameter(help="Largest relative loss allowed (0.05 is 5 %).")
    ] = 0.05,
    confident: Annotated[
        bool, Parameter(help="Judge the upper limit of the interval instead of the estimate.")
    ] = False,
    on: On = "bits_per_byte",
    corpus: CorpusOf = "",
    languages: Languages = "",
) -> Outcome:
    """Exit with 1 when any language loses more than allowed.

    Example: babelpress gate run --against dense --max-loss 0.05
    """
    from babelpress.judge import scores, verdicts
    from babelpress.judge.compare import gate as failing

    found = verdicts.against(against, run, on=on, corpus=corpus, languages=words(languages))
    which = scores.the_corpus([against, run], on, corpus)[against]
    aside = verdicts.left_out(against, on, which, words(languages), found)
    if aside.unscored:
        raise BadRun(
            f"{' '.join(aside.unscored)} Evaluate both models in it, or leave it out of "
            "--languages: a gate lets nothing pass that was not measured."
        )
    bad = failing(found, max_loss, confident)
    rows = [{**asdict(change), "verdict": change.verdict} for change in bad]
    columns = (
        o.name(),
        o.number("dense", "dense"),
        o.number("pressed", "pressed"),
        o.change(),
        o.interval(),
    )
    judged = "upper limit of the interval" if confident else "estimate"
    known = sum(not change.at_chance for change in found.changes)
    if not known:
        raise BadRun(f"no language can be judged. {' '.join(verdicts.at_chance(found))}")
    says = (
        f"{'failed' if bad else 'passed'}: {len(bad)} of {known} languages lose more "
        f"than {100 * max_loss:g} % against {against} ({judged}).",
        *_unsaid(found.changes),
        *verdicts.at_chance(found),
    )
    tables = (Table(columns, rows),) if bad else ()
    warned = tuple(aside.apart)
    return Outcome(rows, tables=tables, says=says, exit_code=1 if bad else 0, warnings=warned)


def _unsaid(changes: "Sequence[Change]") -> list[str]:
    """What a gate cannot know: whether what it judged is more than chance."""
    from babelpress.judge.compare import untold

    few = [change for change in changes if change.too_few]
    if not few:
        return []
    return [
        f"{untold(few)} whether that is more than chance in {len(few)} of {len(changes)} "
        "languages: evaluate on more."
    ]


@command(rows={"report": "path of the file", "bytes": "its size"})
def report(
    dense: DenseOrSweep,
    runs: Runs = (),
    *,
    out: Annotated[Path, Parameter(help="The file.")] = Path("report.html"),
    on: On = "bits_per_byte",
    corpus: CorpusOf = "",
    languages: Languages = "",
    title: Annotated[str, Parameter(help="Title of the page.")] = "",
    insight: Annotated[
        Path | None,
        Parameter(
            help="Results of `babelpress insight` to show too; a run's own are shown anyway."
        ),
    ] = None,
) -> Outcome:
    """One offline HTML file: what each calibration did to each language.

    Of a sweep all runs with scores, by method, in the order of the sweep.

    Example: babelpress report dense run-english run-uniform --out report.html
    """
    checks.file(out)
    from babelpress.report import write_report
    from babelpress.report.gather import report_input
    from babelpress.sweeps import found

    notes: list[str] = []
    if not runs:
        swept = found.find(dense, on, words(languages))
        dense, runs = swept.dense, swept.runs
        languages, notes = languages or ",".join(swept.languages), swept.notes(on)
    given = report_input(
        dense,
        runs,
        on=on,
        corpus=corpus,
        languages=words(languages),
        title=title,
        notes=notes,
        insight=insight,
    )
    path = write_report(given, out)
    rows: list[Row] = [{"report": str(path), "bytes": path.stat().st_size}]
    return Outcome(rows, path, says=(f"report: {path}", *notes), warnings=given.damaged)
