"""Worst language: a weight matters as much as it does to the language that it matters most to.

Wanda's score |w|·rms(x) is taken on the inputs of every language apart, and these are joined as
numerics/joining.py says: by the largest (`over=max`), a p-norm (`over=pnorm`) or a softmax
(`over=softmax`) over the languages with a share.

Ours: no paper; Lang-Prune takes the maximum of structured scores so.

Shapes: O outputs, I inputs of one linear; L languages.
"""

import math

import torch
from torch import Tensor

from babelpress.errors import BadSetting
from babelpress.moments.blend import Blend
from babelpress.numerics.joining import joined, level
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
    score_LOI = torch.stack([level(size_OI * own.rms_I()) for own in apart.values()])
    share_L = score_LOI.new_tensor([stats.shares[tag] for tag in apart])
    score_OI = joined(score_LOI, share_L, over, p=p, temperature=temperature)
    return zero_lowest(weight_OI, score_OI, stats, pattern)
