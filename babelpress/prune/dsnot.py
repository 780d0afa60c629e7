"""DSnoT, dynamic sparse no training (Zhang et al., ICLR 2024, arXiv:2310.08915): weights of a start
mask are exchanged until the mean output of every row is nearly what it was.

e = Σ_j w_j·E[x_j] over the weights of a row that went is what its output lacks in the mean. In
every cycle the row gets back the weight that went with the largest w_j·E[x_j] / Var(x_j)^power of
e's sign, and gives in its place the one that stays with the lowest Wanda score |w_j|·rms(x_j) whose
loss lowers |e| too. A row is done when |e| would not fall, as it never does once e has changed its
sign, when |e| is a small share of what it began with, or after so many cycles. No weight moves
twice.

Counts stay those of the start mask: exact in every row, and where the pattern takes groups of
columns (keep n of m, or 0.5/128) a weight is exchanged within its group.
Differences: the published code takes sums over the tokens of a sequence for means, so that its
threshold of 0.1 depends on the length of sequences and on the scale of the layer, where this is a
share of the first error; it looks at no sign by default, so that errors may grow; for n of m it
gives the lowest score of the group whatever its sign; and it leaves MLPs at the start mask.

Shapes: O outputs, I inputs of one linear; C weights that a row may get back; G groups of W columns.
"""

import math

import torch
from torch import Tensor

from babelpress.errors import BadSetting, NotFinite
from babelpress.moments.blend import Blend
from babelpress.numerics.finite import all_finite
from babelpress.numerics.patterns import Pattern, Spared, Stacked, chosen_together
from babelpress.prune import ria

READS = ("sum",)
PAPER = "Zhang et al., ICLR 2024, arXiv:2310.08915"
DIFFERS = (
    "The threshold is a share of the error that a row begins with.",
    "Only exchanges that lower the error of a row are made, and none after its sign has changed.",
    "Groups of n of m give a weight of the right sign only; no linear is left at the start mask.",
)
STARTS = ("wanda", "ria", "magnitude")


def prune(
    weight_OI: Tensor,
    stats: Blend,
    pattern: Pattern,
    *,
    start: str = "wanda",
    cycles: int = 50,
    threshold: float = 0.1,
    power: float = 1.0,
) -> Tensor:
    """Zero the weights of the start mask, after exchanging some of them.

    `start` scores the first mask: wanda, ria (with its own power of 0.5) or magnitude. Each row
    makes at most `cycles` exchanges, and none once its error is at most `threshold` of its first;
    `power` is that of the variance. No row's error is above that of the start mask. Surviving
    weights are left as they are; scaling all inputs of a layer changes nothing.
    """
    _check(start, cycles, threshold, power)
    if isinstance(pattern, Stacked):
        parts = zip(weight_OI.split(pattern.rows), pattern.patterns, strict=True)
        options = {"start": start, "cycles": cycles, "threshold": threshold, "power": power}
        return torch.cat([prune(part_OI, stats, each, **options) for part_OI, each in parts])
    weight_OI, inputs = weight_OI.detach(), weight_OI.shape[1]
    wanda_OI = weight_OI.float().abs() * stats.rms_I()
    score_OI = _start(weight_OI, stats, start)
    value_OI = weight_OI.double() * stats.require_mean()
    found = (("weight", weight_OI), ("score", wanda_OI), ("score", score_OI), ("mean", value_OI))
    for kind, values in found:
        if not all_finite(values):
            raise NotFinite(f"a {kind} of {stats.where} is NaN or infinite.")
    keep_OI = pattern.keep(score_OI)
    variance_I = (stats.mean_square_I - stats.require_mean().square()).clamp(min=0).pow(power)
    # An input that never varies comes back first.
    worth_OI = (value_OI / variance_I.clamp(min=torch.finfo(torch.float64).tiny)).float()
    if isinstance(pattern, Spared):
        wanda_OI = wanda_OI.masked_fill(pattern.spared(wanda_OI, 0), torch.inf)
    width = min(chosen_together(pattern, inputs, inputs), inputs)
    _exchange(keep_OI, value_OI, worth_OI, wanda_OI, width, cycles, threshold)
    return (weight_OI * keep_OI).add_(0)  # 0 for −0


def _exchange(
    keep_OI: Tensor,
    value_OI: Tensor,
    worth_OI: Tensor,
    price_OI: Tensor,
    width: int,
    cycles: int,
    threshold: float,
) -> None:
    """Exchange weights within rows and groups, in place of `keep_OI`.

    `value_OI` is what a weight adds to the mean output, `worth_OI` and `price_OI` what is gained
    by getting it back and lost by giving it.
    """
    first_O = value_OI.masked_fill(keep_OI, 0).sum(1)
    error_O, sign_O1 = first_O.clone(), first_O.sign()[:, None]
    back_OI = (worth_OI * sign_O1).masked_fill(keep_OI, -torch.inf)
    back_OC = back_OI.topk(min(cycles, keep_OI.shape[1]), dim=1).indices
    # What may be given: it stays, and lacking it would lower the error.
    price_OI = price_OI.masked_fill(~keep_OI | (value_OI * sign_O1 >= 0), torch.inf)
    price_OGW = torch.nn.functional.pad(
        price_OI, (0, -price_OI.shape[1] % width), value=torch.inf
    ).unflatten(1, (-1, width))
    active_O = torch.arange(len(keep_OI), device=keep_OI.device)
    for back_O in back_OC.T:
        got_O = back_O[active_O]
        group_O = got_O // width
        price_O, place_O = price_OGW[active_O, group_O].min(1)
        given_O = (group_O * width + place_O).clamp(max=keep_OI.shape[1] - 1)
        gained_O = value_OI[active_O, got_O]
        after_O = error_O[active_O] + value_OI[active_O, given_O] - gained_O
        good_O = (
            (gained_O * sign_O1[active_O, 0] > 0)
            & ~keep_OI[active_O, got_O]
            & price_O.isfinite()
            & (error_O[active_O].abs() > threshold * first_O[active_O].abs())
            & (after_O.abs() < error_O[active_O].abs())
        )
        active_O = active_O[good_O]
        got_O, given_O, place_O = got_O[good_O], given_O[good_O], place_O[good_O]
        keep_OI[active_O, got_O] = True
        keep_OI[active_O, given_O] = False
        price_OGW[active_O, group_O[good_O], place_O] = torch.inf
        error_O[active_O] = after_O[good_O]
        if not len(active_O):
            return


def _start(weight_OI: Tensor, stats: Blend, start: str) -> Tensor:
    """The scores of the start mask."""
    if start == "ria":
        return ria.score(weight_OI, stats, 0.5)
    size_OI = weight_OI.float().abs()
    return size_OI * stats.rms_I() if start == "wanda" else size_OI


def _check(start: str, cycles: int, threshold: float, power: float) -> None:
    if start not in STARTS:
        raise BadSetting(f"dsnot's start is '{start}'. Choose one of {', '.join(STARTS)}.")
    if cycles < 0:
        raise BadSetting(f"dsnot's cycles must be zero or more, not {cycles}.")
    if not 0 <= threshold < math.inf:
        raise BadSetting(f"dsnot's threshold must be zero or more, not {threshold}.")
    if not 0 <= power < math.inf:
        raise BadSetting(f"dsnot's power must be zero or more, not {power}.")
