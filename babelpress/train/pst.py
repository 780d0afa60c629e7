"""PST: sparse fine-tuning with few numbers that learn (Li et al. 2022, IJCAI, arXiv:2205.11005).

A weight W0 stays as it is; what learns is an update of low rank, and a score of low rank that says
which weights stay:

    W = (W0 + β·U·V) ⊙ M
    S = |W0| + α1·A·B + α2·(R·1ᵀ + 1·Cᵀ)
    M = 1 for the share 1 − v of each matrix with the highest S, else 0

The gradient of M is given to S as it is (straight through). v rises by the cubic schedule of
gradual.py. U and A begin at random, V, B, R and C at zero, so that it begins as W0 pruned by
magnitude. α1 = α2 = β = 1. Beside them the head learns; embeddings, norms and biases do not.
Afterwards W takes the place of W0. Zeros of a model that was pruned before stay zeros.

Shapes: O outputs, I inputs of a linear, K rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from babelpress.numerics.patterns import PerLayer
from babelpress.train.gradual import Cubic

SMALL = 0.02  # standard deviation of what begins at random


class _Highest(torch.autograd.Function):
    """1 for the highest scores of a matrix, 0 for the others; its gradient is that of the score."""

    @staticmethod
    def forward(ctx: Any, score_OI: Tensor, share: float) -> Tensor:  # noqa: ARG004
        return PerLayer(share).keep(score_OI).to(score_OI.dtype)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return grad[0], None


class Adapted(nn.Module):
    """What a weight becomes; `share` of it is zero."""

    def __init__(self, weight_OI: Tensor, rank: int, keep_OI: Tensor | None, share: float):
        super().__init__()
        outputs, inputs = weight_OI.shape

        def random(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, device=weight_OI.device) * SMALL)

        def zeros(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(shape, device=weight_OI.device))

        self.U_OK, self.V_KI = random(outputs, rank), zeros(rank, inputs)
        self.A_OK, self.B_KI = random(outputs, rank), zeros(rank, inputs)
        self.R_O1, self.C_1I = zeros(outputs, 1), zeros(1, inputs)
        self.keep_OI, self.share = keep_OI, share

    def forward(self, weight_OI: Tensor) -> Tensor:
        score_OI = weight_OI.abs() + self.A_OK @ self.B_KI + self.R_O1 + self.C_1I
        if self.keep_OI is not None:  # zeros of before go first, so that there are no more of them
            score_OI = score_OI.masked_fill(self.keep_OI == 0, -torch.inf)
        mask_OI: Any = _Highest.apply(score_OI, self.share)
        if self.keep_OI is not None:
            mask_OI = mask_OI * self.keep_OI
        return (weight_OI + self.U_OK @ self.V_KI) * mask_OI


@dataclass(slots=True)
class Pst:
    """Linears of a model that learn so; all else of its body does not."""

    linears: Mapping[str, nn.Module]
    rises: Cubic

    @classmethod
    def of(
        cls,
        model: Any,
        linears: Mapping[str, nn.Module],
        kept: Mapping[str, Tensor],
        rank: int,
        rises: Cubic,
        seed: int,
    ) -> "Pst":
        """Put it on linears, by their names in the model; `kept` are those of before, by name."""
        model.base_model.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name, each in linears.items():
                weight: Any = each.weight
                made = Adapted(weight, rank, kept.get(name), rises.begin)
                parametrize.register_parametrization(each, "weight", made)
        return cls(linears, rises)

    def at(self, step: int) -> None:
        """The share of zeros of a step."""
        for each in self.linears.values():
            made: Any = each.parametrizations
            made.weight[0].share = self.rises.share(step)

    def settle(self) -> None:
        """Masks are made anew whenever a weight is read."""

    def ready(self, done: int) -> bool:
        """Whether all that shall go is gone."""
        return self.rises.risen(done)

    def finish(self) -> None:
        """What a weight became, with all the zeros that there are to be, takes its place.

        A training that goes on behind its last step does none.
        """
        self.at(self.rises.steps)
        for each in self.linears.values():
            parametrize.remove_parametrizations(each, "weight", leave_parametrized=True)
