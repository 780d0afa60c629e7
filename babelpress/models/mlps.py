"""The MLP of a block, found by the shapes of its linears.

One linear reads as many inputs as one or two before it in the same module have rows, or as half of
the rows that one has, where a gate and what it gates are one linear, one after the other. A
*neuron* is one product between them: one row of every linear that feeds it (two rows where that is
one) and one column of the linear that reads it.

Shapes: O outputs, I inputs of a linear.

Tested in tests/steps/test_protecting.py and tests/shrink/test_ffn.py.
"""

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import NamedTuple

Shape = tuple[int, int]  # outputs, inputs
FEEDING = 2  # linears that feed an MLP's product at most: a gate, and what it gates


class Mlp(NamedTuple):
    """The linears of a block's MLP; `times` is 2 where one linear holds gate and gated."""

    feeding: tuple[str, ...]
    reading: str
    width: int
    times: int


def widest_mlp(shapes: Mapping[str, Shape], stacked: Collection[str] = ()) -> Mlp | None:
    """The widest MLP of a block, None where there is none: `stacked` linears are of experts."""
    modules: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        if name not in stacked:
            modules.setdefault(name.rpartition(".")[0], {})[name] = shape
    found = [mlp for linears in modules.values() for mlp in _mlps(linears)]
    if not found:  # as in a BERT, where both have a module of their own
        plain = [each for linears in modules.values() for each in linears.items()]
        found = [mlp for pair in pairwise(plain) for mlp in _mlps(dict(pair))]
    return max(found, key=lambda mlp: mlp.width, default=None)


def _mlps(linears: Mapping[str, Shape]) -> list[Mlp]:
    """Those among the linears of one module."""
    found: list[Mlp] = []
    for place, (reading, (outputs, width)) in enumerate(linears.items()):
        before = list(linears.items())[:place]
        others = {name: rows for name, (rows, inputs) in before if inputs == outputs}
        # With as many inputs as outputs, linears of an attention would fit too.
        if width == outputs or not others:
            continue
        feeding = tuple(others)
        if len(others) <= FEEDING and set(others.values()) == {width}:
            found.append(Mlp(feeding, reading, width, 1))
        elif list(others.values()) == [2 * width]:
            found.append(Mlp(feeding, reading, width, 2))
    return found
