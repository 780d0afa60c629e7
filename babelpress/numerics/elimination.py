"""Units of a linear's inputs taken out one by one, and the columns that are left fitted again.

A unit is some inputs that go together: a neuron is one, a group of attention heads many. With H the
mean Gram matrix of the inputs x, damped, and P = H⁻¹, what the output Wx loses when the inputs S go
and all that are left are fitted anew is tr(W_S (P_SS)⁻¹ W_Sᵀ): Optimal Brain Surgeon (Hassibi &
Stork 1993) for several weights at once. Then W and P are those of what is left, and so on: backward
elimination. Here H is that of all languages, which what is left is fitted for, and what goes with a
unit is measured in each language apart.

Shapes: O outputs, I inputs of a linear; U units of S inputs; K inputs that are kept, R that went; L
languages, D inputs that go.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from babelpress.errors import NotFinite
from babelpress.numerics.finite import all_finite
from babelpress.numerics.least_squares import inverse_factor


def refitted(
    weight_OI: Tensor, gram_II: Tensor, kept_K: Tensor, *, damp: float, where: str, tokens: int
) -> Tensor:
    """The columns `kept_K` (O, K), float32, changed so that the output changes least.

    W_K + W_R H_RK (H_KK + λ)⁻¹: of ‖(W_K' x_K − W x)‖² + λ‖W_K' − W_K‖², λ = damp · mean diagonal,
    the least. So a high damp leaves the columns as they are, and where nothing goes they are the
    same, bit for bit. Raises what `inverse_factor` raises, and NotFinite where the fit overflows.
    """
    kept_OK = weight_OI.float()[:, kept_K]
    went_I = torch.ones(weight_OI.shape[1], dtype=torch.bool, device=kept_K.device)
    went_I[kept_K] = False
    if not bool(went_I.any()):
        return kept_OK
    rows_KI = gram_II[kept_K]
    factor_KK = inverse_factor(rows_KI[:, kept_K], damp, where=where, tokens=tokens)
    lost_OK = weight_OI.float()[:, went_I] @ rows_KI[:, went_I].T.to(factor_KK.dtype)
    found_OK = kept_OK + lost_OK @ factor_KK.T @ factor_KK
    if not all_finite(found_OK):
        raise NotFinite(f"the fitted weights of {where} overflow: raise --damp.")
    return found_OK


def eliminated(
    weight_OI: Tensor,
    inverse_II: Tensor,
    grams: Sequence[Tensor],
    units_US: Tensor,
    drop: int,
    join: Callable[[Tensor], Tensor],
) -> Tensor:
    """The numbers of `drop` units in the order in which they go, those that are missed least first.

    `inverse_II` is P in float64, `grams` the matrices (I, I) of L languages. What each language
    loses when a unit goes (`losses_of`) is found anew every time one has gone, and `join` makes one
    number of each unit of it, (L, U) to (U,). Of equal units the first goes first.
    """
    find = _inputs_out if units_US.shape[1] == 1 else _groups_out
    return torch.tensor(find(weight_OI.double(), inverse_II, grams, units_US, drop, join))


def _groups_out(
    rest_OI: Tensor,
    inverse_II: Tensor,
    grams: Sequence[Tensor],
    units_US: Tensor,
    drop: int,
    join: Callable[[Tensor], Tensor],
) -> list[int]:
    """Few units of many inputs: W and P of what is left are made anew each time."""
    left, went = list(range(len(units_US))), []
    for _ in range(drop):
        own_LU = [losses_of(rest_OI, inverse_II, each, units_US[left]) for each in grams]
        went.append(left.pop(int(join(torch.stack(own_LU)).argmin())))
        gone_S = units_US[went[-1]]
        taken_SI = torch.linalg.solve(inverse_II[gone_S][:, gone_S], inverse_II[gone_S])
        rest_OI = rest_OI - rest_OI[:, gone_S] @ taken_SI
        inverse_II = inverse_II - inverse_II[:, gone_S] @ taken_SI
    return went


def _inputs_out(
    weight_OI: Tensor,
    inverse_II: Tensor,
    grams: Sequence[Tensor],
    units_U1: Tensor,
    drop: int,
    join: Callable[[Tensor], Tensor],
) -> list[int]:
    """Many units of one input, as a Cholesky factor is found pivot by pivot.

    With v the row of a pivot divided by the root of P_uu and b = w_u divided by it, P − vᵀv and
    W − bv are those of what is left. Only the squares of columns and the diagonal are kept up to
    date, and rows and columns of pivots are made from all v and b so far.
    """
    inputs = units_U1[:, 0]
    weight_OU, inverse_UU = weight_OI[:, inputs], inverse_II[inputs][:, inputs]
    square_U, diagonal_U = weight_OU.square().sum(0), inverse_UU.diagonal().clone()
    rows_DU = weight_OU.new_zeros(drop, len(inputs))
    sides_OD = weight_OU.new_zeros(len(weight_OU), drop)
    seen = [_Seen(inverse_II, each, inputs, drop) for each in grams]
    gone_U = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
    went: list[int] = []
    for step in range(drop):
        seen_LU = torch.stack([each.diagonal_U for each in seen]).clamp(min=0)
        lost_U = join(square_U.clamp(min=0) / diagonal_U.square() * seen_LU)
        went.append(pivot := int(lost_U.masked_fill(gone_U, torch.inf).argmin()))
        gone_U[pivot] = True
        before_D, root = rows_DU[:step, pivot].clone(), diagonal_U[pivot].sqrt()
        row_U = (inverse_UU[pivot] - before_D @ rows_DU[:step]) / root
        side_O = (weight_OU[:, pivot] - sides_OD[:, :step] @ before_D) / root
        met_U = side_O @ weight_OU - (side_O @ sides_OD[:, :step]) @ rows_DU[:step]
        square_U += row_U * (row_U * side_O.square().sum() - 2 * met_U)
        diagonal_U = (diagonal_U - row_U.square()).masked_fill(gone_U, 1)
        for each in seen:
            each.take(step, pivot, before_D, row_U, root, rows_DU)
        rows_DU[step], sides_OD[:, step] = row_U, side_O
    return went


class _Seen:
    """The diagonal of PGP of a language, G its Gram matrix, as inputs go and P becomes P − vᵀv.

    With V the rows v so far, VGP (of the first P) and VGVᵀ grow by a row for each input that goes.
    """

    def __init__(self, inverse_II: Tensor, gram_II: Tensor, inputs: Tensor, drop: int) -> None:
        rows_UI = inverse_II[inputs]
        self.whole_UU = rows_UI @ gram_II.double() @ rows_UI.T
        self.diagonal_U = self.whole_UU.diagonal().clone()
        self.rows_DU = rows_UI.new_zeros(drop, len(inputs))
        self.both_DD = rows_UI.new_zeros(drop, drop)

    def take(
        self, step: int, pivot: int, before_D: Tensor, row_U: Tensor, root: Tensor, rows_DU: Tensor
    ) -> None:
        """Let an input go, whose row v is `row_U`; `before_D` is its column of the rows so far."""
        mine_U = (self.whole_UU[pivot] - before_D @ self.rows_DU[:step]) / root
        cross_D = (self.rows_DU[:step, pivot] - before_D @ self.both_DD[:step, :step]) / root
        own = (mine_U[pivot] - cross_D @ before_D) / root
        turned_U = mine_U - cross_D @ rows_DU[:step]
        self.diagonal_U += row_U * (row_U * own - 2 * turned_U)
        self.rows_DU[step] = mine_U
        self.both_DD[step, :step] = self.both_DD[:step, step] = cross_D
        self.both_DD[step, step] = own


def losses_of(weight_OI: Tensor, inverse_II: Tensor, gram_II: Tensor, units_US: Tensor) -> Tensor:
    """What a language loses when each unit alone goes and the others are fitted for all: (U,).

    tr(M P_S: G P_:S) with M = (P_SS)⁻¹ W_SᵀW_S (P_SS)⁻¹ and the language's Gram matrix G, which is
    not damped: of two inputs that are the same either may go for nothing, then not the other.
    """
    own_USS = _diagonal(inverse_II, units_US)
    half_USS = torch.linalg.solve(own_USS, _squares(weight_OI, units_US))
    both_USS = torch.linalg.solve(own_USS, half_USS.transpose(1, 2))
    rows_USI = (inverse_II @ gram_II.double())[units_US]
    seen_USS = torch.bmm(rows_USI, inverse_II[units_US].transpose(1, 2))
    return (both_USS * seen_USS.transpose(1, 2)).sum((1, 2)).clamp(min=0)


def energies_of(weight_OI: Tensor, gram_II: Tensor, units_US: Tensor) -> Tensor:
    """What each unit adds to the output by itself in a language, nothing fitted: tr(W_S G W_Sᵀ)."""
    return (_squares(weight_OI.double(), units_US) * _diagonal(gram_II, units_US).double()).sum(
        (1, 2)
    )


def _squares(weight_OI: Tensor, units_US: Tensor) -> Tensor:
    """W_SᵀW_S of every unit: (U, S, S)."""
    columns_UOS = weight_OI[:, units_US].transpose(0, 1)
    return torch.bmm(columns_UOS.transpose(1, 2), columns_UOS)


def _diagonal(matrix_II: Tensor, units_US: Tensor) -> Tensor:
    """The square of a matrix that belongs to each unit: (U, S, S)."""
    return matrix_II[units_US[:, :, None], units_US[:, None, :]]
