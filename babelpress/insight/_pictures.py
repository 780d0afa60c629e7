"""What a page shows of an analysis: numbers in two directions, a question and what is seen.

Plain data, so that a page is made without the model, the text and torch.

Tested in tests/insight/test_kept.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from babelpress.errors import BadRun, UnknownName
from babelpress.text.languages import find

KINDS = ("heat", "lines")
BAD = ("", "low", "high")


class Point(NamedTuple):
    """A number: in which panel, how far across and down; None where there is none."""

    panel: str
    across: str
    down: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Picture:
    """A heat map, or lines that go across with one for every `down`.

    `across`, `down`, `panel` and `value` are what these are called; points come in the order in
    which they are shown. `first` is the panel that is shown first, where it is not the first one.
    `bad` says which end of the values is a loss, if one is. `none` are the words for a number that
    there is none of.
    """

    name: str
    question: str
    seen: str
    points: tuple[Point, ...]
    across: str
    down: str
    value: str
    panel: str = ""
    first: str = ""
    kind: str = "heat"
    bad: str = ""
    digits: int = 2
    none: str = "none"

    def written(self) -> dict[str, Any]:
        """As it is kept."""
        return {**asdict(self), "points": [list(point) for point in self.points]}


def read(value: Any, where: str) -> Picture:
    """A picture as it was kept. Raises BadRun where it is none."""
    try:
        points = tuple(_point(each) for each in value["points"])
        found = Picture(**{**value, "points": points})
    except (KeyError, TypeError, ValueError) as error:
        raise BadRun(f"{where} holds no picture. Remove it, and do the analysis again.") from error
    if found.kind not in KINDS or found.bad not in BAD:
        raise BadRun(f"{where} holds a picture of kind '{found.kind}'. Do the analysis again.")
    return found


def _point(each: Any) -> Point:
    panel, across, down, value = each
    return Point(str(panel), str(across), str(down), None if value is None else float(value))


# ---- words ---------------------------------------------------------------------------------


def spoken(tag: str) -> str:
    """The English name of a language; its tag where the table lacks it."""
    try:
        return find(tag).name
    except UnknownName:
        return tag


def listed(words: Iterable[str]) -> str:
    """One, two and three as words of a sentence."""
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last


def mean_by(
    rows: Iterable[Mapping[str, Any]], key: str, *more: str, value: str = "value"
) -> dict[Any, float]:
    """The mean of a value over rows with equal keys; rows without the value do not count.

    By the value of the key, or by a tuple of those of several.
    """
    found: dict[Any, list[float]] = {}
    for row in rows:
        if row[value] is not None:
            at = tuple(row[each] for each in (key, *more)) if more else row[key]
            found.setdefault(at, []).append(row[value])
    return {at: sum(each) / len(each) for at, each in found.items()}
