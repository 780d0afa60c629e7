"""Commands that measure and judge: eval, compare, gate, report, demo."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from textwrap import fill
from typing import Any

from babelpress.commands import outcome as o
from babelpress.commands.asked import words
from babelpress.commands.outcome import Outcome, Progress, Row, Table, silent
from babelpress.errors import BadSetting

LINE = 79  # characters of a line of prose


def evaluate(
    model: str,
    *,
    on: str = "bits_per_byte",
    corpus: str = "embedded",
    languages: str = "",
    out: Path | None = None,
    documents: int = 0,
    window: int = 0,
    memory_mb: int = 256,
    moments: Path | None = None,
    mixture: str = "",
    device: str = "cpu",
    progress: Progress = silent,
) -> Outcome:
    """Score a model in every language, keeping the tally of every document.

    Example: babelpress eval babel-mini --corpus "flores?src=flores" --out dense

    Args:
        model: Hub id or folder, babel-mini, or a run.
        on: Evaluations, commas between.
        corpus: Whose test split is scored.
        languages: Languages or groups; all of the corpus by default.
        out: Folder for results.jsonl and tallies/; a run keeps its own by default.
        documents: Score the first N test documents only (0: all).
        window: Tokens in a window (0: as many as the model takes, 1,024 at most).
        memory_mb: Logits, or comparisons, in memory at once, at most.
        moments: What calibration saw, for range; a run keeps its own.
        mixture: Only languages with a share in it, of those of the moments; all by default.
        device: Where the model runs.

    Returns:
        model: as it was asked for
        language: canonical tag
        evaluation: its name
        metric: what its value is
        value: numerator over denominator
        numerator: summed over documents
        denominator: summed over documents
        documents: how many
        seed: of the evaluation; null where it draws nothing
    """
    from babelpress import ranges, scores
    from babelpress.corpus import open_corpus
    from babelpress.opening import open_model

    here = out or (Path(model) if (Path(model) / "recipe.yaml").exists() else None)
    if here is None:
        raise BadSetting(f"{model} is not a run: say with --out where its scores should go.")
    if not words(on):
        raise BadSetting("--on names no evaluation. Write --on bits_per_byte.")
    for option, value in (("documents", documents), ("window", window)):
        if value < 0:
            raise BadSetting(f"--{option} is {value}. It must be 0 or more.")
    asks = _asks_ranges(model, words(on), moments, mixture)
    text = open_corpus(corpus)
    opened = open_model(model, device=device)
    seen = None
    if asks:
        seen = (
            ranges.of_moments(moments, opened, mixture) if moments else ranges.of_run(Path(model))
        )
    rows = scores.evaluate(
        opened,
        here,
        text,
        on=words(on),
        languages=words(languages),
        documents=documents,
        window=window,
        memory_mb=memory_mb,
        ranges=seen,
        progress=progress,
    )
    columns = (
        o.tag(),
        o.name(),
        o.word("metric", "metric"),
        o.Column("value", _value, number=True),
        o.count("documents", "documents"),
    )
    return Outcome(rows, here, (Table(columns, rows),), (f"scores: {here}/results.jsonl",))


def _asks_ranges(model: str, on: Sequence[str], moments: Path | None, mixture: str) -> bool:
    """Whether an evaluation must know what calibration saw. Raises BadSetting where nobody says."""
    from babelpress import evals, ranges, scores

    asking = [name for name in on if evals.needs_ranges(name)]
    if not asking and (moments or mixture):
        given = "--moments" if moments else "--mixture"
        raise BadSetting(f"{given} has no effect on {', '.join(on)}. Leave it out.")
    if mixture and not moments:
        raise BadSetting(f"--mixture {mixture} is a choice among languages: {scores.MOMENTS}")
    if asking and not moments and not (Path(model) / ranges.FILE).exists():
        raise BadSetting(
            f"{asking[0]} must know what calibration saw, and {model} keeps no {ranges.FILE}: "
            f"{scores.MOMENTS}"
        )
    return bool(asking)


def _value(row: Mapping[str, Any]) -> str:
    """Three decimals, and more where they would show nothing of a small score."""
    value = row["value"]
    decimals = 3 if value == 0 or value >= 0.1 else 2 - math.floor(math.log10(value))
    return f"{value:.{decimals}f}"


def compare(
    dense: Path,
    runs: Sequence[Path],
    *,
    on: str = "bits_per_byte",
    languages: str = "",
    draws: int = 2000,
    seed: int = 0,
) -> Outcome:
    """Paired change per language of pressed runs against the dense model, with intervals.

    A change is relative, and positive where the run is worse. Summaries come first, then the
    languages, worst first.

    Example: babelpress compare dense run-english run-minimax

    Args:
        dense: Folder with the scores of the dense model.
        runs: Folders with the scores of pressed models.
        on: The evaluation.
        languages: Languages or groups; all that were scored by default.
        draws: Bootstrap draws.
        seed: Seed of the draws.

    Returns:
        run: folder of the run
        kind: summary or language
        name: the summary (mean, worst, low_resource, high_resource, latin, non_latin, spread),
            or the tag
        language: canonical tag; of the worst language for the summary worst; else null
        dense: score of the dense model; null for a summary
        pressed: score of the run; null for a summary
        change: relative change, 0.05 is 5 %; positive is worse
        low: lower end of its 95 % interval
        high: upper end
        p: two-sided p-value; null for a summary
        p_holm: corrected over languages (Holm); null for a summary
        significant: whether p_holm is under 0.05; null for a summary
        verdict: worse, better or no significant difference; null for a summary
    """
    from babelpress import verdicts

    rows: list[Row] = []
    tables: list[Table] = []
    says: list[str] = []
    for run, label in zip(runs, verdicts.names(runs), strict=True):
        found = verdicts.against(
            dense, run, on=on, languages=words(languages), draws=draws, seed=seed
        )
        own = verdicts.rows(label, found)
        rows += own
        summaries = [row for row in own if row["kind"] == "summary"]
        changes = [row for row in own if row["kind"] == "language"]
        tables += [
            Table(
                (o.Column("summary", o.summary), o.change(), o.interval()),
                summaries,
                f"{label} against {dense}: change of {on}, positive is worse",
            ),
            Table((o.name(), o.change(), o.interval(), o.word("verdict", "verdict")), changes),
        ]
        if noted := verdicts.note_prediction(run, on, found):
            says.append(
                f"{label}: predicted damage ranks the {noted['languages']} languages with a "
                f"Spearman correlation of {noted['spearman']:.2f}."
            )
    return Outcome(rows, tables=tuple(tables), says=tuple(says))


def gate(
    run: Path,
    *,
    against: Path,
    max_loss: float = 0.05,
    confident: bool = False,
    on: str = "bits_per_byte",
    languages: str = "",
) -> Outcome:
    """Exit with 1 when any language loses more than allowed.

    Example: babelpress gate run --against dense --max-loss 0.05

    Args:
        run: The pressed run, scored.
        against: Folder with the scores of the dense model.
        max_loss: Largest relative loss allowed (0.05 is 5 %).
        confident: Judge the upper limit of the interval instead of the estimate.
        on: The evaluation.
        languages: Languages or groups; all that were scored by default.

    Returns:
        language: canonical tag of a language that loses too much; worst first
        dense: score of the dense model
        pressed: score of the run
        change: relative change, 0.05 is 5 %; positive is worse
        low: lower end of its 95 % interval
        high: upper end
        p: two-sided p-value
        p_holm: corrected over languages (Holm)
        significant: whether p_holm is under 0.05
        verdict: worse, better or no significant difference
    """
    from babelpress import verdicts
    from babelpress.compare import gate as failing

    found = verdicts.against(against, run, on=on, languages=words(languages))
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
    says = (
        f"{'failed' if bad else 'passed'}: {len(bad)} of {len(found.changes)} languages lose more "
        f"than {100 * max_loss:g} % against {against} ({judged})."
    )
    tables = (Table(columns, rows),) if bad else ()
    return Outcome(rows, tables=tables, says=(says,), exit_code=1 if bad else 0)


def report(
    dense: Path,
    runs: Sequence[Path],
    *,
    out: Path = Path("report.html"),
    on: str = "bits_per_byte",
    languages: str = "",
    title: str = "",
) -> Outcome:
    """One offline HTML file: what each calibration did to each language.

    Example: babelpress report dense run-english run-minimax --out report.html

    Args:
        dense: Folder with the scores of the dense model.
        runs: Folders with the scores of pressed models.
        out: The file.
        on: The evaluation.
        languages: Languages or groups; all that were scored by default.
        title: Title of the page.

    Returns:
        report: path of the file
        bytes: its size
    """
    from babelpress import verdicts
    from babelpress.report import write_report

    given = verdicts.report_input(dense, runs, on=on, languages=words(languages), title=title)
    path = write_report(given, out)
    rows: list[Row] = [{"report": str(path), "bytes": path.stat().st_size}]
    return Outcome(rows, path, says=(f"report: {path}",))


def demo(*, out: Path = Path("demo-run"), progress: Progress = silent) -> Outcome:
    """The whole job on the embedded model and text, on a CPU, in under two minutes.

    Example: babelpress demo --out demo-run

    Args:
        out: Folder for moments, runs and the report; a second call goes on from what is there.

    Returns:
        calibration: mixture policy that the run was calibrated with
        summary: mean, worst or low_resource (of the languages of the text)
        change: relative change of bits per byte against the dense model; positive is worse
        low: lower end of its 95 % interval
        high: upper end
        language: canonical tag of the worst language; null for the others
    """
    from babelpress import demonstration

    shown = demonstration.do(out, progress)
    columns = (
        o.word("words", "calibrated on"),
        *(
            o.Column(title, lambda row, name=name: _two_lines(row[name]))
            for name, title in demonstration.SHOWN.items()
        ),
    )
    table = Table(columns, demonstration.side_by_side(shown.rows), f"{shown.about}\n")
    moments, new = quote(str(out / "moments")), quote(str(out / "only-swahili"))
    says = (
        fill(f"{shown.finding} Changes are of bits per byte, with 95 % intervals.", LINE),
        "",
        f"report: {shown.page}",
        f"next:   babelpress prune babel-mini --moments {moments} --mixture only:sw --out {new}",
    )
    return Outcome(shown.rows, shown.page, (table,), says)


def _two_lines(row: Row) -> str:
    language = f"  {o.spoken(row['language'])}" if row["language"] else ""
    return f"{o.signed(row['change'])}{language}\n{o.between(row['low'], row['high'])}"
