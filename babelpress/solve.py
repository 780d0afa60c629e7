"""Least squares on the inputs of a site: factors, and weights settled column by column.

Optimal Brain Surgeon as SparseGPT (Frantar & Alistarh 2023, arXiv:2301.00774, eq. 3 and
algorithm 1) and GPTQ (arXiv:2210.17323) use it. When the weight of input c changes by e·U_cc, the
change of all later weights that hurts the layer's output least is −e·U_c,later, where H = U⁻¹U⁻ᵀ
is the damped Gram matrix, U upper triangular, H⁻¹ = UᵀU.

Shapes: O outputs, I inputs, B columns of a block, R columns from the present one to the last.
The published codes invert H between two Cholesky factors; here H is factored once, from its last
row to its first, which gives U⁻¹ itself, in half the work and in float64.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from babelpress.errors import BadMoments, BadSetting, NotFinite

# Given the present weights from a column to the last, and that column's index: its final weights.
Settle = Callable[[Tensor, int], Tensor]


def inverse_factor(gram_II: Tensor, damp: float, *, where: str, tokens: int) -> Tensor:
    """Upper U in float32 with (gram + damp · mean live diagonal)⁻¹ = UᵀU.

    An input that was always zero stands alone with a diagonal of 1. `where` and `tokens` are for
    the messages. Raises NotFinite, and BadMoments where the damped matrix has no factor.
    """
    if not 0 <= damp < float("inf"):
        raise BadSetting(f"damp must be zero or more, not {damp}.")
    if not gram_II.isfinite().all():
        raise NotFinite(f"the Gram matrix of {where} holds NaN or infinity.")
    hessian_II = gram_II.double()
    if hessian_II is gram_II:
        hessian_II = gram_II.clone()
    diagonal_I = hessian_II.diagonal()
    live_I = diagonal_I > 0
    mean_live = diagonal_I.sum() / live_I.sum().clamp(min=1)
    diagonal_I.add_(damp * mean_live).masked_fill_(~live_I, 1)
    return _inverse_factor(hessian_II, damp, where, tokens).float()


def compensate(weight_OI: Tensor, factor_II: Tensor, settle: Settle, *, block: int) -> Tensor:
    """Settle the columns one after the other; the later ones make up for each change.

    `settle(rest_RO, column)` returns the final weights of `column`. It is handed the weights of
    that column and of all after it, inputs first; those up to the end of the block of `block`
    columns are up to date, those beyond as they were when the block began, so at the start of a
    block all are. Returns float32; `weight_OI` is not changed.
    """
    columns = weight_OI.shape[1]
    # Inputs first, so that a column lies in one piece.
    in_one_piece = {"copy": True, "memory_format": torch.contiguous_format}
    weight_IO = weight_OI.detach().T.to(torch.float32, **in_one_piece)
    for start in range(0, columns, block):
        end = min(start + block, columns)
        error_BO = _settle_block(weight_IO, factor_II, settle, start, end)
        weight_IO[end:].addmm_(factor_II[start:end, end:].T, error_BO, alpha=-1)
    return weight_IO.T


def _settle_block(
    weight_IO: Tensor, factor_II: Tensor, settle: Settle, start: int, end: int
) -> Tensor:
    error_BO = torch.empty_like(weight_IO[start:end])
    for column in range(start, end):
        settled_O = settle(weight_IO[column:], column)
        error_O = (weight_IO[column] - settled_O) / factor_II[column, column]
        weight_IO[column] = settled_O
        weight_IO[column + 1 : end].addr_(factor_II[column, column + 1 : end], error_O, alpha=-1)
        error_BO[column - start] = error_O
    return error_BO


def _inverse_factor(hessian_II: Tensor, damp: float, where: str, tokens: int) -> Tensor:
    # H = RRᵀ with R upper triangular is the ordinary factor of H with rows and columns reversed.
    lower_II, fault = torch.linalg.cholesky_ex(hessian_II.flip(0, 1))
    if fault:
        raise BadMoments(_no_factor(where, damp, tokens, len(hessian_II)))
    eye_II = torch.eye(len(hessian_II), dtype=lower_II.dtype, device=lower_II.device)
    return torch.linalg.solve_triangular(lower_II, eye_II, upper=False).flip(0, 1)


def _no_factor(where: str, damp: float, tokens: int, inputs: int) -> str:
    return (
        f"the Gram matrix of {where} has no Cholesky factor after damping {damp}. Likely causes: "
        f"(a) few calibration tokens ({tokens}) for its inputs ({inputs}): raise --tokens; "
        f"(b) inputs that repeat one another: raise the method's damp, say to {damp + 0.05:g}; "
        "(c) moments that were edited or summed in half precision: calibrate again."
    )
