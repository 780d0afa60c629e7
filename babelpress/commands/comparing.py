"""Commands that hold scores against those of the dense model: compare, gate, report.

Tested in tests/commands/test_commands.py.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from babelpress.commands import checks
from babelpress.commands import outcome as o
from babelpress.commands.compared import Asked, compared, folders
from babelpress.commands.declared import Offers, command
from babelpress.commands.given import COMMAS
from babelpress.commands.outcome import Outcome, Row, Table
from babelpress.errors import BadRun
from babelpress.evals import EVALUATIONS
from babelpress.system.settings import words

if TYPE_CHECKING:
    from babelpress.judge.compare import Change

COMPARED = {
    "run": "folder of the run",
    "kind": "summary, language, bucket (with --buckets), ood (with --ood), size, time, or "
    "collapse: of runs that differ in sparsity or bits alone",
    "name": "the summary (mean, worst, low_resource, high_resource, latin, non_latin, spread, "
    "gap), the tag, the size (parameters, nonzero, bytes_dense, bytes_stored, bytes_compressed), "
    "latency (milliseconds a text), sparsity or bits; of a bucket easy, middle or hard; of ood "
    "elsewhere (the loss there) or more (that less the loss here)",
    "language": "canonical tag; of the worst language for the summary worst; else null, as for the "
    "collapse point of all languages together, and a mean over them",
    "dense": "score, size or time of the dense model; null for a summary",
    "pressed": "that of the run; null for a summary",
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

MaxLoss = Annotated[
    float,
    Parameter(help="Of runs that differ in sparsity or bits: the loss that a language bears."),
]

Ood = Annotated[
    str,
    Parameter(
        help="A second corpus that all were scored on, unlike what was trained on: what is lost "
        "there stands beside."
    ),
]


@command(rows=COMPARED)
def compare(
    dense: DenseOrSweep,
    runs: Runs = (),
    *,
    on: On = "bits_per_byte",
    corpus: CorpusOf = "",
    languages: Languages = "",
    ood: Ood = "",
    buckets: Annotated[
        bool,
        Parameter(help="Also the loss on easy, middle and hard documents, by the dense score."),
    ] = False,
    max_loss: MaxLoss = 0.05,
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
    found = folders(dense, runs, on, corpus, words(languages), ood)
    asked = Asked(found, on, ood=ood, buckets=buckets, max_loss=max_loss, draws=draws, seed=seed)
    said = compared(asked)
    return Outcome(
        said.rows,
        tables=tuple(said.tables),
        says=(*said.says, *found.notes),
        warnings=tuple(said.aside),
    )


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
    ood: Ood = "",
    insight: Annotated[
        Path | None,
        Parameter(
            help="Results of `babelpress insight` to show too; a run's own are shown anyway."
        ),
    ] = None,
    max_loss: MaxLoss = 0.05,
    page: Annotated[
        Literal["", "languages", "curves"],
        Parameter(
            help="What the page is about; curves where runs differ in sparsity or bits alone, and "
            "languages else, if not given."
        ),
    ] = "",
) -> Outcome:
    """One offline HTML file: what each calibration did to each language.

    Of a sweep all runs with scores, by method, in the order of the sweep.

    Example: babelpress report dense run-english run-uniform --out report.html
    """
    checks.file(out)
    from babelpress.report import write_report
    from babelpress.report.gather import report_input

    found = folders(dense, runs, on, corpus, words(languages), ood)
    made = report_input(
        found.dense,
        found.runs,
        on=on,
        corpus=found.corpus,
        languages=found.languages,
        title=title,
        notes=found.notes,
        ood=ood,
        insight=insight,
        max_loss=max_loss,
        about=page,
    )
    path = write_report(made, out)
    rows: list[Row] = [{"report": str(path), "bytes": path.stat().st_size}]
    says = (f"report: {path}", *found.notes)
    return Outcome(rows, path, says=says, warnings=made.damaged)
