"""Worst language: a weight matters as much as it does to the language that it matters most to.

Wanda's score |w|·rms(x) is taken on the inputs of every language apart. Each language's scores are
put on one scale, by their mean over the linear, since inputs of one language may be larger
throughout. Then over the languages with a share: the largest (`over=max`), or the p-norm
(Σ_l share_l·score_l^p)^(1/p) (`over=norm`), between Wanda-like means and the maximum.

Ours: no paper. Shapes: O outputs, I inputs of one linear; L languages.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from babelpress.errors import BadSetting
from babelpress.moments.blend import Blend
from babelpress.numerics.patterns import Pattern
from babelpress.prune._zeroing import zero_lowest

READS = ("languages",)
WAYS = ("max", "norm")


def prune(
    weight_OI: Tensor, stats: Blend, pattern: Pattern, *, over: str = "max", p: float = 4.0
) -> Tensor:
    """Zero the weights that matter little to every language; the others stay as they are.

    Scaling all inputs of a layer changes nothing, nor does scaling those of one language.
    """
    if over not in WAYS:
        raise BadSetting(f"worst_language's over is '{over}'. Choose one of {', '.join(WAYS)}.")
    if not 1 <= p < float("inf"):
        raise BadSetting(f"worst_language's p must be 1 or more, not {p}.")
    size_OI = weight_OI.detach().float().abs()
    by_language = {
        language: _scaled(size_OI * own.rms_I()) for language, own in stats.by_language().items()
    }
    score_OI = _largest(by_language) if over == "max" else _norm(by_language, stats.shares, p)
    return zero_lowest(weight_OI, score_OI, stats, pattern)


def _largest(by_language: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(by_language.values())).amax(0)


def _norm(by_language: Mapping[str, Tensor], shares: Mapping[str, float], p: float) -> Tensor:
    # In logarithms: no float holds the powers of a high order.
    powers = [p * score.log() + math.log(shares[tag]) for tag, score in by_language.items()]
    return (torch.stack(powers).logsumexp(0) / p).exp()


def _scaled(score_OI: Tensor) -> Tensor:
    # A language that saw only zeros has scores of zero, not of zero by zero.
    return score_OI / score_OI.mean().clamp(min=torch.finfo(score_OI.dtype).tiny)
