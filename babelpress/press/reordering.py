"""Put the inputs of sites in the order that a method wants, before anything of a block is pressed.

Rows of the linears before and columns of the site move together, so that the block computes what it
did; what the site saw moves with them. The dense model that damage is counted against is then the
reordered one, which is the same function.

Shapes: B sequences, T positions, H hidden size; I inputs of a site.

Tested in tests/press/test_reordering.py.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from babelpress.models.linears import linears, weight
from babelpress.models.reorders import Reorder, find_reorders
from babelpress.models.sites import Site
from babelpress.models.walk import Walk
from babelpress.moments.moments import VECTORS, Moments, assembled
from babelpress.moments.store import BlockMoments
from babelpress.press.method import Method
from babelpress.press.sites import Look

Found = TypeVar("Found")

PROBE_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Reordered:
    """The moments of a block whose inputs are in order, and the sites that no order could be given.

    An expert counts among them, as does a site whose inputs no linear before it makes.
    """

    moments: BlockMoments
    stuck: frozenset[str] = field(default_factory=frozenset)


def probed(walk: Walk, find: Callable[[Walk, int, Tensor], Found]) -> Iterator[Found]:
    """What is found of every block by running the dense blocks on a few meaningless tokens."""
    table_VH = weight(walk.model.get_input_embeddings())
    lot = torch.Generator().manual_seed(0)
    ids_BT = torch.randint(len(table_VH), (1, PROBE_TOKENS), generator=lot)
    hidden_BTH = walk.start(ids_BT.to(table_VH.device))
    for index in range(len(walk.blocks)):
        yield find(walk, index, hidden_BTH)
        hidden_BTH = walk.forward(index, hidden_BTH)


def find_all_reorders(walk: Walk, method: Method) -> list[dict[str, Reorder]]:
    """Where each site's inputs can be reordered, by block; nothing for a method that does not."""
    if not method.reorders:
        return [{} for _ in walk.blocks]

    def find(walk: Walk, index: int, hidden_BTH: Tensor) -> dict[str, Reorder]:
        return find_reorders(walk, index, hidden_BTH, method.reorders)

    return list(probed(walk, find))


def reordered(
    walk: Walk,
    index: int,
    moments: BlockMoments,
    method: Method,
    look: Look,
    reorders: Mapping[str, Reorder],
) -> Reordered:
    """Put the inputs of a block's sites in order, in place, and their moments in copies.

    Does nothing for a method that does not reorder, and nothing to sites that it skips.
    """
    if not method.reorders:
        return Reordered(moments)
    found: dict[Site, dict[str, Moments]] = {site: dict(seen) for site, seen in moments.items()}
    stuck: set[str] = set()
    layers = linears(walk.blocks[index])
    for site in moments:
        if method.skips(site):
            continue
        reorder = reorders.get(site.name)
        if reorder is None:
            stuck.add(site.name)
            continue
        stats, _ = look(site)
        assert stats is not None  # only experts have none
        weights = {name: weight(layers[name]) for name in site.linears}
        order_I = method.order_inputs(weights, stats, reorder.parts_GS)
        if torch.equal(order_I, torch.arange(site.inputs)):
            continue
        reorder.apply(walk.blocks[index], order_I)
        found[site] = {tag: _ordered(each, order_I) for tag, each in found[site].items()}
        for name, rows_I in reorder.rows:
            other = next(each for each in found if name in each.linears)
            above = other.linears[: other.linears.index(name)]
            place_I = rows_I + sum(len(weight(layers[each])) for each in above)
            found[other] = {
                tag: _moved(each, place_I, place_I[order_I.cpu()])
                for tag, each in found[other].items()
            }
    return Reordered(found, frozenset(stuck))


def _moved(moments: Moments, to_I: Tensor, from_I: Tensor) -> Moments:
    """Moments whose gradients by the weights have rows in other places, as the weights have."""
    of_loss = moments.of_loss
    if of_loss is None or of_loss.slope_OI is None:
        return moments
    old_OI = of_loss.slope_OI
    to_I, from_I = to_I.to(old_OI.device), from_I.to(old_OI.device)
    moved_OI = old_OI.index_copy(0, to_I, old_OI[from_I])
    return replace(moments, of_loss=replace(of_loss, slope_OI=moved_OI))


def _ordered(moments: Moments, order_I: Tensor) -> Moments:
    order_I = order_I.to(moments.sumsq_I.device)
    tensors = {name: each for name, each in moments.tensors().items() if name in VECTORS}
    vectors = {name: each_I[order_I] for name, each_I in tensors.items()}
    gram_II = moments.gram_II
    if gram_II is not None:
        gram_II = gram_II[order_I][:, order_I]
    of_loss = moments.of_loss
    if of_loss is not None and of_loss.slope_OI is not None:
        of_loss = replace(of_loss, slope_OI=of_loss.slope_OI[:, order_I])
    return replace(assembled(moments.n, vectors, gram_II), of_loss=of_loss)
