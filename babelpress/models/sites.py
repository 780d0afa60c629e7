"""Sites: the linears of a block that are seen to receive the same tensor.

Tested in tests/models/test_walk.py.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from babelpress.errors import BadModel
from babelpress.models import experts
from babelpress.models.experts import See, Slice
from babelpress.models.linears import Linear, linears, watched, weight

FEW = 8  # positions that show which linears read the same input


@dataclass(frozen=True, slots=True)
class Site:
    """Linears of a block that read the same input; names are relative to the block."""

    name: str
    linears: tuple[str, ...]
    inputs: int

    def matches(self, pattern: str) -> bool:
        """Whether a `--skip` word means this site: its name, or one of its linears; * allowed."""
        return any(fnmatchcase(name, pattern) for name in (self.name, *self.linears))


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
    with hooked([m.register_forward_pre_hook(see(n)) for n, m in modules.items()]), watched(looks):
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


@contextmanager
def hooked(handles: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
