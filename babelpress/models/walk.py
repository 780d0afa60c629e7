"""Walk the blocks of a model: feed each one what the one before gave, and name its linears.

With stacks.py, linears.py, sites.py and experts.py the only files that know how transformers
arranges modules. A model is seen as an embedding, a list of blocks of one class that each read what
the one before gave, and a head. Nothing goes by names: blocks are the largest list of equal modules
that hold linear layers; a *site* is the set of linears of a block that were seen to receive the
same tensor. A block that a pass runs several times in a
row, as ALBERT does, is one block: to run it is to run it as often. Each linear of each stacked
expert is a site, since experts read rows of their own; routers are no linears (experts.py).

An encoder-decoder has two such lists, stacks. Where that of the encoder ends, that of the decoder
begins with other text; its blocks read what the encoder made besides: keys and values of their
cross attention are a site of their own, whose rows are the source's.

Shapes: B sequences, S positions of a source, T positions, H hidden size, O outputs, I inputs of a
linear, R rows seen.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import LongTensor, Tensor, nn
from transformers import PreTrainedModel

from babelpress.errors import BadModel
from babelpress.models import experts
from babelpress.models.experts import Slice
from babelpress.models.handed import Handing, Hidden, Own, kept, own_of
from babelpress.models.linears import Linear, linears
from babelpress.models.reading import sees_both_sides
from babelpress.models.recording import (
    Recording,
    hidden_of,
    reading_text,
    run_decoder,
    run_encoder,
    run_text,
    tried_texts,
)
from babelpress.models.sides import Ahead, Reading, Source
from babelpress.models.sites import FEW, Site, find_sites, hooked
from babelpress.models.stacks import Stack, find_stacks
from babelpress.system.offload import Hold, in_memory

# ---- blocks --------------------------------------------------------------------------------


class _Stop(Exception):
    """Ends a forward pass once what it was made for is known."""


class Walk:
    """A model as blocks that can be run one at a time.

    `start` gives the hidden states before the first block; `forward` runs one block with the
    arguments that the model itself would give it: what depends on the shape of a batch (masks,
    positions, rotary tables, ALiBi) is recorded once for each shape, what depends on its tokens or
    comes from blocks before is brought along by the hidden states (handed.py).

    Raises BadModel where the blocks cannot be found, do not read one another's output in order, or
    are handed something that cannot be followed (recording.py). A model without weights, on the
    meta device, can be looked at and not be run: only the first of these is known of it.
    """

    def __init__(self, model: PreTrainedModel):
        self.model = model
        with reading_text(model):
            self.stacks = find_stacks(model)
            self.blocks = [block for stack in self.stacks for block in stack.blocks]
            self._runs = (run_encoder, run_decoder) if len(self.stacks) > 1 else (run_text,)
            if model.device.type != "meta":
                self._recordings = [self._recorded(number) for number in range(len(self.stacks))]

    def _recorded(self, number: int) -> Recording:
        before = sum(len(stack.blocks) for stack in self.stacks[:number])
        return Recording(
            self.model,
            self.stacks[number].blocks,
            lambda index: self.name(before + index),
            self._runs[number],
            tried_texts(self.model, number),
        )

    @cached_property
    def both_sides(self) -> bool:
        """Whether a position reads those after it too, as in an encoder."""
        return sees_both_sides(self.model)

    def name(self, index: int, inside: str = "") -> str:
        """The name of a block in the whole model, or of something inside it."""
        for stack in self.stacks:
            if index < len(stack.blocks):
                place = f"{stack.path}.{index}"
                return f"{place}.{inside}" if inside else place
            index -= len(stack.blocks)
        raise IndexError(index)

    def beside(self, name: str) -> bool:
        """Whether something with this name in the whole model is no part of what reads text.

        Of a model that also sees images that is all but its language model and its head.
        """
        head = self.model.get_output_embeddings()
        parts = [stack.path.rpartition(".")[0] for stack in self.stacks]
        inside = any(name.startswith(f"{part}.") for part in parts)
        return not inside and self.model.get_submodule(name) is not head

    def index_of(self, name: str) -> int | None:
        """The block that something with this name in the whole model is in; None outside all."""
        before = 0
        for stack in self.stacks:
            if name.startswith(f"{stack.path}."):
                return before + int(name.removeprefix(f"{stack.path}.").partition(".")[0])
            before += len(stack.blocks)
        return None

    def only(self, blocks: int) -> "Walk":
        """A walk that ends after so many blocks of the first stack, for who does all blocks."""
        walk = copy(self)
        first = self.stacks[0]
        walk.stacks = (Stack(first.path, first.blocks[:blocks]),)
        walk.blocks = list(walk.stacks[0].blocks)
        return walk

    def start(
        self, ids_BT: LongTensor | Tensor, hold: Hold = in_memory, source: Source | None = None
    ) -> Hidden:
        """Hidden states (B, T, H) that enter the first block; `hold` says where they lie.

        An encoder-decoder reads a `source`, and `ids_BT` is what its decoder reads; without one the
        text is its own source, and the decoder reads it but for the last token.
        """
        if len(self.stacks) == 1:
            return self._enter(0, Reading(ids_BT), hold)
        if source is None:
            source, ids_BT = Source.whole(ids_BT), ids_BT[:, :-1]
        ahead = Ahead(source, ids_BT)
        return self._enter(0, Reading(source.ids_BS, source.there_BS), hold, ahead)

    def _enter(
        self, number: int, reading: Reading, hold: Hold, ahead: Ahead | None = None
    ) -> Hidden:
        """Hidden states that enter the first block of a stack."""
        recording, run = self._recordings[number], self._runs[number]
        if recording.of_tokens:
            hidden_BTH, calls = recording.of_batch(reading)
            own = Own(reading.shape, kept(calls, hold, {}), ahead=ahead)
            return Hidden.of(hold(hidden_BTH), own)
        found: list[Tensor] = []

        def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append(hidden_of(args, kwargs))
            raise _Stop

        first = self.stacks[number].blocks[0].register_forward_pre_hook(catch, with_kwargs=True)
        with hooked([first]), suppress(_Stop):
            run(self.model, reading)
        return Hidden.of(hold(found[0]), Own(reading.shape, ahead=ahead))

    def forward(self, index: int, hidden_BTH: Tensor, hold: Hold = in_memory) -> Hidden:
        """What enters the block after `index`, of hidden states (B, T, H) that enter that.

        `hold` says where it lies. Raises BadModel where the block changes in place what it was
        handed.
        """
        return self.onward(index, self.run(index, hidden_BTH, hold), hold)

    def onward(self, index: int, hidden_BTH: Hidden, hold: Hold = in_memory) -> Hidden:
        """What enters the next block, of what block `index` gave: the same, inside a stack.

        Where an encoder ends it is what its decoder begins with. The whole model is changed
        meanwhile: whoever runs batches side by side comes here afterwards.
        """
        number, inside = self._place(index)
        ends = inside + 1 == len(self.stacks[number].blocks)
        ahead = own_of(hidden_BTH).ahead
        if not ends or ahead is None or number + 1 == len(self.stacks):
            return hidden_BTH
        source = ahead.source
        reading = Reading(source.ids_BS, source.there_BS)
        encoded_BSH = self._recordings[number].ended(reading, hidden_BTH.as_subclass(Tensor))
        further = Reading(ahead.ids_BT, None, encoded_BSH, source.there_BS)
        return self._enter(number + 1, further, hold)

    @contextmanager
    def ending(self, hidden_BTH: Tensor) -> Iterator[None]:
        """Inside, the model runs no block, and its last gives these hidden states (B, T, H).

        What it says of the batch that they are of is then what it says of them. Not of an
        encoder-decoder, whose encoder would run.
        """
        with self._recordings[-1].ending(hidden_BTH.as_subclass(Tensor)):
            yield

    def _place(self, index: int) -> tuple[int, int]:
        """The number of the stack of a block, and the block's place in it."""
        for number, stack in enumerate(self.stacks):
            if index < len(stack.blocks):
                return number, index
            index -= len(stack.blocks)
        raise IndexError(index)

    def run(self, index: int, hidden_BTH: Tensor, hold: Hold = in_memory) -> Hidden:
        """What block `index` makes of hidden states (B, T, H): `forward` but for `onward`."""
        self.prepare(index, hidden_BTH)
        *before, last = self._calls(index)
        for call in before:
            hidden_BTH = self._run(index, call, hidden_BTH, in_memory)
        return self._run(index, last, hidden_BTH, hold)

    def _calls(self, index: int) -> list[int]:
        """The numbers of a block's calls in a pass of its stack."""
        number, inside = self._place(index)
        return self._recordings[number].runs[inside]

    def _run(self, index: int, now: int, hidden_BTH: Tensor, hold: Hold) -> Hidden:
        """What block `index` makes of hidden states in the call of its stack numbered `now`."""
        number, inside = self._place(index)
        recording = self._recordings[number]
        own, bare_BTH = own_of(hidden_BTH), hidden_BTH.as_subclass(Tensor)
        call = {**recording.call(now, own.shape), **own.calls.get(now, {})}
        handing, version = Handing(call, own), bare_BTH._version
        with experts.computed(self.blocks[index]):
            output = self.blocks[index](bare_BTH, *handing.args, **handing.kwargs)
        if handing.changed() or bare_BTH._version != version:
            raise BadModel(
                f"{self.name(index)} changes in place what it is handed: "
                f"{type(self.model).__name__} cannot be walked block by block."
            )
        wanted = [each for each, last in recording.wanted.items() if last > now]
        given = {each: own.given[each] for each in wanted if each.call < now}
        for each in wanted:
            if each.call == now:
                given[each] = kept(_output(output, each.output), hold, {})
        calls = {at: call for at, call in own.calls.items() if at > now}
        written = handing.written(hold)
        recording.check_written(inside, written)
        passed = replace(own, calls=calls, given=given, written=written)
        return Hidden.of(hold(_first(output)), passed)

    @contextmanager
    def reaching(self, index: int, last: Linear) -> Iterator[Callable[[Tensor], None]]:
        """Inside, a function runs block `index` until its linear that runs last has its input.

        Experts are run to the end, for nobody knows which of them is the last; so is a block that
        runs several times.
        """

        def run(hidden_BTH: Tensor) -> None:
            with suppress(_Stop):
                self.run(index, hidden_BTH)

        with ExitStack() as stack:
            once = self.times(index) == 1 and not self.has_experts(index)
            if once and isinstance(last, nn.Module):
                stack.callback(last.register_forward_pre_hook(_stop).remove)
            yield run

    def times(self, index: int) -> int:
        """How often a pass runs a block."""
        return len(self._calls(index))

    def has_experts(self, index: int) -> bool:
        """Whether a block has stacked experts, of which a token reaches only some."""
        return any(isinstance(each, Slice) for each in linears(self.blocks[index]).values())

    def sites(self, index: int, hidden_BTH: Tensor) -> list[Site]:
        """The sites of block `index`, by seeing which linears receive the same tensor.

        The first positions of the first sequence are enough, where nothing else belongs to them.
        """
        few_BTH = hidden_BTH[:1, :FEW] if own_of(hidden_BTH).plain else hidden_BTH
        self.prepare(index, few_BTH)
        place = self.name(index).rpartition(".")[0]
        return find_sites(
            self.blocks[index],
            lambda: self.run(index, few_BTH),
            place,
            lambda: self.run(index, _other(few_BTH)),
            times=self.times(index),
        )

    def prepare(self, index: int, hidden_BTH: Tensor) -> None:
        """Record what a block is handed with batches of this shape, where it is not known yet.

        The whole model is changed meanwhile: whoever runs batches side by side prepares all shapes
        first.
        """
        self._recordings[self._place(index)[0]].prepare(own_of(hidden_BTH).shape)


def _other(hidden_BTH: Tensor) -> Hidden:
    """A batch of noise: other hidden states, and another encoding where one belongs to it."""
    lot, own = torch.Generator().manual_seed(0), own_of(hidden_BTH)

    def noise(value: Any) -> Any:
        states = isinstance(value, Tensor) and value.is_floating_point()
        if not states or value.shape[-1:] != hidden_BTH.shape[-1:]:
            return value
        return torch.randn(value.shape, generator=lot).to(value)

    calls = {at: {key: noise(each) for key, each in call.items()} for at, call in own.calls.items()}
    return Hidden.of(noise(hidden_BTH.as_subclass(Tensor)), replace(own, calls=calls))


def _stop(*_: Any) -> None:
    raise _Stop


def _first(output: Any) -> Tensor:
    return _output(output, 0)


def _output(output: Any, number: int) -> Any:
    return output[number] if isinstance(output, tuple | list) else output
