"""Many pressed models in one table: a line each, by method, with what it costs and what it took.

Tested in tests/report/test_report.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from babelpress.report import matrix
from babelpress.report.data import ReportInput, size, took
from babelpress.report.finding import APART, SUMMARIES, Card, Line

CARDS = 4  # models that have a card each; more are lines of the table
TITLES = 3  # summaries that a line has room for: worst, mean, low-resource


@dataclass(frozen=True, slots=True)
class Entry:
    """A line: a model's card, and its summaries by title; None where it lacks one."""

    card: Card
    lines: tuple[Line | None, ...]
    took: str
    size: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The lines by method, under the first titles of summaries; `more` where there are others."""

    titles: tuple[str, ...]
    groups: tuple[tuple[str, tuple[Entry, ...]], ...]
    more: bool


def overview(report: ReportInput, cards: Sequence[Card]) -> Overview:
    """All models; within a method in their own order."""
    every = tuple(dict.fromkeys(line.title for card in cards for line in card.lines))
    apart = [SUMMARIES[name] for name in APART]  # how far languages lie apart
    titles = (*every[:TITLES], *(title for title in apart if title in every[TITLES:]))
    entries = []
    for card, model in zip(cards, report.pressed, strict=True):
        by_title = {line.title: line for line in card.lines}
        entries.append(
            Entry(
                card,
                tuple(by_title.get(title) for title in titles),
                took(model.seconds, model.memory_mib),
                size(model.bytes_stored),
            )
        )
    grouped = tuple(
        (title, tuple(entries[place] for place in places))
        for title, places in matrix.groups(report.pressed)
    )
    return Overview(titles, grouped, len(every) > len(titles))
