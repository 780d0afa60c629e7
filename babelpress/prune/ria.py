"""RIA, relative importance and activations (Zhang et al., ICLR 2024, "Plug-and-Play"): a weight
matters by its share of its row and of its column, times a power of its input.

score_ij = (|W_ij| / Σ_i |W_ij| + |W_ij| / Σ_j |W_ij|) · rms(x_j)^power. The paper has ‖X_j‖ where
this has the root mean square: a constant factor, and the same ranking. The paper's permutation of
channels for keep n of m is not done.

Shapes: O outputs, I inputs of one linear.
"""

import math

import torch
from torch import Tensor

from babelpress.errors import BadSetting
from babelpress.moments.blend import Blend
from babelpress.numerics.patterns import Pattern
from babelpress.prune._zeroing import zero_lowest

PAPER = "Zhang et al., ICLR 2024, Plug-and-Play"
DIFFERS = (
    "Root mean squares stand for norms over all tokens: the same ranking.",
    "Channels are not permuted for keep n of m.",
)


def prune(weight_OI: Tensor, stats: Blend, pattern: Pattern, *, power: float = 0.5) -> Tensor:
    """Zero the weights with the lowest score; `power` 0 ignores the inputs.

    Scaling all inputs of a layer changes nothing. Surviving weights are left as they are.
    """
    if not 0 <= power < math.inf:
        raise BadSetting(f"ria's power must be zero or more, not {power}.")
    return zero_lowest(weight_OI, score(weight_OI, stats, power), stats, pattern)


def score(weight_OI: Tensor, stats: Blend, power: float) -> Tensor:
    """The scores (O, I) by which weights go."""
    size_OI = weight_OI.float().abs().contiguous()  # sums have another order where inputs are first
    return (_share(size_OI, 0) + _share(size_OI, 1)) * stats.rms_I().pow(power)


def _share(size_OI: Tensor, dim: int) -> Tensor:
    # A row or column of zeros has shares of zero, not of zero by zero.
    return size_OI / size_OI.sum(dim, keepdim=True).clamp(min=torch.finfo(size_OI.dtype).tiny)
