"""Commands that measure and judge: eval, compare, gate, report.

Tested in tests/commands/test_commands.py.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from babelpress.commands import checks
from babelpress.commands import outcome as o
from babelpress.commands.declared import Device, Model, Offers, Watched, command
from babelpress.commands.given import COMMAS
from babelpress.commands.outcome import Outcome, Row, Table
from babelpress.errors import BadRun, BadSetting
from babelpress.evals import EVALUATIONS, HELD_AGAINST
from babelpress.judge.settings import EvaluationSettings
from babelpress.system.progress import silent
from babelpress.system.settings import words

if TYPE_CHECKING:
    from babelpress.judge.compare import Change

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
    "majority": "what the answer that is right most often finds; null where there is no such thing",
}
COMPARED = {
    "run": "folder of the run",
    "kind": "summary or language",
    "name": "the summary (mean, worst, low_resource, high_resource, latin, non_latin, spread), or "
    "the tag",
    "language": "canonical tag; of the worst language for the summary worst; else null",
    "dense": "score of the dense model; null for a summary",
    "pressed": "score of the run; null for a summary",
    "change": "relative change, 0.05 is 5 %; positive is worse",
    "low": "lower end of its 95 % interval",
    "high": "upper end",
    "p": "two-sided p-value; null for a summary",
    "p_holm": "corrected over languages (Holm); null for a summary",
    "significant": "whether p_holm is under 0.05; null for a summary",
    "documents": "how many were compared; null for a summary",
    "needed": "how many documents it takes before the test can find anything; null for a summary",
    "at_chance": "whether the dense model does no better than guessing; null for a summary",
    "verdict": "worse, better, no significant difference, at chance or, with fewer documents than "
    "needed, too few documents to tell (N; at least M); null for a summary",
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
Runs = Annotated[Sequence[Path], Parameter(help="Folders with the scores of pressed models.")]
On = Annotated[str, Parameter(help="The evaluation."), Offers(tuple(EVALUATIONS.names()))]
Languages = Annotated[
    str, Parameter(help="Languages or groups; all that were scored by default."), COMMAS
]
CorpusOf = Annotated[str, Parameter(help="Which corpus's scores, where there are some on several.")]


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
        int, Parameter(help="Logits, or comparisons, in memory at once, at most.")
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
    from babelpress.runs.open import open_any

    unread = dict.fromkeys(line for each in wanted_of(asked) for line in o.aside(each.texts))
    unread |= dict.fromkeys(asked.set_aside())
    opened = open_any(model, device=device, quantized=True)
    seen = _ranges(opened, model, moments, mixture) if asks else None
    with _kept(keep) as here:
        rows = score(opened, here, asked, memory_mb=memory_mb, ranges=seen, progress=progress)
        if generate:
            write(opened, here, asked.corpus, asked.languages, tokens=generate, progress=progress)
    return Outcome(rows, keep, _scores(rows), (_where(keep),), warnings=tuple(unread))


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


@command(rows=COMPARED)
def compare(
    dense: Dense,
    runs: Runs,
    *,
    on: On = "bits_per_byte",
    corpus: CorpusOf = "",
    languages: Languages = "",
    draws: Annotated[
        int, Parameter(help="Bootstrap draws (0: 2,000, and more for more than 50 languages).")
    ] = 0,
    seed: Annotated[int, Parameter(help="Seed of the draws.")] = 0,
) -> Outcome:
    """Paired change per language of pressed runs against the dense model, with intervals.

    A change is relative, and positive where the run is worse. Summaries come first, then the
    languages, worst first.

    Example: babelpress compare dense run-english run-uniform
    """
    from babelpress.judge import scores, verdicts

    corpus = scores.common_corpus([dense, *runs], on, corpus)
    which = scores.the_corpus([dense, *runs], on, corpus)
    rows: list[Row] = []
    tables: list[Table] = []
    says: list[str] = []
    aside: dict[str, None] = {}
    for run, label in zip(runs, verdicts.names(runs), strict=True):
        found = verdicts.against(
            dense, run, on=on, corpus=corpus, languages=words(languages), draws=draws, seed=seed
        )
        aside |= dict.fromkeys(
            chain(*verdicts.left_out(dense, on, which[dense], words(languages), found))
        )
        own = verdicts.rows(label, found)
        rows += own
        tables += _tables(own, f"{label} against {dense}: change of {on}, positive is worse")
        if noted := verdicts.note_prediction(run, on, which[run], found):
            says.append(
                f"{label}: predicted damage ranks the {noted['languages']} languages with a "
                f"Spearman correlation of {noted['spearman']:.2f}: "
                f"{verdicts.ranked(noted['spearman'])} (1: in the order measured here; 0: no "
                "order; -1: the wrong way round)."
            )
        says += verdicts.at_chance(found, label)
    return Outcome(rows, tables=tuple(tables), says=tuple(says), warnings=tuple(aside))


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
    dense: Annotated[
        Path,
        Parameter(help="Folder with the scores of the dense model; or, alone, that of a sweep."),
    ],
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
