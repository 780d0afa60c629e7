"""Reorders: where the inputs of a site can be put in another order in the layers before it.

What the inputs of a site are made of lies in rows of linears that ran before: put those rows in
another order, and the columns of the site with them, and the block computes what it did. Between
the gate, what it gates and the linear that reads their product any order will do; what attention
values are made of may move inside a head, and alike in all heads that share it.

Found by running, never by names, as folds are: rows and columns are put in an order drawn by lot,
and only where the outputs of the block stay as they were can they be reordered. What reads the
residual stream cannot, nor are experts tried.

Shapes: B sequences, T positions, H hidden size; I inputs of a site, R outputs of a linear before
it; G parts that change alike, S inputs of a part.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from babelpress.models.experts import Slice
from babelpress.models.folds import LEFT, Probe, copied, probing
from babelpress.models.linears import linears, set_weight, weight
from babelpress.models.sites import Site
from babelpress.models.walk import Walk

Rows = tuple[tuple[str, Tensor], ...]  # by the name of a linear: the row of every input


@dataclass(frozen=True, slots=True)
class Reorder:
    """Linears of a block in which the inputs of a site can be put in another order.

    `rows` are the rows that every input hangs on, of every linear that has some (one linear may
    stand there twice). `parts_GS` are inputs that may change places within their line; lines of one
    tensor must do it alike.
    """

    site: Site
    rows: Rows = field(compare=False)
    parts_GS: tuple[Tensor, ...] = field(compare=False)

    @torch.no_grad()
    def apply(self, block: nn.Module, order_I: Tensor) -> None:
        """Put the inputs in this order: input i becomes what input order_I[i] was.

        Rows of the linears before and columns of the site move, and no number changes.
        """
        layers = linears(block)
        for name, rows_I in self.rows:
            layer: Any = layers[name]
            old_RI = weight(layer).clone()
            to_I, from_I = (each.to(old_RI.device) for each in (rows_I, rows_I[order_I]))
            set_weight(layer, old_RI.index_copy(0, to_I, old_RI[from_I]))
            if layer.bias is not None:
                layer.bias.copy_(layer.bias.clone().index_copy(0, to_I, layer.bias[from_I]))
        for name in self.site.linears:
            old_OI = weight(layers[name]).clone()
            set_weight(layers[name], old_OI[:, order_I.to(old_OI.device)])


@torch.no_grad()
def find_reorders(
    walk: Walk, index: int, hidden_BTH: Tensor, multiple: int = 1
) -> dict[str, Reorder]:
    """The reorder of every site of block `index` that has one, by the site's name.

    Parts are as wide as they can be, and a `multiple` of so many inputs. Some passes of the block
    over `hidden_BTH`, the hidden states that enter it. The model is left as it was, bit for bit.
    """
    with probing(walk, index, hidden_BTH) as (probe, sites):
        found = {site.name: _find(probe, site, sites, multiple) for site in sites}
    return {name: each for name, each in found.items() if each}


def _find(probe: Probe, site: Site, sites: Sequence[Site], multiple: int) -> Reorder | None:
    if any(isinstance(probe.linears[name], Slice) for name in site.linears):
        return None
    first = min(probe.ran.index(name) for name in site.linears)
    before = [n for n in probe.ran[:first] if n in probe.linears]
    for rows, parts in _ways(probe, site, sites, before):
        for parts_GS in parts:
            if parts_GS[0].shape[1] % multiple or parts_GS[0].shape[1] < 2:
                continue
            reorder = Reorder(site, rows, parts_GS)
            if _holds(probe, reorder):
                return reorder
    return None


def _ways(
    probe: Probe, site: Site, sites: Sequence[Site], before: Sequence[str]
) -> Iterator[tuple[Rows, Iterator[tuple[Tensor, ...]]]]:
    """Rows that may move together, those that ran last first, and the parts they may move in."""
    every_I = torch.arange(site.inputs)
    for other in reversed(sites):
        there = [name for name in other.linears if name in before]
        sizes = {name: len(weight(probe.linears[name])) for name in there}
        whole = tuple((name, every_I) for name in there if sizes[name] == site.inputs)
        halves = tuple((n, each) for n in there for each in (every_I, every_I + site.inputs))
        if whole:
            yield whole, iter([(every_I[None],)])
        if len(there) == 1 and sizes[there[0]] == 2 * site.inputs:
            yield halves, iter([(every_I[None],)])
    for name in reversed(before):
        rows_I = probe.rows(name, site)
        if rows_I is not None:
            yield ((name, rows_I),), _parts(rows_I)


def _parts(rows_I: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Equal parts of inputs, the widest first; those that hang on the same rows change alike."""
    inputs = len(rows_I)
    for width in range(inputs, 1, -1):
        if inputs % width:
            continue
        alike: dict[tuple[int, ...], list[Tensor]] = {}
        for part_S in torch.arange(inputs).split(width):
            alike.setdefault(tuple(rows_I[part_S].tolist()), []).append(part_S)
        distinct = [row for rows in alike for row in rows]
        if len(set(distinct)) == len(distinct):
            yield tuple(torch.stack(each) for each in alike.values())


def _holds(probe: Probe, reorder: Reorder) -> bool:
    """Whether an order drawn by lot leaves nothing of the change that columns alone make."""
    lot = torch.Generator().manual_seed(0)
    order_I = torch.arange(reorder.site.inputs)
    for parts_GS in reorder.parts_GS:
        order_I[parts_GS] = parts_GS[:, torch.randperm(parts_GS.shape[1], generator=lot)]
    alone = Reorder(reorder.site, (), reorder.parts_GS)
    names = dict.fromkeys([*reorder.site.linears, *(name for name, _ in reorder.rows)])
    if any(isinstance(probe.linears[name], Slice) for name in names):
        return False
    with ExitStack() as stack:
        for name in names:
            module: Any = probe.linears[name]
            stack.enter_context(copied(module))
        alone.apply(probe.block, order_I)
        change = probe.change()
        Reorder(Site("", (), 0), reorder.rows, ()).apply(probe.block, order_I)
        left = probe.change()
    return left < LEFT * change
