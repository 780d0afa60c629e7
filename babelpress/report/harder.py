"""What pressing costs where it is harder: on documents that are, and on text from elsewhere.

Tested in tests/report/test_harder.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from babelpress.judge.buckets import NAMES
from babelpress.report import data
from babelpress.report.data import NOTHING, Pressed, ReportInput, percent

MEAN = "mean of all languages"
Cells = tuple[tuple[str, str], ...]
"""Of each column a value and its interval."""
Line = tuple[str, Cells]


@dataclass(frozen=True, slots=True)
class Harder:
    """A table of means, a line for each model, and of each model one of its languages."""

    columns: tuple[str, ...]
    means: tuple[Line, ...]
    models: tuple[tuple[str, tuple[Line, ...]], ...]


def thirds(report: ReportInput) -> Harder | None:
    """The loss on easy, middle and hard documents; None where no model has such."""
    return _harder(report, NAMES, _of_thirds)


def elsewhere(report: ReportInput) -> Harder | None:
    """The loss here and on a second corpus, and the difference; None without one."""
    return _harder(report, ("here", "there", "more there"), _of_elsewhere)


def _harder(
    report: ReportInput,
    columns: tuple[str, ...],
    of: Callable[[Pressed], dict[str | None, Cells]],
) -> Harder | None:
    labels = data.labels(report.pressed)
    every = [(label, of(model)) for label, model in zip(labels, report.pressed, strict=True)]
    found = [(label, lines) for label, lines in every if lines]
    if not found:
        return None
    names: dict[str | None, str] = {None: MEAN}
    names |= {tongue.tag: tongue.name for tongue in data.tongues(report)}
    means = tuple((label, lines[None]) for label, lines in found if None in lines)
    models = tuple(
        (label, tuple((name, lines[tag]) for tag, name in names.items() if tag in lines))
        for label, lines in found
    )
    return Harder(columns, means, models)


def _of_thirds(model: Pressed) -> dict[str | None, Cells]:
    by_cell = {(each.language, each.name): each for each in model.thirds}
    tags = dict.fromkeys(each.language for each in model.thirds)
    return {
        tag: tuple(
            (percent(each.change), _between(each.low, each.high))
            if (each := by_cell.get((tag, name)))
            else (NOTHING, "")
            for name in NAMES
        )
        for tag in tags
    }


def _of_elsewhere(model: Pressed) -> dict[str | None, Cells]:
    return {
        each.language: (
            (percent(each.inside), ""),
            (percent(each.outside), ""),
            (percent(each.change), _between(each.low, each.high)),
        )
        for each in model.elsewhere
    }


def _between(low: float, high: float) -> str:
    return f"{percent(low)} to {percent(high)}"


def numbers(report: ReportInput) -> list[dict[str, Any]]:
    """Losses on easy and hard documents, unrounded."""
    return [
        {"model": label, "documents": each.name, "language": each.language, "change": each.change}
        | {"low": each.low, "high": each.high, "number": each.documents}
        for label, model in zip(data.labels(report.pressed), report.pressed, strict=True)
        for each in model.thirds
    ]


def numbers_elsewhere(report: ReportInput) -> list[dict[str, Any]]:
    """Losses on two corpora, unrounded."""
    return [
        {"model": label, "language": each.language, "here": each.inside, "there": each.outside}
        | {"more": each.change, "low": each.low, "high": each.high}
        for label, model in zip(data.labels(report.pressed), report.pressed, strict=True)
        for each in model.elsewhere
    ]
