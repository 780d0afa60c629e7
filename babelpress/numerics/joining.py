"""Scores of languages joined to one: whose scores count how much is said in one place.

Scores of one language may be larger throughout than those of another, so each language's are first
put on one scale (`level`). Then, over the languages with a share: the mean Σ_l share_l·score_l, the
largest, the p-norm (Σ_l share_l·score_l^p)^(1/p), or the softmax Σ_l weight_l·score_l with weight_l
in proportion to share_l·exp(score_l / temperature). The last two lie between the mean (p = 1, a
high temperature) and the largest (a high p, temperature 0).

Shapes: L languages; X whatever is scored, in any number of dimensions.
"""

import torch
from torch import Tensor

WAYS = ("mean", "max", "pnorm", "softmax")


def level(score_X: Tensor) -> Tensor:
    """A language's scores divided by their mean.

    A language that saw only zeros has scores of zero, not of zero by zero.
    """
    return score_X / score_X.mean().clamp(min=torch.finfo(score_X.dtype).tiny)


def joined(
    score_LX: Tensor, share_L: Tensor, over: str, *, p: float = 4.0, temperature: float = 0.1
) -> Tensor:
    """One score of each X. `p` is the order of `pnorm`, `temperature` that of `softmax`."""
    assert over in WAYS, over
    share_LX = share_L.view(-1, *[1] * (score_LX.ndim - 1))
    match over:
        case "max":
            return score_LX.amax(0)
        case "pnorm":
            return _norm(score_LX, share_LX, p)
        case "softmax":
            return _softmax(score_LX, share_LX, temperature)
        case _:
            return (share_LX * score_LX).sum(0)


def _norm(score_LX: Tensor, share_LX: Tensor, p: float) -> Tensor:
    # In logarithms: no float holds the powers of a high order.
    return ((p * score_LX.log() + share_LX.log()).logsumexp(0) / p).exp()


def _softmax(score_LX: Tensor, share_LX: Tensor, temperature: float) -> Tensor:
    # Less the largest before the division: no float holds what a low temperature makes of scores.
    below_LX = (score_LX - score_LX.amax(0)).double() / temperature
    weight_LX = (below_LX + share_LX.double().log()).softmax(0)
    return (weight_LX * score_LX).sum(0)
