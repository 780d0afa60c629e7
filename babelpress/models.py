"""Walk the blocks of a model, find the sites of a block, read and set the weights of a linear.

The only file that knows how transformers arranges modules. A model is seen as an embedding, a list
of blocks of one class that each read what the one before gave, and a head. Nothing goes by names:
blocks are the largest list of equal modules that hold linear layers; a *site* is the set of linears
of a block that were seen to receive the same tensor. Each linear of each stacked expert is a site,
since experts read rows of their own; routers are no linears (experts.py).

Shapes: B sequences, T positions, H hidden size, O outputs, I inputs of a linear, R rows seen.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import LongTensor, Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from babelpress import experts
from babelpress.errors import BadModel
from babelpress.experts import See, Slice

Linear = nn.Module | Slice

FEW = 8  # positions that show which linears read the same input
DISTINCT = 200  # whole numbers that every dtype holds


@dataclass(frozen=True, slots=True)
class Site:
    """Linears of a block that read the same input; names are relative to the block."""

    name: str
    linears: tuple[str, ...]
    inputs: int

    def matches(self, pattern: str) -> bool:
        """Whether a `--skip` word means this site: its name, or one of its linears; * allowed."""
        return any(fnmatchcase(name, pattern) for name in (self.name, *self.linears))


# ---- weights of a linear -------------------------------------------------------------------


def linears(block: nn.Module) -> dict[str, Linear]:
    """Every linear layer of a block by its name inside the block, in order; routers are none."""
    stacks = experts.find_stacks(block)
    found: dict[str, Linear] = {}
    for name, module in block.named_modules():
        if name in stacks:
            found |= experts.slices(name, module)
        elif isinstance(module, nn.Linear | Conv1D) and not experts.is_router(
            name, len(weight(module)), stacks
        ):
            found[name] = module
    return found


def weight(linear: Linear) -> Tensor:
    """The weight as (outputs, inputs): Conv1D keeps it the other way round."""
    if isinstance(linear, Slice):
        return linear.weight()
    data: Any = linear.weight.data
    return data.T if isinstance(linear, Conv1D) else data


@torch.no_grad()
def set_weight(linear: Linear, weight_OI: Tensor) -> None:
    """Put a new weight in place of the old one."""
    if isinstance(linear, Slice):
        linear.set_weight(weight_OI)
        return
    new = weight_OI.T if isinstance(linear, Conv1D) else weight_OI
    linear.weight.copy_(new)  # type: ignore[operator,union-attr]


@contextmanager
def watched(see: Mapping[Linear, See]) -> Iterator[None]:
    """Inside, what every linear receives is seen, as rows, each time that it runs."""

    def hook(linear: nn.Module) -> Callable[..., None]:
        inputs, look = weight(linear).shape[1], see[linear]
        return lambda _, args: look(args[0].reshape(-1, inputs), None)

    slices = {linear: look for linear, look in see.items() if isinstance(linear, Slice)}
    with ExitStack() as stack:
        for linear in see:
            if not isinstance(linear, Slice):
                stack.callback(linear.register_forward_pre_hook(hook(linear)).remove)
        for module in {id(each.experts): each.experts for each in slices}.values():
            stack.enter_context(experts.computed(module))
        stack.enter_context(experts.seen(slices))
        yield


# ---- blocks --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Call:
    """What a model hands a block besides the hidden states."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Stop(Exception):
    """Ends a forward pass once what it was made for is known."""


class Walk:
    """A model as blocks that can be run one at a time.

    `start` gives the hidden states before the first block; `forward` runs one block with the
    arguments that the model itself would give it (masks, positions, rotary tables, ALiBi), which
    are recorded once for each batch shape. Raises BadModel where the blocks cannot be found, or
    do not read one another's output in order.
    """

    def __init__(self, model: PreTrainedModel):
        self.model = model
        self.path, self.blocks = find_blocks(model)
        self._calls: dict[torch.Size, list[_Call]] = {}

    def start(self, ids_BT: LongTensor | Tensor) -> Tensor:
        """Hidden states (B, T, H) that enter the first block."""
        found: list[Tensor] = []

        def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append(_hidden(args, kwargs))
            raise _Stop

        with _hooked([self.blocks[0].register_forward_pre_hook(catch, with_kwargs=True)]):
            try:
                self._run(ids_BT)
            except _Stop:
                return found[0]
        raise BadModel(f"{type(self.model).__name__} never ran {self.path}.0.")

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
        return find_sites(self.blocks[index], lambda: self.forward(index, few_BTH), self.path)

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
                        f"{self.path}.{len(calls)} does not read what the block before it gave: "
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
            raise BadModel(
                f"{self.path} has {len(self.blocks)} blocks, but a pass ran {len(calls)} of them."
            )
        return calls


def find_blocks(model: PreTrainedModel) -> tuple[str, list[nn.Module]]:
    """Path and modules of the blocks: the one list of equal modules that holds linear layers.

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
        return next(iter(found.items()))
    seen = ", ".join(f"{path} ({len(b)} x {type(b[0]).__name__})" for path, b in found.items())
    missing = "one list of equal blocks with linear layers (nn.Linear or Conv1D)"
    raise BadModel(
        f"{type(model).__name__} cannot be walked: found {seen or 'no such list'}, "
        f"need {missing}. Encoder-decoders and unrepeated stacks are not supported yet."
    )


@torch.no_grad()
def find_sites(block: nn.Module, run: Callable[[], object], path: str) -> list[Site]:
    """Group the linears of a block by the tensor they receive while `run()` runs the block.

    Experts are found as a whole, whichever of them the tokens of `run()` chose. Raises BadModel
    where a linear does not run, or runs more than once.
    """
    experts.check_stacks(block, path)
    received: dict[object, list[str]] = {}
    called: list[str] = []
    alive: list[Tensor] = []  # an address names a tensor only as long as the tensor lives
    layers = linears(block)

    def see(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0]
            alive.append(x)
            called.append(name)
            # the version tells a tensor from itself after a change in place
            received.setdefault((x.data_ptr(), x.numel(), x._version), []).append(name)

        return hook

    def see_expert(name: str, stack: Any) -> See:
        def look(*_: Tensor | None) -> None:
            called.append(name)
            received.setdefault(stack, [n for n, each in slices.items() if each.experts is stack])

        return look

    slices = {name: each for name, each in layers.items() if isinstance(each, Slice)}
    modules = {name: each for name, each in layers.items() if isinstance(each, nn.Module)}
    looks: dict[Linear, See] = {
        each: see_expert(name, each.experts) for name, each in slices.items()
    }
    with _hooked([m.register_forward_pre_hook(see(n)) for n, m in modules.items()]), watched(looks):
        run()
    there = [name for names in received.values() for name in names]
    silent = [name for name in layers if name not in there]
    if silent or len(set(called)) != len(called):
        which = ", ".join(silent) or "one of them twice"
        raise BadModel(
            f"the linears of {path} must each run once in a pass of their block; not so: {which}."
        )
    groups = [
        group
        for key, names in received.items()
        for group in ([[name] for name in names] if isinstance(key, nn.Module) else [names])
    ]
    return [_site(tuple(names), layers) for names in groups]


def _site(names: tuple[str, ...], layers: dict[str, Linear]) -> Site:
    parents = [name.rpartition(".")[0] for name in names]
    leaves = [name.rpartition(".")[2] for name in names]
    same = len(set(parents)) == 1
    inputs = weight(layers[names[0]]).shape[1]
    if same and parents[0]:
        return Site(f"{parents[0]}.{'+'.join(leaves)}", names, inputs)
    return Site("+".join(leaves if same else names), names, inputs)


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


@contextmanager
def _hooked(handles: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
