"""A method with its options, as pressing applies it to the linears of one site.

Shapes: O outputs, I inputs of a linear.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from babelpress import prune, quantize
from babelpress.grids import Codes, Grid
from babelpress.models import Site
from babelpress.moments import Blend
from babelpress.sparsity import KeepOf, PerGroup, PerLayer, PerRow, Stacked, parse

Weights = Mapping[str, Tensor]  # the linears of a site by name inside the block
# With fewer tokens methods do worse on other text than those that look at none: Wanda and SparseGPT
# than magnitude, GPTQ than RTN (seen in the MLP of a block of babel-mini).
MIN_TOKENS = 32
MIN_TOKENS_AN_INPUT = 2  # for methods that read Gram matrices


@dataclass(frozen=True, slots=True)
class Pressed:
    """New weights of the linears of a site, and the integers behind them where there are any."""

    weights: dict[str, Tensor]
    codes: dict[str, Codes]


class Method(Protocol):
    """What pressing asks of a method."""

    @property
    def name(self) -> str: ...

    @property
    def needs_gram(self) -> bool:
        """Whether it reads Gram matrices."""
        ...

    @property
    def reads(self) -> Sequence[str]:
        """The vectors of moments that it reads besides the squares and the largest."""
        ...

    @property
    def scales(self) -> bool:
        """Whether it wants the inputs of a site scaled in the layer before."""
        ...

    def skips(self, site: Site) -> bool:
        """Whether `--skip` named this site."""
        ...

    @property
    def skip(self) -> tuple[str, ...]: ...

    def enough(self, site: Site, tokens: int) -> bool:
        """Whether an expert that saw so many tokens can be pressed."""
        ...

    def scale_inputs(self, weights: Weights, stats: Blend) -> Tensor:
        """What the inputs of the site should be divided by. Only where `scales`."""
        ...

    def press(self, weights: Weights, stats: Blend) -> Pressed:
        """New weights for the linears of one site."""
        ...


@dataclass(frozen=True, slots=True)
class Pruner:
    """A pruning method with its options and pattern, and the sites that it leaves alone.

    An expert that saw fewer than `min_tokens` tokens is left alone too.
    """

    name: str
    pattern: PerRow | PerLayer | PerGroup | KeepOf
    options: Mapping[str, Any] = field(default_factory=dict)
    skip: tuple[str, ...] = ()
    min_tokens: int | None = None

    @classmethod
    def of(
        cls,
        name: str,
        pattern: str,
        options: Mapping[str, Any] | None = None,
        skip: Sequence[str] = (),
        *,
        min_tokens: int | None = None,
    ) -> "Pruner":
        """From words. Raises UnknownName or BadSetting."""
        prune.check_options(name, options or {})
        return cls(name, parse(pattern), dict(options or {}), tuple(skip), min_tokens)

    @property
    def needs_gram(self) -> bool:
        """Whether it reads Gram matrices."""
        return prune.needs_gram(self.name)

    @property
    def reads(self) -> Sequence[str]:
        """The vectors of moments that it reads besides the squares and the largest."""
        return prune.reads(self.name)

    @property
    def scales(self) -> bool:
        """Never: what goes does not depend on the scale of inputs and weights together."""
        return False

    def skips(self, site: Site) -> bool:
        """Whether `--skip` named this site."""
        return any(site.matches(pattern) for pattern in self.skip)

    def enough(self, site: Site, tokens: int) -> bool:
        """Whether an expert that saw so many tokens can be pressed."""
        return tokens >= fewest(self, site)

    def scale_inputs(self, weights: Weights, stats: Blend) -> Tensor:
        """Never asked for."""
        raise AssertionError(f"{self.name} scales nothing ({len(weights)} linears, {stats.where})")

    def press(self, weights: Weights, stats: Blend) -> Pressed:
        """New weights for the linears of one site; exact counts in each linear."""
        apply = prune.get(self.name)
        if not prune.stacks(self.name):
            new = {
                name: apply(weight_OI, stats, self.pattern, **self.options)
                for name, weight_OI in weights.items()
            }
            return Pressed(new, {})
        rows = _rows(weights)
        stacked = Stacked(self.pattern, rows)
        new_OI = apply(torch.cat(list(weights.values())), stats, stacked, **self.options)
        return Pressed(dict(zip(weights, new_OI.split(rows), strict=True)), {})


@dataclass(frozen=True, slots=True)
class Quantizer:
    """A quantization method with its options and grid, and the sites that it leaves alone.

    With `keep_zeros` a weight that is zero stays exactly zero. An expert that saw fewer than
    `min_tokens` tokens is left alone too.
    """

    name: str
    grid: Grid
    options: Mapping[str, Any] = field(default_factory=dict)
    skip: tuple[str, ...] = ()
    keep_zeros: bool = True
    min_tokens: int | None = None

    @classmethod
    def of(
        cls,
        name: str,
        grid: Grid,
        options: Mapping[str, Any] | None = None,
        skip: Sequence[str] = (),
        *,
        keep_zeros: bool = True,
        min_tokens: int | None = None,
    ) -> "Quantizer":
        """From words. Raises UnknownName or BadSetting."""
        quantize.check_options(name, options or {})
        return cls(name, grid, dict(options or {}), tuple(skip), keep_zeros, min_tokens)

    @property
    def needs_gram(self) -> bool:
        """Whether it reads Gram matrices."""
        return quantize.needs_gram(self.name)

    @property
    def reads(self) -> Sequence[str]:
        """The vectors of moments that it reads besides the squares and the largest."""
        return quantize.reads(self.name)

    @property
    def scales(self) -> bool:
        """Whether it wants the inputs of a site scaled in the layer before."""
        return quantize.scaler(self.name) is not None

    def skips(self, site: Site) -> bool:
        """Whether `--skip` named this site."""
        return any(site.matches(pattern) for pattern in self.skip)

    def enough(self, site: Site, tokens: int) -> bool:
        """Whether an expert that saw so many tokens can be pressed."""
        return tokens >= fewest(self, site)

    def scale_inputs(self, weights: Weights, stats: Blend) -> Tensor:
        """What the inputs of the site should be divided by. Only where `scales`."""
        scale = quantize.scaler(self.name)
        assert scale is not None
        stacked_OI = torch.cat(list(weights.values()))
        return scale(stacked_OI, stats, self.grid, **quantize.taken(scale, self.options))

    def press(self, weights: Weights, stats: Blend) -> Pressed:
        """Codes for the linears of one site, all solved together, and what they stand for."""
        apply = quantize.get(self.name)
        stacked_OI = torch.cat(list(weights.values()))
        keep_OI = stacked_OI != 0 if self.keep_zeros else torch.ones_like(stacked_OI).bool()
        options = quantize.taken(apply, self.options)
        codes = apply(stacked_OI, stats, self.grid, keep_OI, **options).split(_rows(weights))
        named = dict(zip(weights, codes, strict=True))
        return Pressed({name: each.dequantize() for name, each in named.items()}, named)


def fewest(method: Pruner | Quantizer, site: Site) -> int:
    """The fewest tokens on which a linear of an expert is pressed: `min_tokens`, or what is known.

    A Gram matrix of few tokens has directions that hardly any token has, and what is done to them
    costs nothing: weights would be fitted to those very tokens.
    """
    if method.min_tokens is not None:
        return max(1, method.min_tokens)
    return max(MIN_TOKENS, MIN_TOKENS_AN_INPUT * site.inputs if method.needs_gram else 0)


def _rows(weights: Weights) -> tuple[int, ...]:
    return tuple(len(weight_OI) for weight_OI in weights.values())
