"""Run blocks over batches of text: moments of every site, and what a block passes on.

Shapes: B sequences, T positions, H hidden size, I inputs of a site; one language a batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from babelpress.errors import BadModel
from babelpress.models import Site, Walk, linears, weight
from babelpress.moments import Moments
from babelpress.packing import Blocks
from babelpress.store import BlockMoments

Progress = Callable[[str, int, int], None]  # what, done, total

BATCH_ELEMENTS = 1 << 22  # hidden numbers in a batch: 8 MB in bfloat16, which stays in the cache


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


def batches(walk: Walk, blocks: Mapping[str, Blocks], *, batch_tokens: int = 0) -> list[Batch]:
    """Hidden states before the first block, in batches of one language each."""
    found: list[Batch] = []
    for language, each in blocks.items():
        length = each.ids_BT.shape[1]
        width = weight(walk.model.get_input_embeddings()).shape[1]
        size = max(1, (batch_tokens or BATCH_ELEMENTS // width) // length)
        for ids_BT, counted_BT in zip(
            each.ids_BT.split(size), each.counted_BT.split(size), strict=True
        ):
            hidden_BTH = walk.start(ids_BT.to(walk.model.device))
            found.append(Batch(language, hidden_BTH, counted_BT.to(hidden_BTH.device)))
    return found


@torch.no_grad()
def gather(
    walk: Walk, index: int, todo: Sequence[Batch], *, gram: bool
) -> tuple[BlockMoments, list[Batch]]:
    """Moments of every site of a block over all batches, and what the block passes on."""
    for batch in todo:
        walk.prepare(batch.hidden_BTH)
    sites = walk.sites(index, todo[0].hidden_BTH)
    found: BlockMoments = {site: {} for site in sites}
    counted: list[Batch] = [todo[0]]  # the batch that runs now, for the hooks
    layers = linears(walk.blocks[index])
    place = f"{walk.path}.{index}"

    def look(site: Site) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            now = counted[0]
            seen = found[site]
            if now.language not in seen:
                device = args[0].device
                seen[now.language] = Moments.empty(site.inputs, gram, device=device)
            x_TI = args[0].reshape(-1, site.inputs)
            if len(x_TI) != now.counted_BT.numel():
                raise BadModel(f"{place}.{site.name} sees {len(x_TI)} rows, not one a token.")
            keep_T = now.counted_BT.flatten()
            rows_TI = x_TI if keep_T.all() else x_TI[keep_T]
            seen[now.language].add(rows_TI, where=f"{place}.{site.name} in {now.language}")

        return hook

    handles = [layers[s.linears[0]].register_forward_pre_hook(look(s)) for s in sites]
    passed: list[Batch] = []
    try:
        for batch in todo:
            counted[0] = batch
            out_BTH = walk.forward(index, batch.hidden_BTH)
            passed.append(Batch(batch.language, out_BTH, batch.counted_BT))
    finally:
        for handle in handles:
            handle.remove()
    return found, passed


@torch.no_grad()
def pass_on(walk: Walk, index: int, todo: Sequence[Batch]) -> list[Batch]:
    """What a block, as it is now, makes of every batch."""
    return [Batch(b.language, walk.forward(index, b.hidden_BTH), b.counted_BT) for b in todo]


@torch.no_grad()
def gather_dense(
    walk: Walk,
    blocks: Mapping[str, Blocks],
    *,
    gram: bool,
    batch_tokens: int = 0,
    done: Callable[[int], bool] = never,
    progress: Progress = silent,
) -> Iterator[tuple[int, BlockMoments]]:
    """Moments of the dense model, block by block; a block that is `done` is only passed through."""
    todo = batches(walk, blocks, batch_tokens=batch_tokens)
    for index in range(len(walk.blocks)):
        if done(index):
            todo = pass_on(walk, index, todo)
        else:
            moments, todo = gather(walk, index, todo, gram=gram)
            yield index, moments
        progress("calibrate", index + 1, len(walk.blocks))
