"""Densities of blocks as patterns of their linears, with exact totals.

A linear of one name and shape loses over all blocks as many weights as the plain pattern asks.
Among the blocks whole numbers are given by largest remainder: weights of a row, of a layer, or of
every n of a keep-n-of-m pattern.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction

from babelpress.numerics.patterns import KeepOf, PerGroup, PerLayer, PerRow, Plain

Shape = tuple[int, int]  # outputs, inputs
HALVINGS = 100  # as fine as floats are


def patterns(
    plain: Plain, shapes: Sequence[Mapping[str, Shape]], densities: Sequence[float]
) -> list[dict[str, Plain]]:
    """A pattern for every linear of every block, by its name in the block."""
    found: list[dict[str, Plain]] = [{} for _ in shapes]
    alike: dict[tuple[str, Shape], list[int]] = defaultdict(list)
    for block, linears in enumerate(shapes):
        for name, shape in linears.items():
            alike[name, shape].append(block)
    for (name, shape), blocks in alike.items():
        asked, size = _units(plain, shape)
        wanted = [(1 - densities[block]) * size for block in blocks]
        for block, units in zip(blocks, whole(wanted, asked * len(blocks), size - 1), strict=True):
            found[block][name] = plain if units == asked else _of_units(plain, units, size)
    return found


def nearest(plain: Plain, shapes: Mapping[str, Shape], kept: float) -> dict[str, Plain]:
    """A pattern for every linear of one block by its name, as near to the share that stays as
    whole numbers come."""
    found: dict[str, Plain] = {}
    for name, shape in shapes.items():
        _, size = _units(plain, shape)
        units = min(size - 1, max(0, round((1 - kept) * size)))
        found[name] = _of_units(plain, units, size)
    return found


def whole(wanted: Sequence[float], total: int, most: int) -> list[int]:
    """Whole numbers from 0 to `most` that sum to `total`, with the least squared distance to those
    wanted; of equal ones the first.

    Where bounds cut off what is wanted, all others move by the same: found by bisection, so that
    less than one unit of each is left to give.
    """
    assert 0 <= total <= most * len(wanted)

    def moved(by: float) -> list[int]:
        return [min(most, max(0, math.floor(each + by))) for each in wanted]

    low, high = -max(wanted) - 1, most - min(wanted) + 1
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(moved(middle)) <= total else (low, middle)
    taken = moved(low)
    free = [place for place, each in enumerate(taken) if each < most]
    free.sort(key=lambda place: (taken[place] - wanted[place], place))
    for place in free[: total - sum(taken)]:
        taken[place] += 1
    assert sum(taken) == total
    return taken


def density(plain: Plain) -> float:
    """The share of weights that stays."""
    if isinstance(plain, KeepOf):
        return plain.keep_count / plain.of
    return 1 - float(plain.fraction)


def parts(plain: Plain) -> int:
    """Of how many weights a pattern keeps a whole number; 0 where shares may be any."""
    return plain.of if isinstance(plain, KeepOf) else 0


def _units(plain: Plain, shape: Shape) -> tuple[int, int]:
    """How many go of how many: of a row, of n, or of the whole linear."""
    rows, columns = shape
    if isinstance(plain, KeepOf):
        plain.count(rows, columns)  # raises where `of` does not divide the columns
        return plain.of - plain.keep_count, plain.of
    if isinstance(plain, PerRow):
        return plain.count(1, columns), columns
    return plain.count(rows, columns), rows * columns


def _of_units(plain: Plain, units: int, size: int) -> Plain:
    match plain:
        case KeepOf(of=of):
            return KeepOf(of - units, of)
        case PerRow():
            return PerRow(Fraction(units, size))
        case PerLayer():
            return PerLayer(Fraction(units, size))
        case PerGroup(columns=columns):
            return PerGroup(Fraction(units, size), columns)
