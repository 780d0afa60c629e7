"""The linears of a block: found, read, changed, watched.

Tested in tests/models/test_walk.py.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from babelpress.models import experts
from babelpress.models.experts import Hear, See, Slice

Linear = nn.Module | Slice


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
def watched(see: Mapping[Linear, See], hear: Mapping[Linear, Hear] | None = None) -> Iterator[None]:
    """Inside, what every linear receives is seen, as rows, each time that it runs.

    So is what linears give that somebody is to `hear`.
    """
    hear = hear or {}

    def hook(linear: nn.Module) -> Callable[..., None]:
        inputs, look = weight(linear).shape[1], see[linear]
        return lambda _, args: look(args[0].reshape(-1, inputs), None)

    def after(linear: nn.Module) -> Callable[..., Tensor]:
        return lambda _module, _args, output: hear[linear](output)

    slices = {linear: look for linear, look in see.items() if isinstance(linear, Slice)}
    heard = {linear: each for linear, each in hear.items() if isinstance(linear, Slice)}
    with ExitStack() as stack:
        for linear in see:
            if not isinstance(linear, Slice):
                stack.callback(linear.register_forward_pre_hook(hook(linear)).remove)
        for linear in hear:
            if not isinstance(linear, Slice):
                stack.callback(linear.register_forward_hook(after(linear)).remove)
        for module in {id(each.experts): each.experts for each in (*slices, *heard)}.values():
            stack.enter_context(experts.computed(module))
        stack.enter_context(experts.seen(slices, heard))
        yield
