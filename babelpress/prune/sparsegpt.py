"""SparseGPT (Frantar & Alistarh 2023, arXiv:2301.00774, algorithm 1): prune columns from the first
to the last, choose by w² / U_cc², and let the later columns make up for what is lost.

U is the upper Cholesky factor of the damped inverse Gram matrix (`solve.py`). The weights that
are chosen together (a block, a group of n columns, or the layer: see `sparsity.py`) are chosen on
weights that already make up for earlier columns, as in the published code.
Differences: exact counts where that code takes a threshold; an input that was never seen alive is
the first to go, but no more than asked, where that code zeroes it whatever the sparsity; damping
is relative to the mean over live inputs only.

Shapes: O outputs, I inputs of one site; G columns that are chosen together; R columns from the
present one to the last.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from babelpress.errors import BadSetting, NotFinite
from babelpress.finite import all_finite
from babelpress.moments import Blend
from babelpress.solve import compensate
from babelpress.sparsity import Pattern, chosen_together

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
    drop_lowest = _dropping(pattern, together, factor_II.diagonal(), live_I)
    pruned_OI = compensate(weight_OI, factor_II, drop_lowest, block=block)
    if not all_finite(pruned_OI):
        raise NotFinite(f"the adapted weights of {stats.where} overflow: raise sparsegpt's damp.")
    return pruned_OI.to(weight_OI.dtype).contiguous()


def _dropping(
    pattern: Pattern, together: int, diagonal_I: Tensor, live_I: Tensor
) -> Callable[[Tensor, int], Tensor]:
    """What settles a column: its mask, chosen afresh at the first column of every group."""
    columns = len(diagonal_I)
    keep_GO = torch.empty(0)
    zero = diagonal_I.new_zeros(())

    def settle(rest_RO: Tensor, column: int) -> Tensor:
        nonlocal keep_GO
        if column % together == 0:
            group = slice(column, min(column + together, columns))
            score_GO = rest_RO[:together].square() / diagonal_I[group, None].square()
            score_GO *= live_I[group, None]
            keep_GO = pattern.block_keep(score_GO.T, column, columns).T.contiguous()
        return rest_RO[0].where(keep_GO[column % together], zero)

    return settle
