"""Sites: the linears of a block that are seen to receive the same tensor.

Tested in tests/models/test_walk.py.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    """Linears of a block that read the same input; names are relative to the block.

    `reads` says, of every time that its first linear runs in a pass of the block, whether it is
    given rows of the text. In a block that runs several times there are as many, and all count. The
    queries and keys of DeBERTa-v2 are made of the text, and then of relative positions, which are
    the same whatever the text: those rows are never counted. They belong to no language, and one
    table of them for every batch would let the batch size show in sums of tokens. So what pressing
    does to them weighs nothing in a method or in damage, though attention reads them too.
    """

    name: str
    linears: tuple[str, ...]
    inputs: int
    reads: tuple[bool, ...] = field(default=(True,), compare=False)

    def matches(self, pattern: str) -> bool:
        """Whether a `--skip` word means this site: its name, or one of its linears; * allowed."""
        return any(fnmatchcase(name, pattern) for name in (self.name, *self.linears))


@dataclass(frozen=True, slots=True)
class _Input:
    """What a linear was given once; `x` is kept, since an address is a tensor's while it lives."""

    key: Hashable
    x: Tensor | None = None  # none of an expert, which is given rows of its own


@torch.no_grad()
def find_sites(
    block: nn.Module,
    run: Callable[[], object],
    path: str,
    on_other: Callable[[], object] | None = None,
    *,
    times: int = 1,
) -> list[Site]:
    """Group the linears of a block by the text that they receive while `run()` runs the block.

    `on_other` runs it on other hidden states: where a linear runs more than `times`, or on other
    rows than the first one, what is the same there is no text. Experts are found as a whole,
    whichever of them the tokens of `run()` chose. Raises BadModel where a linear does not read the
    text so many `times`.
    """
    experts.check_stacks(block, path)
    layers = linears(block)
    received = _received(layers, run)
    reads = {name: [True] * len(inputs) for name, inputs in received.items()}
    if on_other is not None and (odd := _odd(received, times)):
        others = _received({name: layers[name] for name in odd}, on_other)
        reads |= {name: _changes(received[name], others[name]) for name in odd}
    counts = {name: sum(reads.get(name, [])) for name in layers}
    if wrong := [f"{name} ({count} times)" for name, count in counts.items() if count != times]:
        raise BadModel(
            f"the linears of {path} must each read the text once in a run of their block; not so: "
            f"{', '.join(wrong)}."
        )
    groups: dict[Hashable, list[str]] = {}
    for name, inputs in received.items():
        text = tuple(each.key for each, reading in zip(inputs, reads[name], strict=True) if reading)
        groups.setdefault(text, []).append(name)
    return [_site(tuple(names), layers, tuple(reads[names[0]])) for names in groups.values()]


def _received(layers: Mapping[str, Linear], run: Callable[[], object]) -> dict[str, list[_Input]]:
    """What linears are given while `run()` runs, in the order in which they first are.

    Where any expert of a stack runs, those that do not count as run once.
    """
    found: dict[str, list[_Input]] = {}

    def see(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0]
            # the version tells a tensor from itself after a change in place
            key = x.data_ptr(), x.numel(), x._version
            found.setdefault(name, []).append(_Input(key, x))

        return hook

    def see_expert(name: str, stack: Any) -> See:
        def look(*_: Tensor | None) -> None:
            for other in (n for n, each in slices.items() if each.experts is stack):
                found.setdefault(other, [])
            found[name].append(_Input(name))

        return look

    slices = {name: each for name, each in layers.items() if isinstance(each, Slice)}
    modules = {name: each for name, each in layers.items() if isinstance(each, nn.Module)}
    looks: dict[Linear, See] = {
        each: see_expert(name, each.experts) for name, each in slices.items()
    }
    with hooked([m.register_forward_pre_hook(see(n)) for n, m in modules.items()]), watched(looks):
        run()
    return {name: inputs or [_Input(name)] for name, inputs in found.items()}


def _odd(received: Mapping[str, list[_Input]], times: int) -> list[str]:
    """Linears that do not run so many times, or are given other rows than the first to run."""
    tensors = {n: [i.x for i in each if i.x is not None] for n, each in received.items()}
    rows = {n: [x.shape[:-1].numel() for x in each] for n, each in tensors.items() if each}
    usual = next(iter(rows.values()), [])[:1]
    return [name for name, each in rows.items() if each != usual * times]


def _changes(inputs: Sequence[_Input], others: Sequence[_Input]) -> list[bool]:
    """Of every input whether it is another one there."""
    return [
        one.x is not None and other.x is not None and not torch.equal(one.x, other.x)
        for one, other in zip(inputs, others, strict=True)
    ]


def _site(names: tuple[str, ...], layers: dict[str, Linear], reads: tuple[bool, ...]) -> Site:
    parents = [name.rpartition(".")[0] for name in names]
    leaves = [name.rpartition(".")[2] for name in names]
    same = len(set(parents)) == 1
    inputs = weight(layers[names[0]]).shape[1]
    if same and parents[0]:
        return Site(f"{parents[0]}.{'+'.join(leaves)}", names, inputs, reads)
    return Site("+".join(leaves if same else names), names, inputs, reads)


@contextmanager
def hooked(handles: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
