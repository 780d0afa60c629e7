"""GPTQ (Frantar et al. 2022, arXiv:2210.17323, algorithm 1): round columns from the first to the
last, and let the later columns make up for what each loses.

U is the upper Cholesky factor of the damped inverse Gram matrix (`least_squares.py`); all rows
share it.
With order `none` the scale and zero of a group are fitted when its first column is reached, on
weights that already make up for earlier columns, as in the published code. With `diagonal` the
inputs with the most energy are rounded first; groups stay those of the original positions and are
fitted beforehand, so that no engine has to reorder anything (static groups of that code).
A pruned weight is set to zero, whatever its column made of it by then, and passes its error on
like any other: one factor serves all rows. Solving every row over its own survivors would lose
less, but needs a factor for every row.
Differences: an input that was never seen alive keeps its weights, rounded, where that code zeroes
them; damping is relative to the mean over live inputs only; scales are those of `grids.py`.

Shapes: O outputs, I inputs of one site; B inputs of a group; G groups; R columns from the first of
a group to the last of all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from babelpress.errors import BadSetting, NotFinite
from babelpress.moments.blend import Blend
from babelpress.numerics.finite import all_finite
from babelpress.numerics.grids import Codes, Grid
from babelpress.numerics.least_squares import ByColumn, compensate

READS = ("gram",)
ADAPTS = True
PAPER = "Frantar et al. 2022, arXiv:2210.17323, algorithm 1"
DIFFERS = (
    "An input that was never seen alive keeps its weights, rounded.",
    "Damping is relative to the mean over live inputs only.",
    "Scales have eight significant bits.",
)
ORDERS = ("none", "diagonal")


@dataclass(frozen=True, slots=True)
class _Group:
    """The grid of one group: zero and the ends are in steps of the scale, the ends from zero."""

    scale_O: Tensor
    zero_O: Tensor
    lowest_O: Tensor
    highest_O: Tensor

    @classmethod
    def of(cls, grid: Grid, scale_O: Tensor, zero_O: Tensor) -> "_Group":
        return cls(scale_O, zero_O, -zero_O, grid.highest - zero_O)

    def nearest(self, weight_O: Tensor) -> Tensor:
        """The nearest weight on the grid. As `Grid.code`, but in fewer operations."""
        steps_O = (weight_O / self.scale_O).round_()
        return steps_O.clamp_(self.lowest_O, self.highest_O).mul_(self.scale_O)


def quantize(
    weight_OI: Tensor,
    stats: Blend,
    grid: Grid,
    keep_OI: Tensor,
    *,
    damp: float = 0.01,
    columns: int = 128,
    order: str = "diagonal",
) -> Codes:
    """Round to the grid so that the output changes least.

    `damp` is in mean diagonals of the Gram matrix. So many `columns` are compensated at a time
    (rounded to whole groups); the result depends on it by rounding alone, which may tip a weight
    that is halfway between two codes. `order` is that of the columns: `none`, or `diagonal`, the
    inputs with the largest mean square first. A weight that `keep_OI` drops need not be zero; what
    is lost with it is made up for too.
    """
    if columns < 1:
        raise BadSetting(f"gptq's columns must be at least 1, not {columns}.")
    if order not in ORDERS:
        raise BadSetting(f"gptq's order is '{order}'. Choose one of {', '.join(ORDERS)}.")
    weight_OI = weight_OI.detach()
    if not all_finite(weight_OI):
        raise NotFinite(f"a weight of {stats.where} is NaN or infinite.")
    solve = _as_they_come if order == "none" else _by_diagonal
    settled_OI, groups = solve(weight_OI, stats, grid, keep_OI, damp, columns)
    if not all_finite(settled_OI):
        raise NotFinite(f"the adapted weights of {stats.where} overflow: raise gptq's damp.")
    return _coded(grid, settled_OI, groups)


def _as_they_come(
    weight_OI: Tensor, stats: Blend, grid: Grid, keep_OI: Tensor, damp: float, columns: int
) -> tuple[Tensor, list[_Group]]:
    """The final weights and the groups, fitted on the way."""
    inputs = weight_OI.shape[1]
    width = grid.width(inputs, stats.where)
    if width < inputs:
        columns = max(columns - columns % width, width)
    groups: list[_Group] = []
    rounding = _rounding(groups, keep_OI, width, range(inputs))

    def fit(rest_RO: Tensor, column: int) -> None:
        kept_BO = rest_RO[:width] * keep_OI.T[column : column + width]
        groups.append(_Group.of(grid, *grid.fit(kept_BO.T)))

    rule = ByColumn(rounding, fit, width)
    return compensate(weight_OI, stats.factor(damp), rule, columns=columns), groups


def _by_diagonal(
    weight_OI: Tensor, stats: Blend, grid: Grid, keep_OI: Tensor, damp: float, columns: int
) -> tuple[Tensor, list[_Group]]:
    """The same by falling diagonal of the Gram matrix, ties by position; groups fitted before."""
    width = grid.width(weight_OI.shape[1], stats.where)
    fitted = grid.fit_groups(weight_OI.masked_fill(~keep_OI, 0), stats.where)
    scale_GO, zero_GO = (each_OG.T.contiguous() for each_OG in fitted)
    groups = [_Group.of(grid, *pair) for pair in zip(scale_GO, zero_GO, strict=True)]
    order_I, factor_II = stats.falling_I(), stats.factor(damp, falling=True)
    rule = ByColumn(_rounding(groups, keep_OI, width, order_I.tolist()))
    settled_OI = compensate(weight_OI.index_select(1, order_I), factor_II, rule, columns=columns)
    return settled_OI.index_select(1, order_I.argsort()), groups


def _rounding(
    groups: Sequence[_Group], keep_OI: Tensor, width: int, place_I: Sequence[int]
) -> Callable[[Tensor, int], Tensor]:
    """What rounds a column to the grid of its group, zero where `keep_OI` drops.

    `place_I` are the positions that columns had, and `keep_OI` has. Groups are looked up when a
    column comes.
    """
    keep_IO = None if keep_OI.all() else keep_OI.T.float().contiguous()

    def settle(weight_O: Tensor, column: int) -> Tensor:
        place = place_I[column]
        nearest_O = groups[place // width].nearest(weight_O)
        return nearest_O if keep_IO is None else nearest_O.mul_(keep_IO[place])

    return settle


def _coded(grid: Grid, settled_OI: Tensor, groups: list[_Group]) -> Codes:
    scale_OG = torch.stack([group.scale_O for group in groups], 1)
    zero_OG = torch.stack([group.zero_O for group in groups], 1)
    # The weights are multiples of scales of eight bits, so that this finds their very codes.
    grouped_OGB = settled_OI.unflatten(1, (len(groups), -1))
    codes_OGB = grid.code(grouped_OGB, scale_OG[..., None], zero_OG[..., None])
    return Codes.of(grid, codes_OGB.flatten(1), scale_OG, zero_OG)
