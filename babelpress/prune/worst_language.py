"""Worst language: a weight matters as much as it does to the language that it matters most to.

Wanda's score |w|·rms(x) is taken on the inputs of every language apart. Each language's scores are
put on one scale, by their mean over the linear, since inputs of one language may be larger
throughout. Then over the languages with a share: the largest (`over=max`), the p-norm
(Σ_l share_l·score_l^p)^(1/p) (`over=pnorm`), or the softmax Σ_l weight_l·score_l with weight_l in
proportion to share_l·exp(score_l / temperature) (`over=softmax`). Both lie between Wanda-like means
(p = 1, a high temperature) and the maximum (a high p, temperature 0).

Ours: no paper; Lang-Prune takes the maximum of structured scores so.

Shapes: O outputs, I inputs of one linear; L languages.
"""

import math

import torch
from torch import Tensor

from babelpress.errors import BadSetting
from babelpress.moments.blend import Blend
from babelpress.numerics.patterns import Pattern
from babelpress.prune._zeroing import zero_lowest

READS = ("languages",)
ONLY_WITH = {"p": {"over": ("pnorm", "norm")}, "temperature": {"over": ("softmax",)}}
WAYS = ("max", "pnorm", "softmax")
EARLIER = {"norm": "pnorm"}  # what recipes of earlier versions call it


def prune(
    weight_OI: Tensor,
    stats: Blend,
    pattern: Pattern,
    *,
    over: str = "max",
    p: float = 4.0,
    temperature: float = 0.1,
) -> Tensor:
    """Zero the weights that matter little to every language; the others stay as they are.

    `p` is the order of `over=pnorm`, `temperature` that of `over=softmax`, in mean scores. Scaling
    all inputs of a layer changes nothing, nor does scaling those of one language.
    """
    over = EARLIER.get(over, over)
    if over not in WAYS:
        raise BadSetting(f"worst_language's over is '{over}'. Choose one of {', '.join(WAYS)}.")
    if not 1 <= p < math.inf:
        raise BadSetting(f"worst_language's p must be 1 or more, not {p}.")
    if not 0 < temperature < math.inf:
        raise BadSetting(f"worst_language's temperature must be above 0, not {temperature}.")
    size_OI = weight_OI.detach().float().abs()
    apart = stats.by_language()
    score_LOI = torch.stack([_scaled(size_OI * own.rms_I()) for own in apart.values()])
    share_L11 = score_LOI.new_tensor([stats.shares[tag] for tag in apart])[:, None, None]
    match over:
        case "max":
            score_OI = score_LOI.amax(0)
        case "pnorm":
            score_OI = _norm(score_LOI, share_L11, p)
        case _:
            score_OI = _softmax(score_LOI, share_L11, temperature)
    return zero_lowest(weight_OI, score_OI, stats, pattern)


def _norm(score_LOI: Tensor, share_L11: Tensor, p: float) -> Tensor:
    # In logarithms: no float holds the powers of a high order.
    return ((p * score_LOI.log() + share_L11.log()).logsumexp(0) / p).exp()


def _softmax(score_LOI: Tensor, share_L11: Tensor, temperature: float) -> Tensor:
    # Less the largest before the division: no float holds what a low temperature makes of scores.
    below_LOI = (score_LOI - score_LOI.amax(0)).double() / temperature
    weight_LOI = (below_LOI + share_L11.double().log()).softmax(0)
    return (weight_LOI * score_LOI).sum(0)


def _scaled(score_OI: Tensor) -> Tensor:
    # A language that saw only zeros has scores of zero, not of zero by zero.
    return score_OI / score_OI.mean().clamp(min=torch.finfo(score_OI.dtype).tiny)
