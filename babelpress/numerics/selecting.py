"""The highest scores of every row, so many and no more: the lowest go, of equal ones the first.

Shapes: R rows, C columns of any score; P pairs of columns.

Tested in tests/numerics/test_patterns.py.
"""

from functools import cache
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from babelpress.numerics.counting import nonzeros

ROWS = 1 << 16  # of a few scores that are compared at once
FEW = 8  # scores of a row that are compared each with each, which beats selecting among them


def keep_highest(score_RC: Tensor, drop: int) -> Tensor:
    """True but for the `drop` lowest of each row; of equal scores the first go."""
    rows, columns = score_RC.shape
    if drop == 0:
        return torch.ones_like(score_RC, dtype=torch.bool)
    if 1 < columns <= FEW:
        return _keep_of_few(score_RC, drop)
    # Selecting the threshold costs a fraction of a stable sort; only ties at it need an order.
    threshold_R1 = _lowest(score_RC, drop)
    keep_RC = score_RC > threshold_R1
    if nonzeros(keep_RC) == rows * (columns - drop):
        return keep_RC  # no row keeps more than this above its threshold
    spared_R = columns - keep_RC.sum(1) - drop
    for_ties = spared_R.nonzero().flatten()
    keep_RC[for_ties] = _keep_last_ties(
        score_RC[for_ties], threshold_R1[for_ties], spared_R[for_ties]
    )
    return keep_RC


def _lowest(score_RC: Tensor, place: int) -> Tensor:
    """The score at a place, counted from one, in the order of every row."""
    if score_RC.device.type != "cpu" or score_RC.dtype not in (torch.float32, torch.float64):
        return score_RC.kthvalue(place, dim=1, keepdim=True).values
    # NumPy's selection uses vector instructions: some eight times as fast as kthvalue on a CPU.
    parted_RC = np.partition(score_RC.numpy(), place - 1, axis=1)
    return torch.from_numpy(parted_RC[:, place - 1 : place].copy())


def _keep_of_few(score_RC: Tensor, drop: int) -> Tensor:
    """The same for rows of a few scores, by their places."""
    kept = [(places(some_RC.T.contiguous()) >= drop).T for some_RC in score_RC.split(ROWS)]
    return kept[0] if len(kept) == 1 else torch.cat(kept)


def places(score_CR: Tensor) -> Tensor:
    """How many scores of the same row go before each, found by comparing each with each.

    Numbers all the way: comparisons that give truth values, and those turned into numbers, take
    several times as long.
    """
    columns, rows = score_CR.shape
    not_above_CCR = torch.empty(columns, columns, rows, device=score_CR.device)
    torch.le(score_CR[:, None], score_CR, out=not_above_CCR)
    sign_CP, start_C1 = _signs(columns, score_CR.device)
    # small whole numbers, exact in float32
    return torch.addmm(start_C1, sign_CP, not_above_CCR.view(-1, rows))


@cache
def _signs(columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """How the place of each score follows from P comparisons, each whether b's is not above c's."""
    sign_CCC = torch.zeros(columns, columns, columns)
    start_C1 = torch.zeros(columns, 1)
    for first, later in combinations(range(columns), 2):
        sign_CCC[later, first, later] = 1
        sign_CCC[first, first, later] = -1
        start_C1[first] += 1
    return sign_CCC.flatten(1).to(device), start_C1.to(device)


def _keep_last_ties(score_RC: Tensor, threshold_R1: Tensor, spared_R: Tensor) -> Tensor:
    """True above the threshold and for the last `spared` scores that equal it."""
    tied_RC = score_RC == threshold_R1
    place_RC = tied_RC.cumsum(1)
    drop_ties_R1 = place_RC[:, -1:] - spared_R[:, None]
    return (score_RC > threshold_R1) | (tied_RC & (place_RC > drop_ties_R1))
