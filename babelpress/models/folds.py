"""Folds: where the inputs of a site can be divided by a scale in the layer before it.

Found by running, never by names. The block runs in float32; a layer that ran before the site has
its outputs divided by random numbers, the weights of the site are multiplied by them, and only
where the output of the block stays as it was, and whatever else later blocks are handed, is it a
fold. A norm whose output has other readers,
or an activation that is not linear in what it is given, shows in the output and is refused.

For a linear the run also tells which of its rows an input of the site hangs on: its outputs are
replaced by noise, then by the same noise times a factor that only one row has, and the factor is
read off the input. The first position attends to nothing but itself, so there attention passes
values through unmixed, whatever queries and keys became: that finds the values in a fused
projection, and the rows that grouped queries share. In a model that reads on both sides no position
does; there all positions get the same noise, which stays what it is however they are mixed.

Experts all compute alike, so what holds for one of a stack holds for all. Only the linear before,
of the same expert, is tried.

Shapes: B sequences, T positions, H hidden size; I inputs of a site, R outputs of the layer before
it, P positions of all sequences, first positions first.
"""

import math
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from babelpress.models.experts import Slice
from babelpress.models.handed import Hidden, items, own_of
from babelpress.models.linears import Linear, linears, set_weight, weight
from babelpress.models.sites import Site
from babelpress.models.walk import Walk

# What a fold may leave of the change that multiplying the site's weights alone makes. Rounding in
# float32 leaves some 1e-6 of it, a wrong fold about all.
LEFT = 1e-4
DRAWS = 8  # of noise that is the same at all positions: a rectified input may be zero in one
SPREAD = 0.5  # random scales are from exp(-SPREAD) to exp(SPREAD)
MARKS = (0.1, 0.8)  # factors that mark rows: logarithms; none is zero, the factor of no change
MISREAD = 3e-6  # a logarithm of a factor is read to within this


@dataclass(frozen=True, slots=True)
class Fold:
    """A layer of a block in which the inputs of a site can be divided.

    `module` is its name in the block: a norm that multiplies by its weight (`offset`: by one more
    than its weight), or a linear. `rows_I` is the output of it that every input of the site is
    proportional to; inputs on the same row can only be divided by the same number.
    """

    site: str
    module: str
    offset: bool
    rows_I: Tensor = field(compare=False)

    def pooled(self, scale_I: Tensor) -> Tensor:
        """Geometric means over the inputs that share a row, in the dtype of `scale_I`.

        To search among scales that can be folded, pool the means that they are made of.
        """
        rows_I = self.rows_I.to(scale_I.device)
        sum_R = scale_I.new_zeros(int(rows_I.max()) + 1, dtype=torch.float64)
        count_R = torch.zeros_like(sum_R).index_add_(0, rows_I, sum_R.new_ones(len(rows_I)))
        sum_R.index_add_(0, rows_I, scale_I.double().log())
        return (sum_R / count_R).exp()[rows_I].to(scale_I.dtype)

    def divisor(self, scale_I: Tensor, outputs: int) -> Tensor:
        """What every output of the layer is divided by: 1 where it is no input of the site.

        `scale_I` must be equal where inputs share a row, as `pooled` makes it.
        """
        rows_I = self.rows_I.to(scale_I.device)
        divisor_R = scale_I.new_ones(outputs).index_copy_(0, rows_I, scale_I)
        assert torch.equal(divisor_R[rows_I], scale_I), "scales of a shared row differ"
        return divisor_R

    @torch.no_grad()
    def apply(self, block: nn.Module, scale_I: Tensor) -> Tensor:
        """Divide in the layer; the site's weights are not touched.

        Weights are divided in float32 and rounded once. Returns the scale that the site's weights
        are to be multiplied by: that of the rounded weights of a norm, else `scale_I`.
        """
        if (linear := linears(block).get(self.module)) is not None:
            rows_RI = weight(linear).float()
            divisor_R = self.divisor(scale_I, len(rows_RI)).to(rows_RI.device)
            set_weight(linear, rows_RI / divisor_R[:, None])
            _divide(linear, "bias", divisor_R)
            return scale_I
        norm: Any = block.get_submodule(self.module)
        rounded_I = self._divide_norm(norm.weight, scale_I.to(norm.weight.device))
        _divide(norm, "bias", rounded_I)
        return rounded_I.to(scale_I.device)

    def _divide_norm(self, weight_I: Tensor, scale_I: Tensor) -> Tensor:
        extra = float(self.offset)
        gain_I = weight_I.float() + extra
        new_I = (gain_I / scale_I - extra).to(weight_I.dtype)
        new_gain_I = new_I.float() + extra
        # A gain that is zero, or was rounded to it, stands for no scale: it stays.
        gone_I = new_gain_I == 0
        weight_I.copy_(weight_I.where(gone_I, new_I))
        return (gain_I / new_gain_I).masked_fill(gone_I, 1)


def _divide(layer: Linear, name: str, divisor_R: Tensor) -> None:
    if isinstance(layer, Slice):
        return  # folds are only found where experts have no biases
    parameter = dict(layer.named_parameters(recurse=False)).get(name)
    if parameter is not None:
        parameter.copy_(parameter.float() / divisor_R)


@torch.no_grad()
def find_folds(walk: Walk, index: int, hidden_BTH: Tensor) -> dict[str, Fold]:
    """The fold of every site of block `index` that has one, by the site's name.

    Some twenty passes of the block over `hidden_BTH`, the hidden states that enter it; one short
    sequence is enough. Needs the block once more in float32. The model is left as it was, bit for
    bit.
    """
    with probing(walk, index, hidden_BTH) as (probe, sites):
        found = {site.name: probe.fold(site) for site in sites}
    return {name: fold for name, fold in found.items() if fold}


@contextmanager
def probing(walk: Walk, index: int, hidden_BTH: Tensor) -> Iterator[tuple["Probe", Sequence[Site]]]:
    """Inside, block `index` is in float32 and can be run with something changed; its sites."""
    walk.prepare(index, hidden_BTH)
    sites = walk.sites(index, hidden_BTH)
    block, exact_BTH = walk.blocks[index], Hidden.of(hidden_BTH.float(), own_of(hidden_BTH))

    def run() -> list[Tensor]:
        passed_BTH = walk.run(index, exact_BTH)
        return [passed_BTH, *passed_BTH.own.handed_on()]

    mixed = walk.both_sides
    with _in_float32(block):
        yield Probe(block, run, len(hidden_BTH), mixed=mixed), sites


class Probe:
    """A block in float32 that can be run with something changed.

    `run` gives its output, and all that blocks to come are handed besides. Where attention is
    `mixed`, every position reads all others.
    """

    def __init__(
        self, block: nn.Module, run: Callable[[], list[Tensor]], sequences: int, *, mixed: bool
    ):
        self.block, self.run, self.sequences, self.mixed = block, run, sequences, mixed
        self.linears = linears(block)
        self.stacks: dict[nn.Module, Tensor | None] = {}  # rows that were found for an expert
        self.ran = self._order()
        self.outputs = run()

    def fold(self, site: Site) -> Fold | None:
        """The first that holds, from the layer that ran last before the site to the first."""
        if isinstance(linear := self.linears[site.linears[0]], Slice):
            return self._of_expert(linear, site)
        before = self.ran[: min(self.ran.index(name) for name in site.linears)]
        for name in reversed(before):
            for fold in self._ways(name, site):
                if self._holds(fold, site):
                    return fold
        return None

    def _of_expert(self, linear: Slice, site: Site) -> Fold | None:
        before = linear.before()
        if before is None or linear.experts.has_bias:
            return None
        if (stack := linear.experts) not in self.stacks:
            self.stacks[stack] = self._rows_of_stack(stack, site.inputs)
        rows_I = self.stacks[stack]
        names = {each: name for name, each in self.linears.items()}
        return None if rows_I is None else Fold(site.name, names[before], False, rows_I)

    def _rows_of_stack(self, stack: nn.Module, inputs: int) -> Tensor | None:
        """Which rows of an expert's first linear the inputs of its second are proportional to."""
        names = {each: name for name, each in self.linears.items()}
        for each, name in names.items():
            if not isinstance(each, Slice) or each.experts is not stack:
                continue
            if (before := each.before()) is None:
                continue
            site = Site(name, (name,), inputs)
            for rows_I in _orders(len(weight(before)), inputs):
                left, change = self._compare(Fold(name, names[before], False, rows_I), site)
                if left < LEFT * change:
                    return rows_I
                if not change:
                    break  # no token chose this expert
            else:
                return None
        return None

    def _order(self) -> list[str]:
        """Layers with a weight as they ran."""
        ran: dict[str, None] = {}

        def note(name: str) -> Any:
            def hook(*_: Any) -> None:
                ran.setdefault(name)

            return hook

        with ExitStack() as stack:
            for name, layer in self.block.named_modules():
                if "weight" in dict(layer.named_parameters(recurse=False)):
                    stack.callback(layer.register_forward_pre_hook(note(name)).remove)
            self.run()
        return list(ran)

    def _ways(self, name: str, site: Site) -> Iterator[Fold]:
        if name in self.linears:
            rows_I = self.rows(name, site)
            if rows_I is not None:
                yield Fold(site.name, name, False, rows_I)
            return
        gain: Any = self.block.get_submodule(name).weight
        if gain.shape == (site.inputs,):
            for offset in (False, True):
                yield Fold(site.name, name, offset, torch.arange(site.inputs))

    def _holds(self, fold: Fold, site: Site) -> bool:
        left, change = self._compare(fold, site)
        return left < LEFT * change

    def _compare(self, fold: Fold, site: Site) -> tuple[float, float]:
        """What is left of the change that random scales of the site's weights alone make."""
        random_I = torch.rand(site.inputs, generator=torch.Generator().manual_seed(0))
        scale_I = fold.pooled(((2 * random_I - 1) * SPREAD).exp())
        scale_I = scale_I.to(self.outputs[0].device)
        layers = [self.linears[name] for name in site.linears]
        before = self.linears.get(fold.module)
        if before is None:
            before = self.block.get_submodule(fold.module)
        with ExitStack() as stack:
            for module in {id(m): m for m in map(_module, (before, *layers))}.values():
                stack.enter_context(copied(module))
            for layer in layers:
                set_weight(layer, weight(layer) * scale_I)
            change = self.change()
            fold.apply(self.block, scale_I)
            left = self.change()
        return left, change

    def change(self) -> float:
        """How far the outputs are from those of the block as it was."""
        pairs = zip(self.run(), self.outputs, strict=True)
        return math.hypot(
            *(float(torch.linalg.vector_norm(a - b, dtype=torch.float64)) for a, b in pairs)
        )

    def rows(self, name: str, site: Site) -> Tensor | None:
        """The row of a linear that every input of the site is proportional to, if there is one."""
        outputs = len(weight(self.linears[name]))
        plain_PI = self._inputs(name, site, torch.ones(outputs))
        for part in _parts(outputs, site.inputs):
            mark_R = torch.ones(outputs)
            mark_R[part] = _marks(len(part)).exp().float()
            rows_I = _read(plain_PI, self._inputs(name, site, mark_R), part)
            if rows_I is not None:
                return rows_I
        return None

    def _inputs(self, name: str, site: Site, factor_R: Tensor) -> Tensor:
        """What a site receives when a linear gives noise times a factor for every row."""
        seen: list[Tensor] = []

        def replace(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            shape = list(output.shape)
            if self.mixed:
                shape[-2] = 1
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(len(seen)))
            return (noise * factor_R).expand(output.shape).to(output.device)

        def see(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            seen.append(args[0].double())

        with ExitStack() as stack:
            layer: Any = self.linears[name]
            stack.callback(layer.register_forward_hook(replace).remove)
            reader: Any = self.linears[site.linears[0]]
            stack.callback(reader.register_forward_pre_hook(see).remove)
            for _ in range(DRAWS if self.mixed else 1):
                self.run()
        x_BTI = torch.cat([x.reshape(self.sequences, -1, site.inputs) for x in seen])
        return x_BTI.transpose(0, 1).flatten(0, 1)


def _parts(outputs: int, inputs: int) -> Iterator[Tensor]:
    """Rows that are marked at once: all; then equal parts, of which only one may be proportional,
    as where a gate and what it gates are one linear."""
    every_R = torch.arange(outputs)
    yield every_R
    if outputs > inputs and outputs % inputs == 0:
        yield from every_R.split(inputs)


def _orders(outputs: int, inputs: int) -> Iterator[Tensor]:
    """Rows of a linear that as many inputs may hang on: equal parts, one after another or mixed."""
    every_R = torch.arange(outputs)
    if outputs % inputs == 0:
        yield from every_R.split(inputs)
        yield from every_R.view(inputs, -1).T


def _module(layer: Linear) -> nn.Module:
    return layer.experts if isinstance(layer, Slice) else layer


def _marks(count: int) -> Tensor:
    return torch.linspace(*MARKS, count, dtype=torch.float64)


def _read(plain_PI: Tensor, marked_PI: Tensor, part: Tensor) -> Tensor | None:
    """For every input the row whose factor it shows; None where one shows no row's factor."""
    # Rectified inputs are zero at many positions: an input is read where it first is not.
    first_1I = (plain_PI != 0).byte().argmax(0, keepdim=True)
    seen_I = (marked_PI.gather(0, first_1I) / plain_PI.gather(0, first_1I))[0].log().cpu()
    marks_R = _marks(len(part))
    after_I = torch.searchsorted(marks_R, seen_I - MISREAD).clamp(max=len(part) - 1)
    if not ((marks_R[after_I] - seen_I).abs() <= MISREAD).all():
        return None
    return part[after_I]


@contextmanager
def _in_float32(block: nn.Module) -> Iterator[None]:
    """A copy of the weights, and what the block is handed, in float32."""

    def cast(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        return _exact(args), {name: _exact(value) for name, value in kwargs.items()}

    with ExitStack() as stack:
        stack.callback(block.register_forward_pre_hook(cast, with_kwargs=True).remove)
        stack.enter_context(copied(block))
        yield


@contextmanager
def copied(module: nn.Module) -> Iterator[None]:
    """Inside, weights are float32 copies; after, they are the very tensors they were."""
    kept = [(each, each.data) for each in chain(module.parameters(), module.buffers())]
    try:
        for each, data in kept:
            each.data = _exact(data).clone()
        yield
    finally:
        for each, data in kept:
            each.data = data


def _exact(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.float()
    if isinstance(value, tuple):
        return tuple(_exact(each) for each in value)
    if isinstance(value, list | MutableMapping):  # in place, for whoever sees what is written there
        for key, each in list(items(value)):
            value[key] = _exact(each)
    return value
