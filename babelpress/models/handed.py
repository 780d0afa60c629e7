"""What a model hands a block besides hidden states: boxed when seen, compared, opened again.

Most of it depends on the shape of a batch alone: masks, positions, rotary tables. Some depends on
its tokens, as Gemma 4's inputs for every layer or DeepSeek V4's ids: that belongs to the batch.
Some comes from other blocks: a later block is handed what an earlier one returned, as GLM 5's
indices, or what it wrote into a container that all are handed, as Gemma 4's shared keys and values.
That belongs to the batch too, and is as the blocks before computed it, pressed or dense.

Shapes: B sequences, T positions, H hidden size.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from copy import copy
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from babelpress.models.sides import Ahead
from babelpress.system.offload import Hold

Call = Mapping[int | str, Any]
"""Boxed arguments of a block: by place, counted after the hidden states, or by name."""

# What can be compared, kept and handed over again.
PLAIN = (int, float, str, bytes, Enum, torch.dtype, torch.device, torch.Size, type(None))


@dataclass(frozen=True, slots=True)
class Given:
    """Stands for what a call of a block returned: `output` 0 is its hidden states."""

    call: int
    output: int


@dataclass(frozen=True, eq=False, slots=True)
class Box:
    """A list or mapping that blocks are handed and may write into; itself whichever block it is.

    `empty` is of its class, `contents` are by key, or by place in a list.
    """

    empty: Any
    contents: dict[Any, Any]


# ---- hidden states of a batch --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Own:
    """What belongs to one batch besides its hidden states.

    `shape` is that of its ids, `calls` the arguments of calls to come that depend on its tokens,
    `given` and `written` what blocks before returned and wrote for blocks to come; all of one stack
    of blocks. `ahead` is what another stack is to read afterwards.
    """

    shape: torch.Size
    calls: Mapping[int, Call] = field(default_factory=dict)
    given: Mapping[Given, Any] = field(default_factory=dict)
    written: Mapping[Box, dict[Any, Any]] = field(default_factory=dict)
    ahead: Ahead | None = None

    @property
    def plain(self) -> bool:
        """Whether all depends on the shape: then other hidden states would do as well."""
        return not (self.calls or self.given or self.written)

    def handed_on(self) -> list[Tensor]:
        """What blocks before have for blocks to come."""
        return list(tensors([*self.given.values(), *self.written.values()]))


class Hidden(Tensor):
    """Hidden states (B, T, H) that enter a block, with what else belongs to their batch.

    What is computed from them is an ordinary tensor.
    """

    own: Own
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def of(cls, hidden_BTH: Tensor, own: Own) -> "Hidden":
        """Hidden states of a batch; no number is copied."""
        made = hidden_BTH.as_subclass(cls)
        made.own = own
        return made

    def bytes(self) -> int:
        """Bytes of all that the batch brings along."""
        calls = [*self.own.calls.values()]
        others = {each.data_ptr(): each.nbytes for each in tensors(calls)}
        others |= {each.data_ptr(): each.nbytes for each in self.own.handed_on()}
        return self.nbytes + sum(others.values())


def own_of(hidden_BTH: Tensor) -> Own:
    """What belongs to the batch: for a bare tensor, all depends on its shape."""
    return getattr(hidden_BTH, "own", None) or Own(hidden_BTH.shape[:2])


# ---- seen and compared ---------------------------------------------------------------------


def boxed(value: Any, given: Mapping[int, Given], boxes: dict[int, Box]) -> Any:
    """A value as a block was handed it, now: containers may change afterwards.

    `given` knows by address what stands for outputs of blocks, `boxes` the containers seen before.
    """
    if isinstance(value, Tensor):
        return given.get(id(value), value)
    if isinstance(value, MutableMapping | list):
        if (box := boxes.get(id(value))) is None:
            box = boxes[id(value)] = Box(_emptied(value), {})
            box.contents.update((key, boxed(each, given, boxes)) for key, each in items(value))
        return box
    if type(value) is tuple:
        return tuple(boxed(each, given, boxes) for each in value)
    return value


def unknown(*values: Any) -> type | None:
    """The first type inside that nobody knows how to compare and to keep; None where all are."""
    known = (Tensor, Given, *PLAIN)
    for each in _leaves(values):
        if not isinstance(each, known) and not callable(each):  # parts of the model are
            return type(each)
    return None


def same(one: Any, other: Any) -> bool:
    """Whether two boxed values hold the same."""
    if isinstance(one, Tensor):
        alike = isinstance(other, Tensor) and one.dtype == other.dtype
        return alike and torch.equal(one, other)
    if isinstance(one, Box):
        alike = isinstance(other, Box) and type(one.empty) is type(other.empty)
        return alike and _same_items(one.contents, other.contents)
    if type(one) is tuple:
        alike = type(other) is tuple and len(one) == len(other)
        return alike and all(map(same, one, other))
    if one is other:
        return True
    return type(one) is type(other) and isinstance(one, (Given, *PLAIN)) and one == other


def _same_items(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors inside a value."""
    return (each for each in _leaves(value) if isinstance(each, Tensor))


def givens(value: Any) -> Iterator[Given]:
    """All that stands for outputs of blocks inside a value."""
    return (each for each in _leaves(value) if isinstance(each, Given))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Box):
        value = value.contents
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list | tuple) or isinstance(value, torch.Size):
        yield value
        return
    for each in value:
        yield from _leaves(each)


# ---- kept and handed over ------------------------------------------------------------------


def kept(value: Any, hold: Hold, done: dict[int, Any]) -> Any:
    """Boxed values whose tensors lie where `hold` puts them; `done` are those that do already.

    A tensor that is a view is copied: what it is a part of may go.
    """
    if isinstance(value, Tensor):
        if id(value) not in done:
            done[id(value)] = (hold(value.contiguous()), value)
        return done[id(value)][0]
    if isinstance(value, Box):
        if id(value) not in done:
            made = Box(value.empty, {})
            done[id(value)] = (made, value)
            made.contents.update((k, kept(v, hold, done)) for k, v in value.contents.items())
        return done[id(value)][0]
    if isinstance(value, dict):
        return {key: kept(each, hold, done) for key, each in value.items()}
    if type(value) is tuple:
        return tuple(kept(each, hold, done) for each in value)
    return value


class Handing:
    """Hands one block what it is to get, and sees what it writes into containers meanwhile."""

    def __init__(self, call: Call, own: Own):
        self._own = own
        self._made: dict[Box, tuple[Any, dict[Any, Any]]] = {}
        opened = {key: self._open(value) for key, value in call.items()}
        self.args = tuple(opened[key] for key in sorted(k for k in opened if isinstance(k, int)))
        self.kwargs = {key: value for key, value in opened.items() if isinstance(key, str)}
        self._before = [(each, each._version) for each in tensors([self.args, self.kwargs])]

    def _open(self, value: Any) -> Any:
        if isinstance(value, Given):
            return self._own.given.get(value)
        if type(value) is tuple:
            return tuple(map(self._open, value))
        if not isinstance(value, Box):
            return value
        if value not in self._made:
            container = copy(value.empty)
            self._made[value] = (container, {})
            for key, each in self._own.written.get(value, value.contents).items():
                _put(container, key, self._open(each))
            self._made[value][1].update(items(container))
        return self._made[value][0]

    def changed(self) -> bool:
        """Whether a tensor that was handed over is another now."""
        return any(each._version != version for each, version in self._before)

    def written(self, hold: Hold) -> dict[Box, dict[Any, Any]]:
        """The contents of all containers that any block wrote into, this one included."""
        found = dict(self._own.written)
        for box, (container, before) in self._made.items():
            after = dict(items(container))
            if after.keys() == before.keys() and all(after[k] is before[k] for k in after):
                continue
            old, done = self._own.written.get(box, box.contents), {}
            found[box] = {
                key: old[key]
                if key in before and each is before[key]
                else kept(boxed(each, {}, {}), hold, done)
                for key, each in after.items()
            }
        return found


def items(container: Any) -> Iterator[tuple[Any, Any]]:
    """Key and value of all that is in a list or mapping."""
    return iter(enumerate(container) if isinstance(container, list) else container.items())


def _emptied(container: Any) -> Any:
    made = copy(container)
    made.clear()
    return made


def _put(container: Any, key: Any, value: Any) -> None:
    if isinstance(container, list):
        container.append(value)
    else:
        container[key] = value
