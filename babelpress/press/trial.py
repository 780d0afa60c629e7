"""The first block of a model, tried: what a batch, a block and a file take, here and now.

Everything is tried with the functions that do the work, so that whoever makes those faster need not
come here. One batch of one language stands for all; its moments stand for those of every language.
The first block is pressed in place: the model is good for nothing else afterwards.

Memory is that which the system cannot take back (`memory.py`). Times are of this machine as busy as
it is now.

Tested in tests/runs/test_estimate.py.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from babelpress.models.folds import Fold, find_folds
from babelpress.models.linears import linears, weight
from babelpress.models.open import Opened
from babelpress.models.reorders import Reorder, find_reorders
from babelpress.models.tokenizers import save_tokenizer
from babelpress.models.walk import Walk
from babelpress.models.weights import check_finite
from babelpress.moments.gather import Batch, batch_size, batches, batches_at_once, gather, pass_on
from babelpress.moments.moments import Moments
from babelpress.moments.store import BlockMoments, Store
from babelpress.moments.weigh import gather_weighed, groups_of, rows_of_batch, sites_of
from babelpress.press import blocks as press
from babelpress.press import codes, embeddings
from babelpress.press.method import Method
from babelpress.press.reordering import PROBE_TOKENS
from babelpress.system.files import save_tensors, sha256_file
from babelpress.system.memory import give_back, peak, used
from babelpress.system.offload import Hold, changing, in_memory
from babelpress.text.token_blocks import TokenBlocks

T = TypeVar("T")

REPEATS = 3  # of what takes less than ENOUGH
ENOUGH = 1.0  # seconds
IN_FLOW = 2  # batches for each of those that run side by side
ROWS = 4096  # of an embedding that stand for all


@dataclass(slots=True)
class Seconds:
    """What parts take, in seconds.

    `start`, `gather`, `reach` and `pass_on` are of one batch, `prepare` of a batch shape, `sites`,
    `folds` (or reorders), `round`, `press`, `first_read` and `read` of a block, `warm` of the first
    call of all, `dense` of a byte of the model, `table` of a row, `tokenizer` once; `back` of a
    batch, whose loss is followed back, in one pass of those that it takes.
    """

    start: float = 0.0
    gather: float = 0.0
    reach: float = 0.0
    pass_on: float = 0.0
    prepare: float = 0.0
    sites: float = 0.0
    folds: float = 0.0
    round: float = 0.0
    press: float = 0.0
    first_read: float = 0.0
    read: float = 0.0
    warm: float = 0.0
    dense: float = 0.0
    table: float = 0.0
    tokenizer: float = 0.0
    back: float = 0.0


@dataclass(slots=True)
class Sizes:
    """What parts take, in bytes.

    `hidden` is what a full batch brings along; `batch`, `press` and `table` are what work takes
    besides its results, `stays` what running text leaves for good (the libraries' own, such as
    kernels made for its shapes), `moments` those of one block and language, or of all languages
    where they were read; `codes` and `tokenizer` lie on disk.
    """

    hidden: float = 0.0
    batch: int = 0
    press: int = 0
    table: int = 0
    stays: int = 0
    moments: int = 0
    codes: int = 0
    tokenizer: int = 0


@dataclass(slots=True)
class Tried:
    """What was found out by trying."""

    seconds: Seconds = field(default_factory=Seconds)
    bytes: Sizes = field(default_factory=Sizes)
    passes: int = 0  # forward and back, where the loss weighs tokens
    together: int = 1  # blocks whose sums are in memory at once


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What the work gives, and its seconds."""
    start = time.monotonic()
    found = work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return found, time.monotonic() - start


def _typical(work: Callable[[], T]) -> tuple[T, float]:
    """The same, as the median of a few times where it is short."""
    found, seconds = timed(work)
    all_seconds = [seconds]
    while len(all_seconds) < REPEATS and sum(all_seconds) < ENOUGH:
        found, seconds = timed(work)
        all_seconds.append(seconds)
    return found, statistics.median(all_seconds)


# ---- text ----------------------------------------------------------------------------------


@torch.no_grad()
def try_text(
    tried: Tried, walk: Walk, blocks: Mapping[str, TokenBlocks], method: Method, *, hold: Hold
) -> tuple[BlockMoments, Batch]:
    """Run one batch through the first block: its moments, and the batch."""
    longest = max(blocks.values(), key=lambda each: len(each.ids_BT))
    size = batch_size(walk, longest.length)
    some = longest.rows(slice(size))
    share = size / len(some.ids_BT)  # a language may not fill a batch
    few = {longest.language: some}
    seconds = tried.seconds

    def once(passing: bool) -> tuple[BlockMoments, list[Batch]]:
        return gather(
            walk,
            0,
            list(many),
            gram=method.needs_gram,
            vectors=method.vectors,
            hold=hold,
            passing=passing,
        )

    give_back()
    at_first = used()
    todo, cold = timed(lambda: batches(walk, few, hold=hold))
    start = _typical(lambda: batches(walk, few, hold=hold))[1]
    hidden_BTH = todo[0].hidden_BTH
    # as many as it takes for batches to run side by side as they will
    many = todo * (IN_FLOW * batches_at_once(walk, 0))
    seconds.prepare = timed(lambda: walk.prepare(0, hidden_BTH))[1]
    with peak() as most:
        before = used()
        moments, first = timed(lambda: once(True)[0])
    seconds.sites = _typical(lambda: walk.sites(0, hidden_BTH))[1]
    passing = _typical(lambda: once(True))[1]
    reaching = _typical(lambda: once(False))[1]
    passed = _typical(lambda: pass_on(walk, 0, list(many), hold=hold))[1]
    seconds.start = start * share
    share /= len(many)
    seconds.gather = max(passing - seconds.sites, 0.0) * share
    seconds.reach = max(reaching - seconds.sites, 0.0) * share
    seconds.pass_on = passed * share
    seconds.warm = max(cold - start, 0.0) + max(first - passing, 0.0)
    of_one = sum(t.nbytes for seen in moments.values() for t in _tensors(seen))
    tried.bytes.moments = of_one
    tried.bytes.batch = max(most.bytes - before - of_one, 0)
    give_back()
    tried.bytes.hidden = hidden_BTH.bytes() * size / len(some.ids_BT)
    of_text = hidden_BTH.bytes() if hold is in_memory else 0
    tried.bytes.stays = max(used() - at_first - of_one - of_text, 0)
    return moments, todo[0]


def try_weighed(
    tried: Tried, walk: Walk, blocks: Mapping[str, TokenBlocks], method: Method, *, slopes: bool
) -> None:
    """Follow the loss of one batch back, with the sums of as many blocks as a pass makes."""
    longest = max(blocks.values(), key=lambda each: len(each.ids_BT))
    some = longest.rows(slice(size := rows_of_batch(walk, longest.length)))
    few = {longest.language: some}
    gram, number = method.needs_gram, len(walk.blocks)
    sites, finding = timed(lambda: sites_of(walk, few))
    passes = groups_of(walk, sites, range(number), len(blocks), gram=gram, slopes=slopes)
    first = max(passes, key=len)

    def once() -> list[tuple[int, BlockMoments]]:
        return list(
            gather_weighed(
                walk,
                few,
                gram=gram,
                slopes=slopes,
                vectors=method.vectors,
                done=lambda index: index not in first,
            )
        )

    give_back()
    with peak() as most:
        before = used()
        found, _ = timed(once)
    own = [t.nbytes for _, block in found for seen in block.values() for t in _tensors(seen)]
    tried.bytes.moments = sum(own) // len(first)
    tried.bytes.batch = max(most.bytes - before - sum(own), 0)
    tried.passes, tried.together = len(passes), len(first)
    again = max(_typical(once)[1] - finding, 0.0)
    tried.seconds.back = again * size / len(some.ids_BT)


def for_everyone(
    moments: BlockMoments, batch: Batch, blocks: Mapping[str, TokenBlocks]
) -> BlockMoments:
    """Moments of every language that are those of one batch, as if they were of all its text."""
    of_batch = len(batch.counted_BT)

    def of(seen: Mapping[str, Moments], text: TokenBlocks) -> Moments:
        one = seen[batch.language]
        tokens = round(one.n * len(text.ids_BT) / of_batch)
        return replace(one, n=max(tokens, 1))

    return {
        site: {tag: of(seen, text) for tag, text in blocks.items()} if seen else {}
        for site, seen in moments.items()
    }


def try_store(tried: Tried, store: Store) -> BlockMoments:
    """Read the moments of the first block, hashed and again."""
    before = used()
    moments, tried.seconds.first_read = timed(lambda: store.load(0))
    tried.bytes.moments = max(used() - before, 0)
    _, tried.seconds.read = _typical(lambda: store.load(0))
    return moments


def _tensors(seen: Mapping[str, Moments]) -> list[Tensor]:
    return [tensor for each in seen.values() for tensor in each.tensors().values()]


# ---- pressing ------------------------------------------------------------------------------


@torch.no_grad()
def try_press(
    tried: Tried,
    walk: Walk,
    moments: BlockMoments,
    method: Method,
    shares: Mapping[str, float],
    *,
    rounds: bool,
    hold: Hold,
    folder: Path,
) -> None:
    """Press the first block, and write its codes into a folder."""
    folds: dict[str, Fold] = {}
    seconds = tried.seconds
    seconds.folds = 0.0
    reorders: dict[str, Reorder] = {}
    if method.scales or method.reorders:
        table_VH = weight(walk.model.get_input_embeddings())
        hidden_BTH = walk.start(torch.arange(PROBE_TOKENS, device=table_VH.device)[None])
        if method.scales:
            folds, seconds.folds = timed(lambda: find_folds(walk, 0, hidden_BTH))
        else:
            multiple = method.reorders
            found = timed(lambda: find_reorders(walk, 0, hidden_BTH, multiple))
            reorders, seconds.folds = found
    seconds.round = 0.0
    if rounds:
        one = walk.only(1)
        _, seconds.round = _typical(
            lambda: press.predicted_damage(one, lambda _: moments, method, shares, [folds])
        )
    written = folder / "codes"

    def whole() -> None:
        with changing(walk.blocks[0], hold):
            reports = press.press_block(walk, 0, moments, method, shares, folds, reorders=reorders)
        writer = codes.Writer(written, walk.index_of)
        writer.add({walk.name(0, n): c for each in reports for n, c in each.codes.items()})
        del reports
        give_back()
        for path in written.glob("*"):
            _ = sha256_file(path), sha256_file(path)  # for the list of codes, and for the report

    give_back()
    before = used()
    with peak() as most:
        timed(whole)
    # what is new in the block is counted with the blocks
    block = sum(weight(each).nbytes for each in linears(walk.blocks[0]).values())
    tried.bytes.press = max(most.bytes - before - block, 0)
    _, seconds.press = _typical(whole)
    tried.bytes.codes = sum(path.stat().st_size for path in written.glob("*"))


class _Table(nn.Module):
    """Some rows of an embedding, as a model that has nothing else."""

    def __init__(self, rows_VH: Tensor):
        super().__init__()
        self.table = nn.Embedding.from_pretrained(rows_VH.clone())

    def get_input_embeddings(self) -> nn.Module:
        return self.table

    def get_output_embeddings(self) -> None:
        return None


def try_table(tried: Tried, walk: Walk) -> None:
    """Quantize some rows of the embedding: seconds and bytes of a row."""
    rows_VH = weight(walk.model.get_input_embeddings())[:ROWS]
    few = _Table(rows_VH)
    before = used()
    with peak() as most:
        _, seconds = timed(lambda: embeddings.quantize_tables(few))  # type: ignore[arg-type]
    tried.seconds.table = seconds / len(rows_VH)
    tried.bytes.table = max(most.bytes - before, 0) // len(rows_VH)


# ---- saving --------------------------------------------------------------------------------


def try_saving(tried: Tried, opened: Opened, walk: Walk, folder: Path) -> None:
    """Check, write and hash one block, and write the tokenizer."""
    tensors = {name: p.detach().contiguous() for name, p in walk.blocks[0].named_parameters()}
    path = folder / "block.safetensors"

    def one(some: Mapping[str, Tensor]) -> None:
        check_finite(walk.blocks[0])
        save_tensors(path, some)
        sha256_file(path)

    size = sum(each.nbytes for each in tensors.values())
    _, seconds = _typical(lambda: one(tensors))
    tried.seconds.dense = seconds / size
    place = folder / "tokenizer"
    _, tried.seconds.tokenizer = timed(
        lambda: save_tokenizer(opened.tokenizer, place, opened.files)
    )
    tried.bytes.tokenizer = sum(each.stat().st_size for each in place.glob("*"))
