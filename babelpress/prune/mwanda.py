"""M-Wanda (Choenni & Titov 2025, arXiv:2505.21171): a weight matters by how large its input is over
the languages, by how unequal it is among them, and, where asked for, by how often it fires.

score_ij = |W_ij| · (mean_l r_lj + variance · Var_l r_lj), with `firing` times P(x_j > 0). r_lj is
the root mean square of input j in language l, divided by the mean of all of them at this site.

**Not checked against the paper or its code**, neither of which could be had: what is known is that
a term for the variance of activation norms among languages and one for the probability of firing
are added to Wanda; how they are put together is from memory. Ours are the default of `variance`
(the paper's λ is not known), the division by the mean, which makes λ mean the same in every layer
and the scores blind to the scale of inputs, and that an input fires where it is above zero. Mean
and variance weight languages by their shares: with equal ones they are the plain ones. The paper's
layer-wise sparsity by correlation is not in here.

`firing` is off where nothing is said: what the paper counts as firing is not known, and as x > 0 it
takes large inputs that are always negative for useless.

Shapes: O outputs, I inputs of one linear; L languages.
"""

import math

import torch
from torch import Tensor

from babelpress.errors import BadSetting
from babelpress.moments.blend import Blend
from babelpress.numerics.patterns import Pattern
from babelpress.prune._zeroing import zero_lowest

READS = ("languages", "positive")
PAPER = "Choenni & Titov 2025, arXiv:2505.21171"
DIFFERS = (
    "The formula is from memory: neither the paper nor its code could be read.",
    "Norms are root mean squares divided by their mean at the site, weighted by shares.",
    "The probability of firing scales scores only where it is asked for.",
    "Sparsity by layer, from the correlation of languages, is not in it.",
)


def prune(
    weight_OI: Tensor,
    stats: Blend,
    pattern: Pattern,
    *,
    variance: float = 1.0,
    firing: bool = False,
) -> Tensor:
    """Zero the weights with the lowest score; the others stay as they are.

    `variance` is the weight of the variance among languages, 0 for their mean alone; with `firing`
    scores are multiplied by the share of tokens whose input is above zero. Scaling all inputs of a
    layer changes nothing.
    """
    if not 0 <= variance < math.inf:
        raise BadSetting(f"mwanda's variance must be zero or more, not {variance}.")
    apart = stats.by_language()
    norm_LI = torch.stack([own.rms_I().double() for own in apart.values()])
    share_L1 = norm_LI.new_tensor([stats.shares[tag] for tag in apart])[:, None]
    # Of a site that saw only zeros all norms stay zero.
    norm_LI = norm_LI / (share_L1 * norm_LI).sum(0).mean().clamp(min=torch.finfo().tiny)
    mean_I = (share_L1 * norm_LI).sum(0)
    need_I = mean_I + variance * (share_L1 * (norm_LI - mean_I).square()).sum(0)
    if firing:
        need_I = need_I * stats.require_firing()
    return zero_lowest(weight_OI, weight_OI.float().abs() * need_I.float(), stats, pattern)
