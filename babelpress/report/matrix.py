"""Calibration by language: one matrix for every method, the worst language first.

Tested in tests/report/test_report.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from babelpress.report import data, scale
from babelpress.report.data import Pressed, ReportInput, Row, Tongue

FEW = 3  # columns that have room for intervals, and for a chart beside them


@dataclass(frozen=True, slots=True)
class Cell:
    """A change and its colour class; `worst` is the largest of its column."""

    row: Row
    shade: int
    worst: bool


@dataclass(frozen=True, slots=True)
class Matrix:
    """Pressed models of one method side by side; None stands where one was not measured."""

    title: str
    labels: tuple[str, ...]
    lines: tuple[tuple[Tongue, tuple[Cell | None, ...]], ...]


def groups(pressed: Sequence[Pressed]) -> list[tuple[str, list[int]]]:
    """Places of the pressed models by method, in the order in which the methods come.

    Where no method has two models, they are one group without a title.
    """
    found: dict[str, list[int]] = {}
    for place, model in enumerate(pressed):
        found.setdefault(model.name, []).append(place)
    if len(found) > 1 and all(len(places) == 1 for places in found.values()):
        return [("", list(range(len(pressed))))]
    return [(data.clean(name), places) for name, places in found.items()]


def matrices(report: ReportInput, rows: Sequence[Row], limits: Sequence[float]) -> list[Matrix]:
    """The matrices of a report, all with the same languages in the same order."""
    labels = data.labels(report.pressed)
    by_cell = {(row.label, row.tongue.tag): row for row in rows}
    largest = {
        label: max(row.change for row in rows if row.label == label)
        for label in labels
        if any(row.label == label for row in rows)
    }

    def cell(label: str, tag: str) -> Cell | None:
        if not (row := by_cell.get((label, tag))):
            return None
        shade = scale.class_of(row.change, limits)
        return Cell(row, shade, row.change == largest[label])

    found = []
    for title, places in groups(report.pressed):
        lines = tuple(
            (tongue, tuple(cell(labels[place], tongue.tag) for place in places))
            for tongue in data.tongues(report)
        )
        heads = tuple(
            data.clean(report.pressed[p].calibration) if title else labels[p] for p in places
        )
        found.append(Matrix(title, heads, lines))
    return found
