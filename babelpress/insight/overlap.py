"""Overlap of pruned sets: do two calibrations remove the same weights?

For two runs, the intersection over union of the weights that pruning set to zero, by block and
linear (Kurz et al. 2026, TACL 14). Weights that were zero in the dense model are in neither set.
Two sets that know nothing of each other overlap too: with shares a and b of the weights the
expected IoU is about ab / (a + b − ab), which is a third at one half. `chance` is that number.

Shapes: O outputs, I inputs of a linear.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from torch import Tensor

from babelpress.errors import BadRun
from babelpress.insight import Row
from babelpress.insight._given import Given
from babelpress.insight._pictures import Picture, Point, mean_by

SPOKEN = "Whether calibrations prune the same weights"
READS = ("dense", "runs")
RUNS = 2

Packed = dict[tuple[int, str], np.ndarray]  # by block and linear, eight weights a byte


def measure(given: Given) -> list[Row]:
    """A row for every two runs, block and linear in which one of them prunes.

    Raises BadRun for a run that pruned nothing.
    """
    sets = {label: _pruned(given, label) for label in given.labels}
    pairs = given.paired(given.labels[-1])
    sizes = {(at, name): old.numel() for at, each in pairs for name, (old, _) in each.items()}
    return [row for one, other in combinations(sets, 2) for row in of_two(one, other, sets, sizes)]


def _pruned(given: Given, label: str) -> Packed:
    found = {
        (index, name): packed(old_OI, new_OI)
        for index, pairs in given.paired(label)
        for name, (old_OI, new_OI) in pairs.items()
    }
    if not any(each.any() for each in found.values()):
        raise BadRun(f"{label} prunes no weight. Name pruned runs, or leave overlap out of --on.")
    return found


def packed(old_OI: Tensor, new_OI: Tensor) -> np.ndarray:
    """Which weights pruning set to zero, eight a byte."""
    return np.packbits(((new_OI == 0) & (old_OI != 0)).cpu().numpy())


def of_two(
    one: str, other: str, sets: Mapping[str, Packed], sizes: Mapping[tuple[int, str], int]
) -> list[Row]:
    """The rows of two runs; a linear that neither prunes has none."""
    rows: list[Row] = []
    for place, size in sizes.items():
        a, b = sets[one][place], sets[other][place]
        union = _count(a | b)
        if union:
            shares = _count(a) / size, _count(b) / size
            rows.append(
                {
                    "run": one,
                    "other": other,
                    "block": place[0],
                    "linear": place[1],
                    "value": _count(a & b) / union,
                    "chance": by_chance(*shares),
                    "share": shares[0],
                    "share_other": shares[1],
                }
            )
    return rows


def by_chance(one: float, other: float) -> float:
    """The IoU of two independent sets with these shares, of many weights."""
    return one * other / (one + other - one * other)


def _count(bits: np.ndarray) -> int:
    return int(np.count_nonzero(np.unpackbits(bits)))


def pictures(rows: Sequence[Row]) -> list[Picture]:
    """IoU by linear and block for every two runs."""
    pairs = list(dict.fromkeys((row["run"], row["other"]) for row in rows))
    names = list(dict.fromkeys(row["linear"] for row in rows))
    blocks = sorted({row["block"] for row in rows})
    values = {(r["run"], r["other"], r["block"], r["linear"]): r["value"] for r in rows}
    points = [
        Point(f"{one} and {other}", str(block), name, values.get((one, other, block, name)))
        for one, other in pairs
        for name in names
        for block in blocks
    ]
    return [
        Picture(
            "weights",
            "Do these calibrations remove the same weights?",
            _seen(rows),
            tuple(points),
            across="block",
            down="linear",
            value="intersection over union of the pruned weights",
            panel="runs",
            digits=3,
            none="not pruned",
        )
    ]


def _seen(rows: Sequence[Row]) -> str:
    mean = mean_by(rows, "run", "other")
    chance = mean_by(rows, "run", "other", value="chance")
    said = [
        f"{one} and {other} share {mean[one, other]:.3f} of what either prunes, where chance would "
        f"give {chance[one, other]:.3f}"
        for one, other in mean
    ]
    least = min(rows, key=lambda row: row["value"])
    return (
        f"{'; '.join(said[:3])}{' and so on' if len(said) > 3 else ''}. They differ most in "
        f"{least['linear']} of block {least['block']} ({least['value']:.3f})."
    )
