"""SparseGPT (Frantar & Alistarh 2023, arXiv:2301.00774, algorithm 1): prune columns from the first
to the last, choose by w² / U_cc², and let the later columns make up for what is lost.

U is the upper Cholesky factor of the damped inverse Gram matrix (`least_squares.py`). The weights
that are chosen together (some columns, a group of n, or the layer: see `patterns.py`) are chosen
on weights that already make up for earlier columns, as in the published code.
Differences: exact counts where that code takes a threshold; an input that was never seen alive is
the first to go, but no more than asked, where that code zeroes it whatever the sparsity; damping
is relative to the mean over live inputs only.

Shapes: O outputs, I inputs of one site; G columns that are chosen together.
"""

import torch
from torch import Tensor

from babelpress.errors import BadSetting, NotFinite
from babelpress.moments.blend import Blend
from babelpress.numerics.finite import all_finite
from babelpress.numerics.least_squares import ByMask, compensate
from babelpress.numerics.patterns import Pattern, chosen_together, most_dropped

READS = ("gram",)
ADAPTS = True
STACKS = True
PAPER = "Frantar & Alistarh 2023, arXiv:2301.00774, algorithm 1"
DIFFERS = (
    "Exact counts, where the published code takes a threshold.",
    "An input that was never seen alive goes first, but no more than asked.",
    "Damping is relative to the mean over live inputs only.",
)


def prune(
    weight_OI: Tensor, stats: Blend, pattern: Pattern, *, damp: float = 0.01, columns: int = 128
) -> Tensor:
    """Zero weights and adapt the others so that the output changes least.

    `damp` is in mean diagonals of the Gram matrix. So many `columns` are compensated at a time
    (rounded to whole groups of the pattern); it is also what a fraction per row is met over.
    """
    if columns < 1:
        raise BadSetting(f"sparsegpt's columns must be at least 1, not {columns}.")
    if not all_finite(weight_OI):
        raise NotFinite(f"a weight of {stats.where} is NaN or infinite.")
    inputs = weight_OI.shape[1]
    together = chosen_together(pattern, columns, inputs)
    if together < inputs:
        columns = max(columns - columns % together, together)
    factor_II = stats.factor(damp)
    live_I = stats.require_gram().diagonal() > 0
    rule = _choosing(pattern, together, factor_II.diagonal(), live_I)
    pruned_OI = compensate(weight_OI, factor_II, rule, columns=columns)
    if not all_finite(pruned_OI):
        raise NotFinite(f"the adapted weights of {stats.where} overflow: raise sparsegpt's damp.")
    return pruned_OI.to(weight_OI.dtype).contiguous().add_(0)  # 0 for −0, which products leave


def _choosing(pattern: Pattern, together: int, diagonal_I: Tensor, live_I: Tensor) -> ByMask:
    """The lowest scores of columns that are chosen together go."""
    value_I1 = (live_I / diagonal_I.square())[:, None]  # what is never seen alive has none
    value_G1 = value_I1.split(together)

    def choose(weight_GO: Tensor, column: int) -> Tensor:
        score_GO = weight_GO.square().mul_(value_G1[column // together])
        kept_GO = pattern.keep_among(score_GO, column, len(diagonal_I))
        return kept_GO.to(weight_GO.dtype, memory_format=torch.contiguous_format)

    return ByMask(choose, together, most_dropped(pattern, together))
