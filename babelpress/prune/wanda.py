"""Wanda (Sun et al. 2023, arXiv:2306.11695, eq. 1): a weight matters as much as its input.

The paper takes the norm ‖X_j‖ over all tokens, this takes the root mean square: a constant factor
less, and the same ranking. The published code sorts and prunes exactly k of a row, as this does.

Shapes: O outputs, I inputs of one linear.
"""

from torch import Tensor

from babelpress.moments.blend import Blend
from babelpress.numerics.patterns import Pattern
from babelpress.prune._zeroing import zero_lowest

PAPER = "Sun et al. 2023, arXiv:2306.11695, eq. 1"
DIFFERS = ("Root mean squares stand for norms over all tokens: the same ranking.",)


def prune(weight_OI: Tensor, stats: Blend, pattern: Pattern, *, inverted: bool = False) -> Tensor:
    """Zero the weights with the lowest |w| * rms(x); `inverted` those with the highest, a control.

    Scaling all inputs of a layer changes nothing. Surviving weights are left as they are.
    """
    score_OI = weight_OI.float().abs() * stats.rms_I()
    return zero_lowest(weight_OI, score_OI, stats, pattern, inverted=inverted)
