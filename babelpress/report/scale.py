"""The colours of a change: classes about zero, whose limits are round numbers.

Losses are rarely of one size: English-only may cost one language 171 % and most others 20 to 60 %.
So the classes grow with what they hold: from the third on, a change and one twice as large never
share a colour.

Tested in tests/report/test_report.py.
"""

import math
from collections.abc import Sequence

from babelpress.report.data import Row

UP = (1, 2.5, 5, 7.5, 10, 15, 20, 30)  # limits above zero, in units
UNITS = (1, 2, 4, 10)  # per cent, times a power of ten
HOLDS = 40  # units: the last class is as wide as the one before it
MIDDLE = len(UP)  # the class around zero
CLASSES = 2 * len(UP) + 1


def edges(rows: Sequence[Row]) -> list[float]:
    """The limits between the classes, symmetric about zero, in per cent."""
    largest = max((abs(row.change) * 100 for row in rows), default=0.0) or 1.0
    power = 10.0 ** math.floor(math.log10(largest / HOLDS))
    unit = next(unit * power for unit in UNITS if HOLDS * unit * power >= largest * (1 - 1e-9))
    up = [unit * limit for limit in UP]
    return [float(f"{edge:.6g}") for edge in (*(-edge for edge in reversed(up)), *up)]


def class_of(change: float, limits: Sequence[float]) -> int:
    """The class, 0 to CLASSES - 1, of a relative change; MIDDLE is the one around zero."""
    return sum(change * 100 >= limit for limit in limits)


def legend(rows: Sequence[Row], limits: Sequence[float]) -> list[tuple[int, str]]:
    """The classes from the best to the worst that there is, each with its lower limit in words.

    The one around zero is always among them; the first has no limit.
    """
    found = {class_of(row.change, limits) for row in rows} | {MIDDLE}
    first, last = min(found), max(found)
    words = ["", *(f"{limit:+g}".replace("-", "\u2212") for limit in limits)]
    return [(each, words[each] if each > first else "") for each in range(first, last + 1)]
