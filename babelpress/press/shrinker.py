"""Units of widths taken out of a site, as pressing applies it: their columns become zeros.

What a unit is worth in each language, joined over languages; the least go; what is left is fitted
by least squares on the means of the mixture. Cutting the zeros out is left to shrink/_widths.py.

Shapes: O outputs, I inputs of a linear; U units of C columns; L languages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from babelpress.models.sites import Site
from babelpress.moments.blend import Blend
from babelpress.numerics.elimination import (
    eliminated,
    energies_of,
    refitted,
)
from babelpress.numerics.joining import joined, level
from babelpress.press.method import FEW, Parts, Pressed, Weights


@dataclass(frozen=True, slots=True)
class Units:
    """The units of a linear's inputs (U, C), and how many of them stay."""

    columns_UC: Tensor
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrinker:
    """How units are scored, and where they are: by block and by the name of the linear in it.

    `score` is `energy`, what a unit adds to the output by itself, or `lost`, what is lost when it
    goes and the others are fitted. `over` joins languages (numerics/joining.py). With `fit` what is
    left is fitted, `damp` in mean diagonals of the Gram matrix. `own` are the units of the block at
    hand.
    """

    score: str
    over: str
    fit: bool
    damp: float
    units: Mapping[int, Mapping[str, Units]]
    own: Mapping[str, Units] = field(default_factory=dict)
    name: str = "shrink"
    skip: tuple[str, ...] = ()

    @property
    def needs_gram(self) -> bool:
        """Only squares of inputs say what a unit of one input adds by itself."""
        every = (each for of_block in self.units.values() for each in of_block.values())
        wide = any(each.columns_UC.shape[1] > 1 for each in every)
        return self.fit or self.score == "lost" or wide

    @property
    def vectors(self) -> Sequence[str]:
        """None besides the squares and the largest."""
        return ()

    @property
    def languages_apart(self) -> bool:
        """Always."""
        return True

    @property
    def contrasts(self) -> bool:
        """Never."""
        return False

    @property
    def scales(self) -> bool:
        """Never."""
        return False

    @property
    def reorders(self) -> int:
        """Never."""
        return 0

    def at(self, block: int) -> "Shrinker":
        """With the units of this block."""
        return replace(self, own=self.units.get(block, {}))

    def skips(self, site: Site) -> bool:
        """Whether no unit is an input of this site."""
        return not any(name in self.own for name in site.linears)

    def enough(self, site: Site, tokens: int) -> bool:  # noqa: ARG002
        """Always: experts have no units here."""
        return True

    @property
    def narrowest(self) -> int:
        """Inputs of a small linear."""
        return FEW

    def check(self, shape: tuple[int, int], where: str) -> None:
        """Any linear will do."""

    def scale_inputs(self, weights: Weights, stats: Blend) -> Tensor:
        """Never asked for."""
        raise AssertionError(f"{self.name} scales nothing ({len(weights)} linears, {stats.where})")

    def order_inputs(self, weights: Weights, stats: Blend, parts_GS: Parts) -> Tensor:
        """Never asked for."""
        raise AssertionError(
            f"{self.name} reorders nothing ({len(weights)} linears, {stats.where}, {len(parts_GS)})"
        )

    def press(self, weights: Weights, stats: Blend) -> Pressed:
        """The linear with zeros in the columns of units that go."""
        ((name, weight_OI),) = weights.items()
        units = self.own[name]
        number = len(units.columns_UC)
        if units.kept == number:
            return Pressed({name: weight_OI}, {})
        columns_UC = units.columns_UC.to(weight_OI.device)
        exact_OI = weight_OI.detach().float()
        went_U = self._least(exact_OI, stats, columns_UC, number - units.kept)
        stays_U = torch.ones(number, dtype=torch.bool, device=weight_OI.device)
        stays_U[went_U.to(weight_OI.device)] = False
        kept_K = columns_UC[stays_U].flatten().sort().values
        new_OI = torch.zeros_like(exact_OI)
        new_OI[:, kept_K] = self._fitted(exact_OI, stats, kept_K)
        return Pressed({name: new_OI}, {})

    def _fitted(self, weight_OI: Tensor, stats: Blend, kept_K: Tensor) -> Tensor:
        if not self.fit:
            return weight_OI[:, kept_K]
        gram_II = stats.require_gram()
        return refitted(
            weight_OI, gram_II, kept_K, damp=self.damp, where=stats.where, tokens=stats.tokens
        )

    def _least(self, weight_OI: Tensor, stats: Blend, columns_UC: Tensor, drop: int) -> Tensor:
        """The units that go."""
        apart = stats.by_language()
        share_L = torch.tensor([stats.shares[tag] for tag in apart], dtype=torch.float64)
        share_L = share_L.to(weight_OI.device)
        if self.score == "energy":
            score_LU = torch.stack([_energy(weight_OI, own, columns_UC) for own in apart.values()])
            score_U = joined(_levelled(score_LU), share_L, self.over)
            return score_U.argsort(stable=True)[:drop]
        half_II = stats.factor(self.damp).double()
        inverse_II = half_II.T @ half_II
        # an input that was always zero adds nothing, whatever its weights are
        live_OI = weight_OI.double() * (stats.require_gram().diagonal() > 0)
        grams = [own.require_gram() for own in apart.values()]
        whole_L = torch.stack([((live_OI @ each.double()) * live_OI).sum() for each in grams])

        def join(lost_LU: Tensor) -> Tensor:
            """Of every language's losses as shares of its own output."""
            return joined(lost_LU / whole_L[:, None].clamp(min=1e-300), share_L, self.over)

        return eliminated(live_OI, inverse_II, grams, columns_UC, drop, join)


def _energy(weight_OI: Tensor, own: Blend, columns_UC: Tensor) -> Tensor:
    """By the squares of inputs, or, of several inputs together, by their Gram matrix."""
    if columns_UC.shape[1] == 1:
        square_I = weight_OI.square().sum(0).double()
        return (square_I * own.mean_square_I)[columns_UC[:, 0]]
    return energies_of(weight_OI, own.require_gram(), columns_UC)


def _levelled(score_LU: Tensor) -> Tensor:
    return torch.stack([level(score_U) for score_U in score_LU])
