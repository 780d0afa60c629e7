"""A method with its options, as pressing applies it to the linears of one site.

Shapes: O outputs, I inputs of a linear; G parts of S inputs that change alike.

Tested in tests/press/test_blocks.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from babelpress.errors import BadLayer
from babelpress.models.sites import Site
from babelpress.moments.blend import Blend
from babelpress.numerics.grids import Codes, Grid
from babelpress.numerics.notation import check_permute
from babelpress.numerics.patterns import KeepOf, Plain, Spared, Stacked, parse
from babelpress.press.protected import NOTHING, Spare, most_used
from babelpress.prune import PRUNERS
from babelpress.quantize import QUANTIZERS
from babelpress.registry import Registry, taken

Weights = Mapping[str, Tensor]  # the linears of a site by name inside the block
Parts = Sequence[Tensor]  # inputs (G, S) that may change places within their lines, all alike
# With fewer tokens methods do worse on other text than those that look at none: Wanda and SparseGPT
# than magnitude, GPTQ than RTN (seen in the MLP of a block of babel-mini).
MIN_TOKENS = 32
MIN_TOKENS_AN_INPUT = 2  # for methods that adapt weights
FEW = 8  # inputs of a linear that is only tried
# what a method may read besides vectors
GRAM, LANGUAGES, AGAINST = "gram", "languages", "against"


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
    def skip(self) -> tuple[str, ...]: ...

    @property
    def needs_gram(self) -> bool:
        """Whether it reads Gram matrices."""
        ...

    @property
    def vectors(self) -> Sequence[str]:
        """The vectors of moments that it reads besides the squares and the largest."""
        ...

    @property
    def languages_apart(self) -> bool:
        """Whether it reads every language's own means."""
        ...

    @property
    def contrasts(self) -> bool:
        """Whether it reads the mean squares of a second text."""
        ...

    @property
    def scales(self) -> bool:
        """Whether it wants the inputs of a site scaled in the layer before."""
        ...

    @property
    def reorders(self) -> int:
        """Of how many inputs it wants groups in another order in the layer before; 0 of none."""
        ...

    def at(self, block: int) -> "Method":
        """The method as this block is to be pressed with."""
        ...

    def skips(self, site: Site) -> bool:
        """Whether `--skip` named this site."""
        ...

    def enough(self, site: Site, tokens: int) -> bool:
        """Whether an expert that saw so many tokens can be pressed."""
        ...

    @property
    def narrowest(self) -> int:
        """Inputs of a small linear that it can treat."""
        ...

    def check(self, shape: tuple[int, int], where: str) -> None:
        """Raise BadLayer, naming the place, for a linear (O, I) that it cannot treat."""
        ...

    def scale_inputs(self, weights: Weights, stats: Blend) -> Tensor:
        """What the inputs of the site should be divided by. Only where `scales`."""
        ...

    def order_inputs(self, weights: Weights, stats: Blend, parts_GS: Parts) -> Tensor:
        """The order (I,) that the inputs of the site should have. Only where `reorders`."""
        ...

    def press(self, weights: Weights, stats: Blend) -> Pressed:
        """New weights for the linears of one site."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Applied:
    """What pruners and quantizers share: options, the sites left alone, what the method reads.

    An expert that saw fewer than `min_tokens` tokens is left alone too.
    """

    METHODS: ClassVar[Registry]

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    skip: tuple[str, ...] = ()
    min_tokens: int | None = None

    def __post_init__(self) -> None:
        self.METHODS.check_options(self.name, self.options)

    @property
    def reads(self) -> tuple[str, ...]:
        """What the method declares that it reads."""
        return tuple(self.METHODS.facts(self.name).get("READS", ()))

    @property
    def needs_gram(self) -> bool:
        """Whether it reads Gram matrices."""
        return GRAM in self.reads

    @property
    def vectors(self) -> Sequence[str]:
        """The vectors of moments that it reads besides the squares and the largest."""
        return tuple(each for each in self.reads if each not in (GRAM, LANGUAGES, AGAINST))

    @property
    def contrasts(self) -> bool:
        """Whether it reads the mean squares of a second text."""
        return AGAINST in self.reads

    def skips(self, site: Site) -> bool:
        """Whether `--skip` named this site."""
        return any(site.matches(pattern) for pattern in self.skip)

    def enough(self, site: Site, tokens: int) -> bool:
        """Whether an expert that saw so many tokens can be pressed."""
        return tokens >= self.fewest(site)

    def fewest(self, site: Site) -> int:
        """The fewest tokens on which an expert is pressed: `min_tokens`, or what is known.

        A Gram matrix of few tokens has directions that hardly any token has, and what is done to
        them costs nothing: weights would be fitted to those very tokens.
        """
        if self.min_tokens is not None:
            return max(1, self.min_tokens)
        adapts = self.METHODS.facts(self.name).get("ADAPTS", False)
        return max(MIN_TOKENS, MIN_TOKENS_AN_INPUT * site.inputs if adapts else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruner(_Applied):
    """A pruning method with its options and pattern.

    `allocated` are the patterns of linears by block and by name inside it, where a rule gave them
    other ones than `pattern`; `patterns` are those of the block at hand. `protected` is what stays
    of linears by block and name, `spared` that of the block at hand; `used` is the share of every
    site's inputs that stays, by the language that they are largest in.
    """

    METHODS: ClassVar = PRUNERS

    pattern: Plain
    protected: Mapping[int, Mapping[str, Spare]] = field(default_factory=dict)
    spared: Mapping[str, Spare] = field(default_factory=dict)
    used: Mapping[str, float] = field(default_factory=dict)
    allocated: Mapping[int, Mapping[str, Plain]] = field(default_factory=dict)
    patterns: Mapping[str, Plain] = field(default_factory=dict)

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
        check_permute(name, options or {}, pattern)
        return cls(
            name=name,
            pattern=parse(pattern),
            options=dict(options or {}),
            skip=tuple(skip),
            min_tokens=min_tokens,
        )

    @property
    def scales(self) -> bool:
        """Never: what goes does not depend on the scale of inputs and weights together."""
        return False

    @property
    def reorders(self) -> int:
        """The m of keep n of m, where the method has the option `permute` and it is set."""
        able = self.METHODS.defines(self.name, "order_inputs") and self.options.get("permute")
        return self.pattern.of if able and isinstance(self.pattern, KeepOf) else 0

    @property
    def languages_apart(self) -> bool:
        """Whether it reads every language's own means."""
        return LANGUAGES in self.reads or bool(self.used)

    def at(self, block: int) -> "Pruner":
        """With the patterns of this block, and what stays of it."""
        if block not in self.allocated and block not in self.protected:
            return self
        return replace(
            self,
            allocated={},
            patterns=self.allocated.get(block, {}),
            protected={},
            spared=self.protected.get(block, {}),
        )

    @property
    def narrowest(self) -> int:
        """Inputs of a small linear that the pattern fits."""
        return self.pattern.of if isinstance(self.pattern, KeepOf) else FEW

    def check(self, shape: tuple[int, int], where: str) -> None:
        """Raise BadLayer, naming the place, for a linear (O, I) that the pattern does not fit."""
        try:
            self.pattern.count(*shape)
        except BadLayer as error:
            raise BadLayer(f"{where} (of {shape[1]} inputs): {error}") from error

    def scale_inputs(self, weights: Weights, stats: Blend) -> Tensor:
        """Never asked for."""
        raise AssertionError(f"{self.name} scales nothing ({len(weights)} linears, {stats.where})")

    def order_inputs(self, weights: Weights, stats: Blend, parts_GS: Parts) -> Tensor:
        """The order that the inputs of the site should have. Only where `reorders`."""
        order = self.METHODS.optional(self.name, "order_inputs")
        assert order is not None
        pattern = self.patterns.get(next(iter(weights)), self.pattern)
        stacked_OI = torch.cat(list(weights.values()))
        return order(stacked_OI, stats, pattern, parts_GS, **taken(order, self.options))

    def press(self, weights: Weights, stats: Blend) -> Pressed:
        """New weights for the linears of one site; exact counts in each linear."""
        apply = self.METHODS.get(self.name)
        options = taken(apply, self.options)
        patterns = {
            name: self._pattern(name, weight_OI, stats) for name, weight_OI in weights.items()
        }
        if not self.METHODS.facts(self.name).get("STACKS", False):
            new = {
                name: apply(weight_OI, stats, patterns[name], **options)
                for name, weight_OI in weights.items()
            }
            return Pressed(new, {})
        rows = _rows(weights)
        stacked = Stacked(tuple(patterns.values()), rows)
        new_OI = apply(torch.cat(list(weights.values())), stats, stacked, **options)
        return Pressed(dict(zip(weights, new_OI.split(rows), strict=True)), {})

    def _pattern(self, name: str, weight_OI: Tensor, stats: Blend) -> Plain | Spared:
        """That of a linear; BadLayer names the place of one where too little may go."""
        plain, spare = self.patterns.get(name, self.pattern), self.spared.get(name, NOTHING)
        columns = spare.columns
        for language, share in self.used.items():
            columns |= most_used(stats.own_mean_square_I(language), share, plain, columns)
        if not (spare.rows or columns):
            return plain
        pattern = Spared(plain, spare.rows, columns)
        try:
            pattern.count(*weight_OI.shape)
        except BadLayer as error:
            raise BadLayer(f"{stats.where} ({name}): {error}") from error
        return pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantizer(_Applied):
    """A quantization method with its options and grid.

    With `keep_zeros` a weight that is zero stays exactly zero. `grids` are those of blocks that
    have another one than `grid`.
    """

    METHODS: ClassVar = QUANTIZERS

    grid: Grid
    keep_zeros: bool = True
    grids: Mapping[int, Grid] = field(default_factory=dict)

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
        return cls(
            name=name,
            grid=grid,
            options=dict(options or {}),
            skip=tuple(skip),
            keep_zeros=keep_zeros,
            min_tokens=min_tokens,
        )

    @property
    def scales(self) -> bool:
        """Whether it wants the inputs of a site scaled in the layer before."""
        return self.METHODS.optional(self.name, "scale_inputs") is not None

    @property
    def languages_apart(self) -> bool:
        """Whether it reads every language's own means."""
        return LANGUAGES in self.reads

    def at(self, block: int) -> "Quantizer":
        """With the grid of this block."""
        return replace(self, grid=self.grids.get(block, self.grid), grids={})

    @property
    def narrowest(self) -> int:
        """Inputs of a small linear that the group divides."""
        return FEW if isinstance(self.grid.group, str) else self.grid.group

    def check(self, shape: tuple[int, int], where: str) -> None:
        """Raise BadLayer, naming the place, for a linear (O, I) that the group does not divide."""
        self.grid.width(shape[1], where)

    @property
    def reorders(self) -> int:
        """Never: what is rounded does not depend on the order of inputs, but for their groups."""
        return 0

    def order_inputs(self, weights: Weights, stats: Blend, parts_GS: Parts) -> Tensor:
        """Never asked for."""
        raise AssertionError(
            f"{self.name} reorders nothing ({len(weights)} linears, {stats.where}, {len(parts_GS)})"
        )

    def scale_inputs(self, weights: Weights, stats: Blend) -> Tensor:
        """What the inputs of the site should be divided by. Only where `scales`."""
        scale = self.METHODS.optional(self.name, "scale_inputs")
        assert scale is not None
        stacked_OI = torch.cat(list(weights.values()))
        return scale(stacked_OI, stats, self.grid, **taken(scale, self.options))

    def press(self, weights: Weights, stats: Blend) -> Pressed:
        """Codes for the linears of one site, all solved together, and what they stand for."""
        apply = self.METHODS.get(self.name)
        stacked_OI = torch.cat(list(weights.values()))
        keep_OI = stacked_OI != 0 if self.keep_zeros else torch.ones_like(stacked_OI).bool()
        options = taken(apply, self.options)
        codes = apply(stacked_OI, stats, self.grid, keep_OI, **options).split(_rows(weights))
        named = dict(zip(weights, codes, strict=True))
        return Pressed({name: each.dequantize() for name, each in named.items()}, named)


def _rows(weights: Weights) -> tuple[int, ...]:
    return tuple(len(weight_OI) for weight_OI in weights.values())
