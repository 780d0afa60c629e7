"""SparseGPT (Frantar & Alistarh 2023, arXiv:2301.00774, algorithm 1): prune columns from the first
to the last, choose by w² / U_cc², and let the later columns make up for what is lost.

U is the upper Cholesky factor of the damped inverse Gram matrix (`solve.py`). The weights that
are chosen together (a block, a group of n columns, or the layer: see `sparsity.py`) are chosen on
weights that already make up for earlier columns, as in the published code.
Differences: exact counts where that code takes a threshold; an input that was never seen alive is
the first to go, but no more than asked, where that code zeroes it whatever the sparsity; damping
is relative to the mean over live inputs only.

Shapes: O outputs, I inputs of one site; G columns that are chosen together.
"""

import torch
from torch import Tensor

from babelpress.errors import BadSetting, NotFinite
from babelpress.finite import all_finite
from babelpress.moments import Blend
from babelpress.solve import ByMask, compensate
from babelpress.sparsity import Pattern, chosen_together, most_dropped

NEEDS_GRAM = True
STACKS = True


def prune(
    weight_OI: Tensor, stats: Blend, pattern: Pattern, *, damp: float = 0.01, block: int = 128
) -> Tensor:
    """Zero weights and adapt the others so that the output changes least.

    `damp` is in mean diagonals of the Gram matrix. `block` columns are compensated at a time
    (rounded to whole groups of the pattern); it is also what a fraction per row is met over.
    """
    if block < 1:
        raise BadSetting(f"sparsegpt's block must be at least 1, not {block}.")
    if not all_finite(weight_OI):
        raise NotFinite(f"a weight of {stats.where} is NaN or infinite.")
    columns = weight_OI.shape[1]
    together = chosen_together(pattern, block, columns)
    if together < columns:
        block = max(block - block % together, together)
    factor_II = stats.factor(damp)
    live_I = stats.require_gram().diagonal() > 0
    rule = _choosing(pattern, together, factor_II.diagonal(), live_I)
    pruned_OI = compensate(weight_OI, factor_II, rule, block=block)
    if not all_finite(pruned_OI):
        raise NotFinite(f"the adapted weights of {stats.where} overflow: raise sparsegpt's damp.")
    return pruned_OI.to(weight_OI.dtype).contiguous().add_(0)  # 0 for −0, which products leave


def _choosing(pattern: Pattern, together: int, diagonal_I: Tensor, live_I: Tensor) -> ByMask:
    """The lowest scores of columns that are chosen together go."""
    value_I1 = (live_I / diagonal_I.square())[:, None]  # what is never seen alive has none
    value_G1 = value_I1.split(together)

    def choose(weight_GO: Tensor, column: int) -> Tensor:
        score_GO = weight_GO.square().mul_(value_G1[column // together])
        kept_GO = pattern.block_keep(score_GO, column, len(diagonal_I))
        return kept_GO.to(weight_GO.dtype, memory_format=torch.contiguous_format)

    return ByMask(choose, together, most_dropped(pattern, together))
