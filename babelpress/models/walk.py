"""Walk the blocks of a model: feed each one what the one before gave, and name its linears.

With linears.py, sites.py and experts.py the only files that know how transformers arranges modules.
A model is seen as an embedding, a list
of blocks of one class that each read what the one before gave, and a head. Nothing goes by names:
blocks are the largest list of equal modules that hold linear layers; a *site* is the set of linears
of a block that were seen to receive the same tensor. Each linear of each stacked expert is a site,
since experts read rows of their own; routers are no linears (experts.py).

Shapes: B sequences, T positions, H hidden size, O outputs, I inputs of a linear, R rows seen.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import LongTensor, Tensor, nn
from transformers import PreTrainedModel

from babelpress.errors import BadModel
from babelpress.models import experts
from babelpress.models.experts import Slice
from babelpress.models.linears import Linear, linears
from babelpress.models.sites import FEW, Site, find_sites, hooked

DISTINCT = 200  # whole numbers that every dtype holds


# ---- blocks --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Call:
    """What a model hands a block besides the hidden states."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Stop(Exception):
    """Ends a forward pass once what it was made for is known."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Blocks of one class that each read what the one before gave, and the path of their list.

    A decoder has one stack; an encoder and a decoder would be two.
    """

    path: str
    blocks: tuple[nn.Module, ...]


class Walk:
    """A model as blocks that can be run one at a time.

    `start` gives the hidden states before the first block; `forward` runs one block with the
    arguments that the model itself would give it (masks, positions, rotary tables, ALiBi), which
    are recorded once for each batch shape. Raises BadModel where the blocks cannot be found, or
    do not read one another's output in order.
    """

    def __init__(self, model: PreTrainedModel):
        self.model = model
        self.stacks = find_stacks(model)
        self.blocks = [block for stack in self.stacks for block in stack.blocks]
        self._calls: dict[torch.Size, list[_Call]] = {}

    def name(self, index: int, inside: str = "") -> str:
        """The name of a block in the whole model, or of something inside it."""
        for stack in self.stacks:
            if index < len(stack.blocks):
                place = f"{stack.path}.{index}"
                return f"{place}.{inside}" if inside else place
            index -= len(stack.blocks)
        raise IndexError(index)

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

    def start(self, ids_BT: LongTensor | Tensor) -> Tensor:
        """Hidden states (B, T, H) that enter the first block."""
        found: list[Tensor] = []

        def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append(_hidden(args, kwargs))
            raise _Stop

        with hooked([self.blocks[0].register_forward_pre_hook(catch, with_kwargs=True)]):
            try:
                self._run(ids_BT)
            except _Stop:
                return found[0]
        raise BadModel(f"{type(self.model).__name__} never ran {self.name(0)}.")

    def forward(self, index: int, hidden_BTH: Tensor) -> Tensor:
        """What block `index` makes of hidden states (B, T, H)."""
        self.prepare(hidden_BTH)
        call = self._calls[hidden_BTH.shape[:2]][index]
        with experts.computed(self.blocks[index]):
            return _first(self.blocks[index](hidden_BTH, *call.args, **call.kwargs))

    @contextmanager
    def reaching(self, index: int, last: Linear) -> Iterator[Callable[[Tensor], None]]:
        """Inside, a function runs block `index` until its linear that runs last has its input.

        Experts are run to the end, for nobody knows which of them is the last.
        """

        def run(hidden_BTH: Tensor) -> None:
            with suppress(_Stop):
                self.forward(index, hidden_BTH)

        with ExitStack() as stack:
            if not self.has_experts(index) and isinstance(last, nn.Module):
                stack.callback(last.register_forward_pre_hook(_stop).remove)
            yield run

    def has_experts(self, index: int) -> bool:
        """Whether a block has stacked experts, of which a token reaches only some."""
        return any(isinstance(each, Slice) for each in linears(self.blocks[index]).values())

    def sites(self, index: int, hidden_BTH: Tensor) -> list[Site]:
        """The sites of block `index`, by seeing which linears receive the same tensor.

        The first positions of the first sequence are enough for that.
        """
        few_BTH = hidden_BTH[:1, :FEW]
        self.prepare(few_BTH)
        place = self.name(index).rpartition(".")[0]
        return find_sites(self.blocks[index], lambda: self.forward(index, few_BTH), place)

    def prepare(self, hidden_BTH: Tensor) -> None:
        """Record what blocks are handed with batches of this shape, where it is not known yet.

        That runs the first block: whoever looks into a block prepares all shapes first.
        """
        shape = hidden_BTH.shape[:2]
        if shape not in self._calls:
            self._calls[shape] = self._record(shape, hidden_BTH.device)

    def _run(self, ids_BT: Tensor) -> None:
        with torch.no_grad(), experts.computed(self.model):
            # padding comes last, so that no position that counts sees it
            self.model.base_model(ids_BT, attention_mask=torch.ones_like(ids_BT), use_cache=False)

    def _record(self, shape: torch.Size, device: torch.device) -> list[_Call]:
        """Further arguments of every block for batches of this shape.

        Blocks are handed them by the model itself, in a pass in which only the first block runs:
        each gives a number of its own in place of hidden states, which the next has to receive.
        """
        calls: list[_Call] = []
        given: list[Tensor] = []
        outputs: list[Any] = []

        def stand_in(block: nn.Module) -> Callable[..., Any]:
            run = block.forward

            def forward(*args: Any, **kwargs: Any) -> Any:
                hidden_BTH = _hidden(args, kwargs)
                if given and not torch.equal(given[-1], hidden_BTH):
                    raise BadModel(
                        f"{self.name(len(calls))} does not read what the block before it gave: "
                        f"{type(self.model).__name__} cannot be walked block by block."
                    )
                further = {k: v for k, v in kwargs.items() if v is not hidden_BTH}
                calls.append(_Call(args[1:], further))
                if not outputs:
                    outputs.append(run(*args, **kwargs))
                given[:] = [torch.full_like(hidden_BTH, 1 + len(calls) % DISTINCT)]
                first, rest = given[0], outputs[0]
                return (first, *rest[1:]) if isinstance(rest, tuple) else first

            return forward

        with _replaced({block: stand_in(block) for block in self.blocks}):
            self._run(torch.zeros(shape, dtype=torch.long, device=device))
        if len(calls) != len(self.blocks):
            places = " and ".join(stack.path for stack in self.stacks)
            raise BadModel(
                f"{places} has {len(self.blocks)} blocks, but a pass ran {len(calls)} of them."
            )
        return calls


def find_stacks(model: PreTrainedModel) -> tuple[Stack, ...]:
    """The stacks of a model: today the one list of equal modules that holds linear layers.

    Raises BadModel, saying what was found, when there is none or more than one.
    """
    found: dict[str, list[nn.Module]] = {}
    for path, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or not len(module):
            continue
        if any(path.startswith(f"{outer}.") for outer in found):
            continue  # experts or branches inside a block
        if len({type(child) for child in module}) == 1 and linears(module[0]):
            found[path] = list(module)
    if len(found) == 1:
        return tuple(Stack(path, tuple(blocks)) for path, blocks in found.items())
    seen = ", ".join(f"{path} ({len(b)} x {type(b[0]).__name__})" for path, b in found.items())
    missing = "one list of equal blocks with linear layers (nn.Linear or Conv1D)"
    raise BadModel(
        f"{type(model).__name__} cannot be walked: found {seen or 'no such list'}, "
        f"need {missing}. Encoder-decoders and unrepeated stacks are not supported yet."
    )


def _stop(*_: Any) -> None:
    raise _Stop


def _hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def _replaced(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Inside, modules compute something else."""
    own = {module: vars(module).get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module, before in own.items():
            vars(module).pop("forward", None)
            if before is not None:
                module.forward = before
