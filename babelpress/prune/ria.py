"""RIA, relative importance and activations (Zhang et al., ICLR 2024, "Plug-and-Play"): a weight
matters by its share of its row and of its column, times a power of its input.

score_ij = (|W_ij| / Σ_i |W_ij| + |W_ij| / Σ_j |W_ij|) · rms(x_j)^power. The paper has ‖X_j‖ where
this has the root mean square: a constant factor, and the same ranking.

With `permute`, channels are put in the order in which keep n of m loses least of the scores
(`channels.py`), in the file itself: columns of the linear, and the rows before it that they are
made of, so that the model computes what it did and the zeros are a true n of m. The published code
permutes every linear by itself, so that its zeros are n of m in another order than the file's. Here
only those sites are permuted whose inputs another linear of the block makes: what reads the product
of the MLP, and what reads attention values, inside heads. The others are named, and stay in order.

Shapes: O outputs, I inputs of one linear; G parts of S inputs that change alike.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from babelpress.errors import BadSetting
from babelpress.moments.blend import Blend
from babelpress.numerics.channels import best_order
from babelpress.numerics.patterns import KeepOf, Pattern
from babelpress.prune._zeroing import zero_lowest

PAPER = "Zhang et al., ICLR 2024, Plug-and-Play"
DIFFERS = (
    "Root mean squares stand for norms over all tokens: the same ranking.",
    "Channels are permuted in the file, where the layer before can take it, and nowhere else.",
)


def prune(weight_OI: Tensor, stats: Blend, pattern: Pattern, *, power: float = 0.5) -> Tensor:
    """Zero the weights with the lowest score; `power` 0 ignores the inputs.

    Scaling all inputs of a layer changes nothing. Surviving weights are left as they are.
    """
    _check(power)
    return zero_lowest(weight_OI, score(weight_OI, stats, power), stats, pattern)


def order_inputs(
    weight_OI: Tensor,
    stats: Blend,
    pattern: KeepOf,
    parts_GS: Sequence[Tensor],
    *,
    power: float = 0.5,
    permute: bool = False,
) -> Tensor:
    """The order (I,) in which the pattern keeps most of the scores; that of the file without
    `permute`, and wherever no other keeps more."""
    _check(power)
    order_I = torch.arange(weight_OI.shape[1])
    if not permute:
        return order_I
    score_OI = score(weight_OI.detach(), stats, power)
    for lines_GS in parts_GS:
        score_OGS = score_OI[:, lines_GS.to(score_OI.device)]
        order_S = best_order(score_OGS.flatten(0, 1), pattern.keep_count, pattern.of)
        order_I[lines_GS] = lines_GS[:, order_S]
    return order_I


def _check(power: float) -> None:
    if not 0 <= power < math.inf:
        raise BadSetting(f"ria's power must be zero or more, not {power}.")


def score(weight_OI: Tensor, stats: Blend, power: float) -> Tensor:
    """The scores (O, I) by which weights go."""
    size_OI = weight_OI.float().abs().contiguous()  # sums have another order where inputs are first
    return (_share(size_OI, 0) + _share(size_OI, 1)) * stats.rms_I().pow(power)


def _share(size_OI: Tensor, dim: int) -> Tensor:
    # A row or column of zeros has shares of zero, not of zero by zero.
    return size_OI / size_OI.sum(dim, keepdim=True).clamp(min=torch.finfo(size_OI.dtype).tiny)
