"""Gram matrices: exact products of what they are given, at the best speed that allows.

A product of two bfloat16 numbers is exact in float32, and processors with matrix units for
bfloat16 (AMX, tensor cores) add such products in float32 several times as fast as they multiply
float32 numbers. PyTorch has them for inputs of float32 only by way of a precision for the whole
process; it is set for as long as a product takes, and only where the inputs have no more digits.

Shapes: T tokens, O outputs, I inputs, B columns of a panel.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from babelpress.numerics.triangles import COLUMNS, panel

FAST = "medium"  # PyTorch's word for products of bfloat16 numbers
CHUNK = 1 << 20  # numbers converted at once, which stay in the cache for all panels


def add_gram(gram_II: Tensor, x_TI: Tensor) -> None:
    """Add xᵀx to the upper triangle of a matrix of float32 or float64; `mirror` does the rest."""
    inputs = len(gram_II)
    with precise_for(x_TI.dtype):
        for some_TI in x_TI.split(max(1, CHUNK // inputs)):
            exact_TI = some_TI.to(gram_II.dtype)
            for start in range(0, inputs, COLUMNS):
                end = start + COLUMNS
                gram_II[start:end, start:].addmm_(exact_TI[:, start:end].T, exact_TI[:, start:])


def mirror(gram_II: Tensor) -> None:
    """Complete a matrix by its upper triangle, whatever is in the lower one."""
    for start in range(0, len(gram_II), COLUMNS):
        end = start + COLUMNS
        # Which of two products that are the same has the same bits is up to the processor.
        corner_BB = gram_II[start:end, start:end]
        corner_BB.copy_(corner_BB.triu() + corner_BB.triu(1).T)
        gram_II[end:, start:end] = gram_II[start:end, end:].T


def dots(weight_OI: Tensor, grams: Sequence[Tensor]) -> list[float]:
    """tr(WGWᵀ) for symmetric matrices G: the sum of (WᵀW)∘G, of which WᵀW is computed once.

    They are whole or folded (`triangles.py`). Only the upper triangle of panels is computed.
    """
    exact_OI = weight_OI.float()
    sums = weight_OI.new_zeros(len(grams), dtype=torch.float64)
    for start in range(0, exact_OI.shape[1], COLUMNS):
        end = start + COLUMNS
        with precise_for(weight_OI.dtype):
            panel_BI = exact_OI[:, start:end].T @ exact_OI[:, start:]
        panel_BI[:, COLUMNS:] *= 2  # what lies below the diagonal is the same again
        for place, gram in enumerate(grams):
            sums[place] += (panel_BI * panel(gram, start, end)).sum(dtype=torch.float64)
    return sums.tolist()


@contextmanager
def precise_for(dtype: torch.dtype) -> Iterator[None]:
    """The fastest products of float32 that lose nothing of inputs that came in `dtype`.

    A setting of the process: threads side by side enter it together, from outside.
    """
    before = torch.get_float32_matmul_precision()
    if dtype is not torch.bfloat16 or before == FAST:
        yield
        return
    torch.set_float32_matmul_precision(FAST)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
