"""The one sentence that the report opens with, and the cards below it.

Two pressed models count as different when the intervals of their worst languages do not overlap.
That is stricter than a test at the same level, so what it calls a difference is one.

Tested in tests/report/test_report.py.
"""

from dataclasses import dataclass

from babelpress.judge.compare import Comparison, Summary, untold
from babelpress.report.data import Pressed, Row, clean, labels, percent

SUMMARIES = {
    "worst": "Worst language",
    "mean": "Mean of all languages",
    "low_resource": "Low-resource mean",
    "high_resource": "High-resource mean",
    "latin": "Latin script",
    "non_latin": "Other scripts",
    "spread": "Standard deviation of languages",
    "gap": "Worst minus best language",
}
APART = ("spread", "gap")  # how far languages lie apart: neither loss nor gain
SPOKEN = {"english": "English-only"}


@dataclass(frozen=True, slots=True)
class Line:
    """One summary of a card; `at`, `start` and `stop` place it on a bar of WIDTH units."""

    title: str
    language: str
    value: str
    interval: str
    at: float
    start: float
    stop: float


@dataclass(frozen=True, slots=True)
class Card:
    """One pressed model: its summaries on a scale that all cards share; `zero` lies on it too."""

    name: str
    calibration: str
    lines: tuple[Line, ...]
    zero: float
    worse: int
    untold: str  # where documents are too few for the test to find anything
    measured: int


WIDTH = 200


def finding(pressed: tuple[Pressed, ...], rows: list[Row]) -> str:
    """What the report shows, in one plain sentence."""
    names = {row.tongue.tag: row.tongue.name for row in rows}
    if not any(row.significant for row in rows):
        return _nothing_found(pressed, names)
    spoken = [_spoken(model.calibration, label) for model, label in _labelled(pressed)]
    worst = [_named(model.comparison, "worst") for model in pressed]
    if max(summary.value for summary in worst) <= 0:
        return "No language loses anything, whatever the calibration."
    if len(pressed) == 1:
        mean = percent(_named(pressed[0].comparison, "mean").value, sign=False)
        return f"{_loss(spoken[0], worst[0], names)}, and all languages {mean} on average."
    order = sorted(range(len(pressed)), key=lambda index: -worst[index].value)
    most, least = order[0], order[-1]
    if worst[most].low <= worst[least].high:
        return (
            "No significant difference between the calibrations in the worst language: "
            f"{_short(spoken[most], worst[most], names)} and "
            f"{_short(spoken[least], worst[least], names)} have overlapping intervals."
        )
    same = worst[most].language == worst[least].language
    other = _short(spoken[least], worst[least], {} if same else names)
    return f"{_loss(spoken[most], worst[most], names)}, {other}."


def _nothing_found(pressed: tuple[Pressed, ...], names: dict[str, str]) -> str:
    """That there is no difference, or that nobody can tell; then what was measured."""
    changes = [change for model in pressed for change in model.comparison.changes]
    if all(change.at_chance for change in changes):
        return "The dense model does no better than chance in any language: it has nothing to lose."
    few = [change for change in changes if change.too_few]
    if not few:
        return "No significant difference from the dense model in any language."
    worst = max((_named(model.comparison, "worst") for model in pressed), key=lambda w: w.value)
    measured = (
        f"The worst language ({names[worst.language or '']}) changes by {percent(worst.value)}, "
        f"95\u202f% interval {percent(worst.low)} to {percent(worst.high)}."
    )
    words = untold(few)
    if len(few) == len(changes):
        return f"{words.capitalize()} whether any language differs from the dense model. {measured}"
    where = ", ".join(dict.fromkeys(names[change.language] for change in few))
    return (
        "No significant difference from the dense model in any language that has documents enough; "
        f"{words} in {where}. {measured}"
    )


def cards(pressed: tuple[Pressed, ...], rows: list[Row]) -> list[Card]:
    """One card a pressed model; summaries that a comparison lacks are left out."""
    names = {row.tongue.tag: row.tongue.name for row in rows}
    shown = [
        summary
        for model in pressed
        for summary in model.comparison.summaries
        if summary.name in SUMMARIES
    ]
    left = min(0.0, *(summary.low for summary in shown))
    right = max(0.0, *(summary.high for summary in shown))

    def place(value: float) -> float:
        # Four units stay free on each side for the dot.
        return round(4 + (WIDTH - 8) * (value - left) / ((right - left) or 1.0), 2)

    def line(summary: Summary) -> Line:
        value, low, high = (
            percent(each, sign=summary.name not in APART)
            for each in (summary.value, summary.low, summary.high)
        )
        return Line(
            title=SUMMARIES[summary.name],
            language=names.get(summary.language or "", ""),
            value=value,
            interval=f"{low} to {high}",
            at=place(summary.value),
            start=place(summary.low),
            stop=place(summary.high),
        )

    found = []
    for model in pressed:
        by_name = {summary.name: summary for summary in model.comparison.summaries}
        lines = tuple(line(by_name[name]) for name in SUMMARIES if name in by_name)
        changes = model.comparison.changes
        worse = sum(change.significant and change.change > 0 for change in changes)
        few = [change for change in changes if change.too_few]
        words = untold(few) if few and not worse else ""
        card = Card(model.name, model.calibration, lines, place(0.0), worse, words, len(changes))
        found.append(card)
    return found


def _labelled(pressed: tuple[Pressed, ...]) -> list[tuple[Pressed, str]]:
    return list(zip(pressed, labels(pressed), strict=True))


def _spoken(calibration: str, label: str) -> str:
    return label.removesuffix(clean(calibration)) + SPOKEN.get(calibration, clean(calibration))


def _named(comparison: Comparison, name: str) -> Summary:
    return next(summary for summary in comparison.summaries if summary.name == name)


def _loss(spoken: str, worst: Summary, names: dict[str, str]) -> str:
    """Subject and verb; the first letter is a capital because it opens the sentence."""
    language = names[worst.language or ""]
    loss = percent(worst.value, sign=False)
    return (
        f"{spoken[:1].upper()}{spoken[1:]} calibration costs the worst language ({language}) {loss}"
    )


def _short(spoken: str, worst: Summary, names: dict[str, str]) -> str:
    language = names.get(worst.language or "")
    loss = f"{spoken} {percent(worst.value, sign=False)}"
    return f"{loss} ({language})" if language else loss
