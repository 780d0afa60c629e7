"""What a card says that a run costs each language: scores on every corpus, each for itself.

Tested in tests/report/test_card.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babelpress import evals
from babelpress.errors import AmbiguousName, BadRun, UnknownName
from babelpress.judge import scores, verdicts
from babelpress.judge.compare import NO_DIFFERENCE, TOO_FEW, Change, Comparison, Summary, untold
from babelpress.judge.verdicts import LATENCY
from babelpress.report.data import NOTHING
from babelpress.report.told import part_of
from babelpress.text import languages

ON = "bits_per_byte"
INSTEAD = ("masked", "translation_loss")  # of encoders, of encoder-decoders
RANGE = "range"
FINDINGS = {"worse": "significantly worse", "better": "significantly better"}


@dataclass(frozen=True, slots=True)
class Judged:
    """The scores of a run on one corpus, beside the dense ones where there are some.

    `evaluation` is theirs; `corpus` is empty where it is the only one, and goes without saying.
    """

    evaluation: str
    corpus: str
    own: Mapping[str, float]
    found: Comparison | None

    @property
    def on(self) -> str:
        """On which corpus, where there are several."""
        return f" on {self.corpus}" if self.corpus else ""


def judged_in(run: Path) -> str:
    """The evaluation that a card tells of: bits per byte, or what there is of one without them.

    Of an encoder those of hidden tokens, of an encoder-decoder those of translations.
    """
    if scores.corpora(run, ON):
        return ON
    return next((name for name in INSTEAD if scores.corpora(run, name)), ON)


def judged_on(run: Path, dense: Path | None) -> list[Judged]:
    """The scores on every corpus, each for itself. Raises BadRun where dense ones do not fit."""
    name = judged_in(run)
    on = scores.corpora(run, name)
    beside: dict[str, Comparison] = {}
    if dense:
        shared = scores.in_common([dense, run], name)
        if not shared:
            raise BadRun(f"{run} and {dense} have no corpus in common: evaluate both on one.")
        # a corpus that goes by another name in each is named by neither
        chosen = [which[run] if which[run] == which[dense] else "" for which in shared]
        beside = {
            which[run]: verdicts.against(dense, run, on=name, corpus=corpus)
            for which, corpus in zip(shared, chosen, strict=True)
        }
    return [
        Judged(
            name,
            corpus if len(on) > 1 else "",
            scores.values(run, name, corpus),
            beside.get(corpus),
        )
        for corpus in on
    ]


def loss(judged: Judged) -> dict[str, Any]:
    """The rows of its table, by their keys."""
    changes = sorted(judged.found.changes, key=worst_first) if judged.found else []
    own = judged.own
    return {
        "corpus": judged.corpus,
        "changes": [_change(change) for change in changes],
        "alone": [named(tag) | {"value": f"{own[tag]:.3f}"} for tag in sorted(own)],
    }


def worst_first(change: Change) -> tuple[float, str]:
    """What languages are sorted by."""
    return (-change.change, change.language)


def _change(change: Change) -> dict[str, Any]:
    return named(change.language) | {
        "dense": f"{change.dense:.3f}",
        "pressed": f"{change.pressed:.3f}",
        "change": percent(change.change),
        "interval": f"{percent(change.low)} to {percent(change.high)}",
        "verdict": change.verdict,
    }


def findings(judged: Judged) -> list[str]:
    """The worst language first, then how many are significantly worse."""
    found, on = judged.found, judged.on
    if found is None:
        return []
    number = len(found.changes)
    if all(change.finding == NO_DIFFERENCE for change in found.changes):
        return [f"No significant difference from the dense model in any of {number} languages{on}."]
    by_name = {summary.name: summary for summary in found.summaries}
    worst, mean = by_name["worst"], by_name["mean"]
    language = named(worst.language or "")["name"]
    spoken = evals.facts(judged.evaluation).spoken
    return [
        f"Worst language: {language}, {_with_interval(worst)} in {spoken}{on}.",
        f"Mean of {number} languages{on}: {_with_interval(mean)}. {_counted(found)}.",
    ]


def _counted(found: Comparison) -> str:
    """In how many languages there is which finding."""
    by_finding = {
        finding: [change for change in found.changes if change.finding == finding]
        for finding in (*FINDINGS, NO_DIFFERENCE, TOO_FEW)
    }
    counted = "; ".join(
        f"{untold(there) if finding == TOO_FEW else FINDINGS.get(finding, finding)} in {len(there)}"
        for finding, there in by_finding.items()
        if there
    )
    return counted[0].upper() + counted[1:]


def _with_interval(summary: Summary) -> str:
    low, high = percent(summary.low), percent(summary.high)
    return f"{percent(summary.value)} (95 % interval {low} to {high})"


def ranges(run: Path) -> list[dict[str, Any]]:
    """The range scores on every corpus, each for itself."""
    on = scores.corpora(run, RANGE)
    return [
        {"corpus": corpus if len(on) > 1 else "", "rows": _range_on(run, corpus)} for corpus in on
    ]


def _range_on(run: Path, corpus: str) -> list[dict[str, Any]]:
    values, sites = scores.values(run, RANGE, corpus), scores.sites(run, RANGE, corpus)
    rows = []
    for tag in sorted(values, key=lambda tag: (-values[tag], tag)):
        by_site = sites.get(tag, {})
        worst = max(by_site, key=by_site.__getitem__, default=NOTHING)
        there = part_of(by_site[worst]) if by_site else NOTHING
        rows.append(named(tag) | {"share": part_of(values[tag]), "site": worst, "there": there})
    return rows


def speed(run: Path, dense: Path | None) -> list[str]:
    """How long reading a text takes, by language, on which machine, and beside the dense model."""
    lines: list[str] = []
    on, there = (scores.corpora(each, LATENCY) if each else [] for each in (run, dense))
    alone = len(on) == len(there) == 1  # a corpus that goes by another name in each
    for corpus in on:
        own = scores.values(run, LATENCY, corpus)
        made = scores.identity_of(run, LATENCY, corpus).get("made_with", {})
        with_ = ", ".join(f"{key} {value}" for key, value in made.items())
        by_language = "; ".join(f"{named(tag)['name']} {own[tag]:.1f}" for tag in sorted(own))
        lines.append(f"Milliseconds to read a text of {corpus}: {by_language} ({with_}).")
        if dense and (corpus in there or alone):
            lines += _against(verdicts.timed(dense, run, ON, corpus=corpus))
    return lines


def _against(timed: verdicts.Timed) -> list[str]:
    """How much longer than the dense model it takes, or why that is not known."""
    if timed.found:
        mean = next(each for each in timed.found.summaries if each.name == "mean")
        return [
            f"Against the dense model on the same machine: {_with_interval(mean)} in the mean of "
            "languages."
        ]
    return [f"{timed.why[:1].upper()}{timed.why[1:]}"] if timed.why else []


def named(tag: str) -> dict[str, Any]:
    """A language as people say it."""
    try:
        return {"tag": tag, "name": languages.find(tag).name}
    except (UnknownName, AmbiguousName):
        return {"tag": tag, "name": tag}


def percent(value: float) -> str:
    """A change with its sign."""
    return f"{100 * value:+.1f} %".replace("-", "\u2212")
