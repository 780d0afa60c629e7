"""Symmetric matrices stored once: the upper triangle, folded to a rectangle.

Row i of a triangle and row n - 1 - i have n + 1 numbers together. So with h = ⌈n/2⌉ the rectangle
F of h rows and n + 1 columns holds

    F[i, j] = G[i, j - 1]              where j > i, rows from the top
    F[i, j] = G[n - 1 - i, n - 1 - j]  where j ≤ i, rows from the bottom, backwards

which is every number of the triangle once (the row in the middle of an odd n twice), and copying is
of whole rectangles on any device. LAPACK's Rectangular Full Packed format (Gustavson et al. 2010,
doi:10.1145/1731022.1731028) is another folding of the same.

A matrix may be given whole or folded: whole ones are square, and folded ones never are.

Shapes: I inputs, H rows of a folded matrix, J of its columns, B columns of a panel.
"""

import torch
from torch import Tensor

COLUMNS = 256  # of a panel


def folded(gram: Tensor) -> Tensor:
    """The upper triangle of a matrix (I, I) as (H, J); what is folded is as it is."""
    if not is_whole(gram):
        return gram
    inputs = len(gram)
    height = folded_shape(inputs)[0]
    folded_HJ = gram.new_empty(folded_shape(inputs))
    folded_HJ[:, 1:] = gram[:height]
    corner_HH = folded_HJ[:, :height]
    backwards_HH = gram[inputs - height :, inputs - height :].flip(0, 1)
    corner_HH.copy_(torch.where(_lower(height, gram.device), backwards_HH, corner_HH))
    return folded_HJ


def whole(gram: Tensor) -> Tensor:
    """The matrix (I, I), with the same bits; what is whole is as it is."""
    if is_whole(gram):
        return gram
    inputs = gram.shape[1] - 1
    whole_II = gram.new_empty(inputs, inputs)
    for start in range(0, inputs, COLUMNS):
        end = min(start + COLUMNS, inputs)
        panel_BI = panel(gram, start, end)
        whole_II[start:end, start:] = panel_BI
        whole_II[end:, start:end] = panel_BI[:, end - start :].T
    return whole_II


def panel(gram: Tensor, start: int, end: int) -> Tensor:
    """Rows `start` to `end`, from column `start` on, of a matrix that is whole or folded."""
    if is_whole(gram):
        return gram[start:end, start:]
    height, inputs = len(gram), gram.shape[1] - 1
    end = min(end, inputs)
    middle = min(max(start, height), end)  # above it rows are from the top
    from_top_BI = gram[start : min(end, height), start + 1 :]
    from_bottom_BI = gram[inputs - end : inputs - middle, : inputs - start].flip(0, 1)
    panel_BI = torch.cat([from_top_BI, from_bottom_BI])
    corner_BB = panel_BI[:, : end - start]
    below_BB = _lower(end - start, gram.device).tril(-1)
    corner_BB.copy_(torch.where(below_BB, corner_BB.T, corner_BB))
    return panel_BI


def is_whole(gram: Tensor) -> bool:
    """Whether a matrix is all there, and not folded."""
    return gram.shape[0] == gram.shape[1]


def folded_shape(inputs: int) -> tuple[int, int]:
    """H and J of a matrix of so many inputs."""
    return (inputs + 1) // 2, inputs + 1


def _lower(size: int, device: torch.device) -> Tensor:
    """True on the diagonal and below."""
    return torch.ones(size, size, dtype=torch.bool, device=device).tril()
