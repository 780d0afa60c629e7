"""Magnitude (Han et al. 2015, arXiv:1506.02626): the smallest weights go, whatever they meet.

The paper retrains afterwards; this does not.

Shapes: O outputs, I inputs of one linear.
"""

from torch import Tensor

from babelpress.moments.blend import Blend
from babelpress.numerics.patterns import Pattern
from babelpress.prune._zeroing import zero_lowest

PAPER = "Han et al. 2015, arXiv:1506.02626"
DIFFERS = ("The paper retrains afterwards.",)


def prune(weight_OI: Tensor, stats: Blend, pattern: Pattern) -> Tensor:
    """Zero the weights with the lowest |w|. Of `stats` only the place is used, in messages."""
    return zero_lowest(weight_OI, weight_OI.float().abs(), stats, pattern)
