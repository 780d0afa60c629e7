"""The order of channels in which keep n of m loses least (Zhang et al., ICLR 2024, section 3.3).

Channels are sorted by their summed scores and dealt to the groups of m, forth and back, so that
large ones do not meet. Then for each of the m places in turn the channels at that place are taken
out of all groups and given back where they are worth most together: a linear sum assignment. That
is done again as long as it gains, a few times. The order that keeps most of the scores is taken,
that of the file among those compared, so that no order keeps less. Differences: the published code
assigns every place once, begins with the dealt order even where it keeps less, and has a faster
variant for large layers that assigns within parts of the channels.

Shapes: R rows, S channels, K groups of m of them.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

ROUNDS = 4  # of assignments of all places
ENOUGH = 1e-4  # a gain for which it is not worth another round


def best_order(score_RS: Tensor, keep: int, of: int) -> Tensor:
    """Channels in their new order (S,): place s is to hold what stands at order_S[s] now.

    `of` divides the channels. Takes some R·S²/`of` operations.
    """
    score_RS = score_RS.float()
    channels = score_RS.shape[1]
    assert channels % of == 0
    as_is_S = torch.arange(channels)
    if keep == of or channels == of:
        return as_is_S
    dealt_S = _dealt(score_RS, of)
    start_S = max(as_is_S, dealt_S, key=lambda order_S: kept(score_RS, order_S, keep, of))
    order_S, most = start_S, kept(score_RS, start_S, keep, of)
    for _ in range(ROUNDS):
        for place in range(of):
            order_S = _assigned(score_RS, order_S, place, keep, of)
        before, most = most, kept(score_RS, order_S, keep, of)
        if most <= before * (1 + ENOUGH):
            break
    return max(as_is_S, order_S, key=lambda each_S: kept(score_RS, each_S, keep, of))


def kept(score_RS: Tensor, order_S: Tensor, keep: int, of: int) -> float:
    """The sum of the scores that stay, where the channels are in this order."""
    grouped_RKM = score_RS[:, order_S.to(score_RS.device)].unflatten(1, (-1, of))
    return float(grouped_RKM.topk(keep, dim=2).values.double().sum())


def _dealt(score_RS: Tensor, of: int) -> Tensor:
    """Channels by falling sums, dealt to the groups forth and back."""
    order_S = score_RS.double().sum(0).argsort(descending=True, stable=True).cpu()
    hands_MK = order_S.view(of, -1).clone()
    hands_MK[1::2] = hands_MK[1::2].flip(1)
    return hands_MK.T.reshape(-1)


def _assigned(score_RS: Tensor, order_S: Tensor, place: int, keep: int, of: int) -> Tensor:
    """The order after the channels at one place of all groups are assigned anew."""
    order_KM = order_S.view(-1, of)
    grouped_RKM = score_RS[:, order_S.to(score_RS.device)].unflatten(1, (-1, of))
    free_RK = grouped_RKM[:, :, place]
    others_RKM = grouped_RKM[:, :, [each for each in range(of) if each != place]]
    # A channel x adds to a group what it is above t, the least that stays of the others, over all
    # rows: Σ max(0, x − t) = (Σ |x − t| + Σ x − Σ t) / 2. There is a fast kernel for Σ |x − t|, and
    # halving changes no choice.
    free_KR, least_KR = free_RK.T.contiguous(), others_RKM.topk(keep, dim=2).values[:, :, -1].T
    apart_KK = torch.cdist(least_KR.contiguous(), free_KR, p=1)
    gain_KK = apart_KK + free_KR.sum(1) - least_KR.sum(1)[:, None]
    _, chosen = linear_sum_assignment(gain_KK.cpu().numpy(), maximize=True)
    new_KM = order_KM.clone()
    new_KM[:, place] = order_KM[torch.from_numpy(chosen), place]
    return new_KM.flatten()
