"""Least squares on the inputs of a site: factors, and weights settled column by column.

Optimal Brain Surgeon as SparseGPT (Frantar & Alistarh 2023, arXiv:2301.00774, eq. 3 and
algorithm 1) and GPTQ (arXiv:2210.17323) use it. When the weight of input c loses e, the change of
all later weights that hurts the layer's output least is −e·U_c,later / U_cc, where H = U⁻¹U⁻ᵀ is
the damped Gram matrix, U upper triangular, H⁻¹ = UᵀU.

Shapes: O outputs, I inputs, B columns compensated at a time, G columns of a mask, F columns of a
few, R columns from the present one to the last.
The published codes invert H between two Cholesky factors; here H is factored once, from its last
row to its first, which gives U⁻¹ itself, in half the work and in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from babelpress.errors import BadMoments, BadSetting, NotFinite
from babelpress.numerics.finite import all_finite
from babelpress.system import lapack

ROWS = 256  # of a Gram matrix that are put in order at once
FEW = 16  # columns that are told of changes at once; others are told of so many together
FEWEST = 4  # columns that are settled at once where it is known what goes


def _nothing(_rest_RO: Tensor, _column: int) -> None:
    """Nobody wants to see what comes."""


class Rule(Protocol):
    """What decides the final weights of columns, a few at a time."""

    @property
    def widths(self) -> tuple[int, ...]:
        """How many columns are told of changes together, at every level, falling.

        As many as the last says are settled at a time.
        """
        ...

    def settle(self, rest_RO: Tensor, unit_FF: Tensor, lost_FO: Tensor, column: int) -> None:
        """Settle the first F of the columns from `column` on, inputs first, in place.

        They are up to date; at the first of those compensated together all are, others are still
        to hear of some changes. What each lost is left in `lost_FO`. `unit_FF` is what a column is
        changed by for each 1 that one before it lost, which is the second index; zero elsewhere.
        """
        ...


@dataclass(frozen=True, slots=True)
class ByColumn:
    """Columns are settled one after the other.

    `settle_one(weight_O, column)` returns the final weights of a column, given its present ones.
    Before the first of every `together` columns `begin(rest_RO, column)` is shown the present
    weights of that column and of all after it: those of the `together` columns are up to date.
    """

    settle_one: Callable[[Tensor, int], Tensor]
    begin: Callable[[Tensor, int], None] = _nothing
    together: int = 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Those of `Rule`."""
        if self.together > FEW:
            return self.together, FEW
        return (FEW - FEW % self.together,)

    def settle(self, rest_RO: Tensor, unit_FF: Tensor, lost_FO: Tensor, column: int) -> None:
        """As `Rule` says."""
        few_FO, settled = rest_RO[: len(lost_FO)], []
        columns = zip(few_FO, lost_FO, unit_FF.T[:, :, None], strict=True)
        for place, (weight_O, lost_O, unit_F1) in enumerate(columns):
            if (column + place) % self.together == 0:
                self.begin(rest_RO[place:], column + place)
            settled.append(self.settle_one(weight_O, column + place))
            torch.sub(weight_O, settled[-1], out=lost_O)
            few_FO[place + 1 :].addcmul_(unit_F1[place + 1 :], lost_O)
        few_FO.copy_(torch.stack(settled))


@dataclass(slots=True)
class ByMask:
    """Weights go or stay, which is chosen for `together` columns at once.

    `choose(weight_GO, column)` says of columns from one on, inputs first, which of their weights
    stay: 1, or 0 for those that go, at most `most` of a row.
    """

    choose: Callable[[Tensor, int], Tensor]
    together: int
    most: int
    _keep_GO: Tensor = field(init=False, repr=False)

    @property
    def widths(self) -> tuple[int, ...]:
        """Those of `Rule`."""
        if self.together > FEW:
            return self.together, FEW, FEWEST
        few = self.together if self.most <= FEWEST else FEWEST
        return tuple(dict.fromkeys((FEW - FEW % self.together, self.together, few)))

    def settle(self, rest_RO: Tensor, unit_FF: Tensor, lost_FO: Tensor, column: int) -> None:
        """As `Rule` says. Few operations on all columns at once, since threads wait at every one.

        What the first weight of a row that goes takes along is known at once, what the second
        does as soon as that of the first is, and so on.
        """
        place, fewest = column % self.together, len(lost_FO)
        if place == 0:
            self._keep_GO = self.choose(rest_RO[: self.together], column)
        keep_FO = self._keep_GO[place : place + fewest]
        weight_FO = rest_RO[:fewest]
        told_FO = weight_FO
        for _ in range(max(1, min(self.most, fewest))):
            torch.addcmul(told_FO, told_FO, keep_FO, value=-1, out=lost_FO)
            told_FO = torch.addmm(weight_FO, unit_FF, lost_FO)
        torch.mul(told_FO, keep_FO, out=weight_FO)


def inverse_factor(
    gram_II: Tensor, damp: float, *, where: str, tokens: int, order_I: Tensor | None = None
) -> Tensor:
    """Upper U in float32 with (gram + damp · mean live diagonal)⁻¹ = UᵀU.

    With `order_I`, that of the matrix with its inputs in that order. An input that was always zero
    stands alone with a diagonal of 1. `where` and `tokens` are for the messages. Raises NotFinite,
    and BadMoments where the damped matrix has no factor.
    """
    if not 0 <= damp < float("inf"):
        raise BadSetting(f"damp must be zero or more, not {damp}.")
    if not all_finite(gram_II):
        raise NotFinite(f"the Gram matrix of {where} holds NaN or infinity.")
    diagonal_I = gram_II.detach().diagonal().double()
    live_I = diagonal_I > 0
    mean_live = diagonal_I.sum() / live_I.sum().clamp(min=1)
    damped_I = (diagonal_I + damp * mean_live).masked_fill(~live_I, 1)
    backward_I = torch.arange(len(gram_II), device=gram_II.device) if order_I is None else order_I
    near = gram_II.device.type == "cpu" and lapack.reachable()
    find = _by_lapack if near else _by_torch
    factor_II = find(gram_II.detach(), damped_I, backward_I.flip(0))
    if factor_II is None:
        raise BadMoments(_no_factor(where, damp, tokens, len(gram_II)))
    return factor_II.triu_()


def compensate(weight_OI: Tensor, factor_II: Tensor, rule: Rule, *, columns: int) -> Tensor:
    """Settle the columns one after the other; the later ones make up for each change.

    So many `columns` are compensated at a time: a multiple of what the rule wants to see together,
    or a part of it. Returns float32; `weight_OI` is not changed.
    """
    inputs = weight_OI.shape[1]
    weight_IO = weight_OI.detach().T.contiguous().float()  # a column lies in one piece
    if weight_IO.data_ptr() == weight_OI.data_ptr():
        weight_IO = weight_IO.clone()
    for start in range(0, inputs, columns):
        end = min(start + columns, inputs)
        unit_BR = factor_II[start:end, start:] / -factor_II.diagonal()[start:end, None]
        unit_BB = unit_BR[:, : end - start].T.tril(-1)
        lost_BO = torch.empty_like(weight_IO[start:end])
        _settle(weight_IO[start:], unit_BB, lost_BO, rule, start, rule.widths)
        weight_IO[end:].addmm_(unit_BR[:, end - start :].T, lost_BO)
    return weight_IO.T


def _settle(
    rest_RO: Tensor,
    unit_BB: Tensor,
    lost_BO: Tensor,
    rule: Rule,
    column: int,
    widths: tuple[int, ...],
) -> None:
    """Settle the first B of the columns from `column` on, and tell those that follow of changes."""
    if not widths:
        rule.settle(rest_RO, unit_BB, lost_BO, column)
        return
    columns = len(lost_BO)
    for start in range(0, columns, widths[0]):
        end = min(start + widths[0], columns)
        unit_RF, lost_FO = unit_BB[start:, start:end], lost_BO[start:end]
        width = end - start
        _settle(rest_RO[start:], unit_RF[:width], lost_FO, rule, column + start, widths[1:])
        if end < columns:
            rest_RO[end:columns].addmm_(unit_RF[width:], lost_FO)


# H = RRᵀ with R upper triangular is the ordinary factor of H with rows and columns reversed.


def _by_lapack(gram_II: Tensor, damped_I: Tensor, backward_I: Tensor) -> Tensor | None:
    """U in float32 on and above the diagonal; None where there is no factor.

    All in one place: twice as fast as torch, with a third of the memory.
    """
    # Of torch, which aligns all that it makes alike: kernels may round by that.
    reversed_II = torch.empty(gram_II.shape, dtype=torch.float64).numpy()
    for row_BI, place_B in zip(
        torch.from_numpy(reversed_II).split(ROWS), backward_I.split(ROWS), strict=True
    ):
        row_BI.copy_(gram_II.index_select(0, place_B).index_select(1, backward_I))
    np.fill_diagonal(reversed_II, damped_I[backward_I].numpy())
    if not (lapack.factor(reversed_II) and lapack.invert(reversed_II)):
        return None
    return torch.from_numpy(reversed_II[::-1, ::-1].astype(np.float32, order="C"))


def _by_torch(gram_II: Tensor, damped_I: Tensor, backward_I: Tensor) -> Tensor | None:
    """The same where LAPACK cannot reach."""
    reversed_II = gram_II.index_select(0, backward_I).index_select(1, backward_I).double()
    reversed_II.diagonal().copy_(damped_I[backward_I])
    lower_II, fault = torch.linalg.cholesky_ex(reversed_II)
    if fault:
        return None
    eye_II = torch.eye(len(lower_II), dtype=lower_II.dtype, device=lower_II.device)
    return torch.linalg.solve_triangular(lower_II, eye_II, upper=False).float().flip(0, 1)


def _no_factor(where: str, damp: float, tokens: int, inputs: int) -> str:
    return (
        f"the Gram matrix of {where} has no Cholesky factor after damping {damp}. Likely causes: "
        f"(a) few calibration tokens ({tokens}) for its inputs ({inputs}): raise --tokens; "
        f"(b) inputs that repeat one another: raise the method's damp, say to {damp + 0.05:g}; "
        "(c) moments that were edited or summed in half precision: calibrate again."
    )
