"""Run blocks over batches of text: moments of every site, and what a block passes on.

An expert has moments of the languages whose tokens chose it, and of no others. A block that runs
several times has one set of moments, over all its runs: `n` counts a token once for each.

A linear of an encoder-decoder reads positions of the source, or of the target: no batch has as many
of one as of the other, so that the number of rows tells which of them count.

Shapes: B sequences, T positions, S of a source, H hidden size, I inputs of a site, R rows that it
sees; one language a batch.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from threading import local
from typing import TypeVar

import torch
from torch import Tensor

from babelpress.errors import BadModel
from babelpress.models.experts import See
from babelpress.models.handed import Hidden
from babelpress.models.linears import linears, watched, weight
from babelpress.models.sites import Site
from babelpress.models.walk import Walk
from babelpress.moments.accumulator import Accumulator, vectors_of
from babelpress.moments.moments import OPTIONAL
from babelpress.moments.store import BlockMoments
from babelpress.numerics.products import precise_for
from babelpress.system.memory import at_hand, give_back
from babelpress.system.offload import Hold, in_memory
from babelpress.system.progress import Progress, silent
from babelpress.system.threads import Turns, side_by_side
from babelpress.text.token_blocks import TokenBlocks

Result = TypeVar("Result")

AT_ONCE = 4  # batches that run side by side: of each some activations are in memory
BATCH_ELEMENTS = 1 << 20  # hidden numbers in a batch: 2 MiB in bfloat16, which stays in the cache

WIDE = 16  # times as many for a GPU, which runs one batch at a time


def never(_index: int) -> bool:
    """No block is done."""
    return False


@dataclass(frozen=True, slots=True)
class Batch:
    """Hidden states of some sequences of one language, and which positions of each side count."""

    language: str
    hidden_BTH: Hidden
    sides: tuple[Tensor, ...]

    @property
    def counted_BT(self) -> Tensor:
        """Which of the positions that the hidden states are of count."""
        shape = self.hidden_BTH.shape[:2]
        return next(each for each in self.sides if each.shape == shape)

    def passed(self, hidden_BTH: Hidden) -> "Batch":
        """The same batch further on."""
        return replace(self, hidden_BTH=hidden_BTH)


def batch_size(walk: Walk, length: int, batch_tokens: int = 0) -> int:
    """Sequences in a batch: as many as keep the hidden states in the processor's cache."""
    width = weight(walk.model.get_input_embeddings()).shape[1]
    elements = BATCH_ELEMENTS if walk.model.device.type == "cpu" else WIDE * BATCH_ELEMENTS
    return max(1, (batch_tokens or elements // width) // length)


def batches(
    walk: Walk, blocks: Mapping[str, TokenBlocks], *, batch_tokens: int = 0, hold: Hold = in_memory
) -> list[Batch]:
    """Hidden states before the first block, in batches of one language each."""
    found: list[Batch] = []
    device = walk.model.device
    for language, each in blocks.items():
        size = batch_size(walk, each.length, batch_tokens)
        for start in range(0, len(each.ids_BT), size):
            some = _cut(each.rows(slice(start, start + size)))
            source = some.source.to(device) if some.source else None
            hidden_BTH = walk.start(some.ids_BT.to(device), hold, source)
            sides = (some.counted_BT.to(device), *((source.counted_BS,) if source else ()))
            found.append(Batch(language, hidden_BTH, sides))
    return found


def _cut(some: TokenBlocks) -> TokenBlocks:
    """Pairs of an encoder-decoder without the positions behind that none of them fills."""
    if some.source is None:
        return some
    used_T = some.counted_BT.any(0).nonzero()
    length = int(used_T[-1]) + 1 if len(used_T) else 1
    return replace(
        some,
        ids_BT=some.ids_BT[:, :length],
        counted_BT=some.counted_BT[:, :length],
        source=some.source.cut(length),
    )


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
    vectors: Collection[str] = OPTIONAL,
) -> tuple[BlockMoments, list[Batch]]:
    """Moments of every site of a block over all batches, and what the block passes on.

    `vectors` are those that are kept besides the squares and the largest.

    Batches are taken out of `todo` as they are passed on. Not `passing`, they stay there, and the
    block is run only as far as its last linear. In a block of bfloat16 weights whatever it
    multiplies in float32 is rounded to bfloat16 meanwhile.
    """
    for batch in todo:
        walk.prepare(index, batch.hidden_BTH)
    sites = walk.sites(index, todo[0].hidden_BTH)
    layers = linears(walk.blocks[index])
    at_once = batches_at_once(walk, index)
    watch = _Watch(
        walk.name(index),
        sites,
        gram,
        vectors=vectors,
        in_turn=at_once > 1,
        all_run=not walk.has_experts(index),
    )

    def forward(number: int, batch: Batch) -> Batch:
        with watch.running(number, batch):
            return batch.passed(walk.run(index, batch.hidden_BTH, hold))

    def reach(number: int, batch: Batch) -> None:
        with watch.running(number, batch):
            run(batch.hidden_BTH)

    passed: list[Batch] = []
    with (
        watched({layers[site.linears[0]]: watch.look(site) for site in sites}),
        _precise(walk, index),
    ):
        if passing:
            passed = _onward(walk, index, _each(forward, todo, at_once, keep=False), hold)
        else:
            with walk.reaching(index, layers[sites[-1].linears[0]]) as run:
                _each(reach, todo, at_once, keep=True)
    found = watch.finish()
    give_back()
    return found, passed


@torch.no_grad()
@at_hand()
def pass_on(walk: Walk, index: int, todo: list[Batch], *, hold: Hold = in_memory) -> list[Batch]:
    """What a block, as it is now, makes of every batch; they are taken out of `todo` meanwhile."""

    def forward(_: int, batch: Batch) -> Batch:
        return batch.passed(walk.run(index, batch.hidden_BTH, hold))

    for batch in todo:
        walk.prepare(index, batch.hidden_BTH)
    with _precise(walk, index):
        passed = _each(forward, todo, batches_at_once(walk, index), keep=False)
        return _onward(walk, index, passed, hold)


def _onward(walk: Walk, index: int, passed: list[Batch], hold: Hold) -> list[Batch]:
    """What enters the next block, batch by batch: another stack begins with other hidden states."""
    for place, batch in enumerate(passed):
        passed[place] = batch.passed(walk.onward(index, batch.hidden_BTH, hold))
    return passed


def batches_at_once(walk: Walk, index: int) -> int:
    """How many batches a block runs side by side.

    One on a GPU, which is wide enough. One where experts are reached by some batches and not by
    others, so that nobody knows whose turn it is, and where a block runs several times, whose
    batches come to a site again; and one where weights are of several dtypes, for the precision of
    products is a setting of the whole process.
    """
    dtypes = {weight(layer).dtype for layer in linears(walk.blocks[index]).values()}
    in_turn = walk.times(index) == 1 and not walk.has_experts(index) and len(dtypes) == 1
    if walk.model.device.type != "cpu" or not in_turn:
        return 1
    return min(AT_ONCE, torch.get_num_threads())


def _precise(walk: Walk, index: int) -> AbstractContextManager[None]:
    """The precision of products that batches side by side share, whether anyone looks or not."""
    alone = batches_at_once(walk, index) == 1
    weights = [weight(layer) for layer in linears(walk.blocks[index]).values()]
    return precise_for(torch.float32 if alone else weights[0].dtype)


def _each(
    run: Callable[[int, Batch], Result], todo: list[Batch], at_once: int, *, keep: bool
) -> list[Result]:
    """What `run` gives for every batch; unless kept, each is dropped as soon as it has run."""
    waiting: dict[int, Batch] = dict(enumerate(todo))
    if not keep:
        todo.clear()  # two sets of hidden states are a lot
    return side_by_side(
        lambda number: run(number, waiting.pop(number)), range(len(waiting)), most=at_once
    )


class _Watch:
    """Adds up what the sites of a block see, in the order of the batches, on whatever threads."""

    def __init__(
        self,
        place: str,
        sites: Sequence[Site],
        gram: bool,
        *,
        vectors: Collection[str],
        in_turn: bool,
        all_run: bool,
    ):
        self._sums: dict[Site, dict[str, Accumulator]] = {site: {} for site in sites}
        self._place, self._gram, self._vectors = place, gram, vectors
        self._turns = Turns() if in_turn else None
        self._all_run = all_run
        self._now = local()

    @contextmanager
    def running(self, number: int, batch: Batch) -> Iterator[None]:
        """Inside, this thread runs a batch.

        Raises BadModel where a site that every batch should reach was not reached as often as in
        the first pass: sums would lack it, and others wait for it.
        """
        self._now.number, self._now.batch, self._now.runs = number, batch, Counter()
        with self._turns.taking_part(number) if self._turns else nullcontext():
            yield
            missed = [s for s in self._sums if self._now.runs[s] != len(s.reads)]
            if missed and self._all_run:
                raise BadModel(self._miscounted(missed[0]))

    def look(self, site: Site) -> See:
        """What adds the rows of a site to its moments."""

        def see(x_RI: Tensor, token_R: Tensor | None) -> None:
            self._now.runs[site] += 1
            if self._now.runs[site] > len(site.reads):
                raise BadModel(self._miscounted(site))
            if not site.reads[self._now.runs[site] - 1]:
                return
            batch: Batch = self._now.batch
            rows_RI = self._counted(site, batch, x_RI, token_R)
            where = self._where(site, batch.language)
            # An expert may see no token that counts.
            sums = (
                vectors_of(rows_RI, self._vectors, gram=self._gram, where=where)
                if len(rows_RI)
                else None
            )
            with self._turns.turn(site, self._now.number) if self._turns else nullcontext():
                if sums is not None:
                    self._of(site, batch.language, x_RI.device).take(sums, rows_RI)

        return see

    def _miscounted(self, site: Site) -> str:
        found, language = self._now.runs[site], self._now.batch.language
        return (
            f"{self._place}.{site.name} was run {found} times in a batch of {language}, not "
            f"{len(site.reads)}. Blocks whose linears do not each run as often, whatever the text, "
            "are not supported."
        )

    def _where(self, site: Site, language: str) -> str:
        return f"{self._place}.{site.name} in {language}"

    def _counted(self, site: Site, batch: Batch, x_RI: Tensor, token_R: Tensor | None) -> Tensor:
        """The rows that count."""
        sides = batch.sides if token_R is None else (batch.counted_BT,)
        keep_R = rows_that_count(sides, len(x_RI), token_R, f"{self._place}.{site.name}")
        return x_RI if keep_R.all() else x_RI[keep_R]

    def _of(self, site: Site, language: str, device: torch.device) -> Accumulator:
        seen = self._sums[site]
        if language not in seen:
            seen[language] = Accumulator(
                site.inputs, self._gram, device=device, vectors=self._vectors
            )
        return seen[language]

    def finish(self) -> BlockMoments:
        """The moments, when all batches have run."""
        return {
            site: {
                language: each.finish(where=self._where(site, language))
                for language, each in seen.items()
            }
            for site, seen in self._sums.items()
        }


def rows_that_count(
    sides: Sequence[Tensor], rows: int, token_R: Tensor | None, where: str
) -> Tensor:
    """Which rows (R,) of a site are of positions that count, of whichever side has so many.

    `token_R` are the positions of the first side that rows are of, where they are not all in order.
    Raises BadModel where rows are not tokens.
    """
    flat = [each.flatten() for each in sides]
    if token_R is not None:
        flat = [flat[0][token_R]]
    keep_R = next((each for each in flat if len(each) == rows), None)
    if keep_R is None:
        raise BadModel(f"{where} sees {rows} rows, not one a token.")
    return keep_R


@torch.no_grad()
def gather_dense(
    walk: Walk,
    blocks: Mapping[str, TokenBlocks],
    *,
    gram: bool,
    batch_tokens: int = 0,
    vectors: Collection[str] = OPTIONAL,
    hold: Hold = in_memory,
    done: Callable[[int], bool] = never,
    progress: Progress = silent,
) -> Iterator[tuple[int, BlockMoments]]:
    """Moments of the dense model, block by block; a block that is `done` is only passed through."""
    todo = batches(walk, blocks, batch_tokens=batch_tokens, hold=hold)
    progress("calibrate: block", 0, len(walk.blocks))
    for index in range(len(walk.blocks)):
        if done(index):
            todo = pass_on(walk, index, todo, hold=hold)
        else:
            last = index + 1 == len(walk.blocks)
            moments, todo = gather(
                walk, index, todo, gram=gram, vectors=vectors, hold=hold, passing=not last
            )
            yield index, moments
            del moments
        progress("calibrate: block", index + 1, len(walk.blocks))
