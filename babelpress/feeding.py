"""Run blocks over batches of text: moments of every site, and what a block passes on.

An expert has moments of the languages whose tokens chose it, and of no others.

Shapes: B sequences, T positions, H hidden size, I inputs of a site, R rows that it sees; one
language a batch.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from babelpress.errors import BadModel
from babelpress.experts import See
from babelpress.memory import at_hand, give_back
from babelpress.models import Site, Walk, linears, watched, weight
from babelpress.moments import Moments
from babelpress.offload import Hold, in_memory
from babelpress.packing import Blocks
from babelpress.store import BlockMoments

Progress = Callable[[str, int, int], None]  # what, done, total

BATCH_ELEMENTS = 1 << 21  # hidden numbers in a batch: 4 MB in bfloat16, which stays in the cache


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


def never(_index: int) -> bool:
    """No block is done."""
    return False


@dataclass(frozen=True, slots=True)
class Batch:
    """Hidden states of some sequences of one language, and which positions count."""

    language: str
    hidden_BTH: Tensor
    counted_BT: Tensor


def batch_size(walk: Walk, length: int, batch_tokens: int = 0) -> int:
    """Sequences in a batch: as many as keep the hidden states in the processor's cache."""
    width = weight(walk.model.get_input_embeddings()).shape[1]
    return max(1, (batch_tokens or BATCH_ELEMENTS // width) // length)


def batches(
    walk: Walk, blocks: Mapping[str, Blocks], *, batch_tokens: int = 0, hold: Hold = in_memory
) -> list[Batch]:
    """Hidden states before the first block, in batches of one language each."""
    found: list[Batch] = []
    for language, each in blocks.items():
        length = each.ids_BT.shape[1]
        size = batch_size(walk, length, batch_tokens)
        for ids_BT, counted_BT in zip(
            each.ids_BT.split(size), each.counted_BT.split(size), strict=True
        ):
            hidden_BTH = hold(walk.start(ids_BT.to(walk.model.device)))
            found.append(Batch(language, hidden_BTH, counted_BT.to(hidden_BTH.device)))
    return found


@torch.no_grad()
@at_hand()
def gather(
    walk: Walk,
    index: int,
    todo: list[Batch],
    *,
    gram: bool,
    hold: Hold = in_memory,
    passing: bool = True,
) -> tuple[BlockMoments, list[Batch]]:
    """Moments of every site of a block over all batches, and what the block passes on.

    Batches are taken out of `todo` as they are passed on. Not `passing`, they stay there, and the
    block is run only as far as its last linear.
    """
    for batch in todo:
        walk.prepare(batch.hidden_BTH)
    sites = walk.sites(index, todo[0].hidden_BTH)
    found: BlockMoments = {site: {} for site in sites}
    counted: list[Batch] = []  # the batch that runs now, for who watches
    layers = linears(walk.blocks[index])
    place = f"{walk.path}.{index}"

    def look(site: Site) -> See:
        def see(x_RI: Tensor, token_R: Tensor | None) -> None:
            now = counted[0]
            keep_R = now.counted_BT.flatten()
            if token_R is not None:
                keep_R = keep_R[token_R]
            if len(x_RI) != len(keep_R):
                raise BadModel(f"{place}.{site.name} sees {len(x_RI)} rows, not one a token.")
            rows_RI = x_RI if keep_R.all() else x_RI[keep_R]
            if not len(rows_RI):
                return  # an expert that no token of this language that counts chose
            seen = found[site]
            if now.language not in seen:
                seen[now.language] = Moments.empty(site.inputs, gram, device=x_RI.device)
            seen[now.language].add(rows_RI, where=f"{place}.{site.name} in {now.language}")

        return see

    passed: list[Batch] = []
    with watched({layers[site.linears[0]]: look(site) for site in sites}):
        for batch in _taken(todo) if passing else todo:
            counted[:] = [batch]
            if passing:
                out_BTH = walk.forward(index, batch.hidden_BTH)
                passed.append(Batch(batch.language, hold(out_BTH), batch.counted_BT))
            else:
                walk.reach(index, batch.hidden_BTH, layers[sites[-1].linears[0]])
    give_back()
    return found, passed


@torch.no_grad()
@at_hand()
def pass_on(walk: Walk, index: int, todo: list[Batch], *, hold: Hold = in_memory) -> list[Batch]:
    """What a block, as it is now, makes of every batch; they are taken out of `todo` meanwhile."""
    return [
        Batch(b.language, hold(walk.forward(index, b.hidden_BTH)), b.counted_BT)
        for b in _taken(todo)
    ]


def _taken(todo: list[Batch]) -> Iterator[Batch]:
    """The batches of a list, each out of it from then on: two sets of hidden states are a lot."""
    todo.reverse()
    while todo:
        yield todo.pop()


@torch.no_grad()
def gather_dense(
    walk: Walk,
    blocks: Mapping[str, Blocks],
    *,
    gram: bool,
    batch_tokens: int = 0,
    hold: Hold = in_memory,
    done: Callable[[int], bool] = never,
    progress: Progress = silent,
) -> Iterator[tuple[int, BlockMoments]]:
    """Moments of the dense model, block by block; a block that is `done` is only passed through."""
    todo = batches(walk, blocks, batch_tokens=batch_tokens, hold=hold)
    for index in range(len(walk.blocks)):
        if done(index):
            todo = pass_on(walk, index, todo, hold=hold)
        else:
            last = index + 1 == len(walk.blocks)
            moments, todo = gather(walk, index, todo, gram=gram, hold=hold, passing=not last)
            yield index, moments
            del moments
        progress("calibrate", index + 1, len(walk.blocks))
