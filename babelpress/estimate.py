"""What a recipe will take: seconds, memory and disk, from trying its first block.

The model is opened (its weights stay mapped files), the text is drawn, one batch goes through the
first block, its moments are taken and the block is pressed as every language would have it pressed.
All else is multiplication: batches, blocks, rounds of minimax. Nothing is written but one block to
a temporary folder, to see how fast the disk is.

Memory is that which the system cannot take back (`memory.py`). Times are of this machine as busy as
it is now.
"""

import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from babelpress import opening, press
from babelpress.feeding import Batch, batch_size, batches, gather, pass_on
from babelpress.files import save_tensors, sha256_file
from babelpress.folds import find_folds
from babelpress.gathering import text
from babelpress.memory import give_back, peak, used
from babelpress.methods import Method
from babelpress.models import Walk, linears, weight
from babelpress.opening import Opened, open_model
from babelpress.packing import Blocks
from babelpress.recipe import Prune, Quantize, Recipe
from babelpress.step import MINIMAX, method_of
from babelpress.store import BlockMoments, Store

T = TypeVar("T")

CODE_BYTES = 1  # of a weight's code as a run keeps it
GROUP_BYTES = 5  # of a group's scale and zero point


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a step will take: seconds by phase, and bytes at the worst moment."""

    phases: dict[str, float]
    memory_bytes: int
    disk_bytes: int

    @property
    def seconds(self) -> float:
        """All phases."""
        return math.fsum(self.phases.values())


@dataclass(frozen=True, slots=True)
class _Work:
    """How much there is to do: batches (a part of one counts as such), languages, hidden bytes."""

    batches: float
    shapes: int
    languages: tuple[str, ...]
    hidden_bytes: int


@dataclass(frozen=True, slots=True)
class _Tried:
    """Seconds of the parts of one block, for one batch where a batch is in the name, and bytes."""

    seconds: dict[str, float]
    batch_bytes: int
    moments_bytes: int
    press_bytes: int


@torch.no_grad()
def estimate(plan: Recipe, *, device: str = "cpu", offload: bool = False) -> list[Estimate]:
    """One estimate a step. Raises what opening the model and drawing the text raise."""
    opened, open_seconds = _timed(lambda: open_model(plan.model, device=device))
    _, hash_seconds = _timed(lambda: opening.fingerprint(opened.model))
    walk = Walk(opened.model)
    blocks, text_seconds = _timed(lambda: text(opened, plan.calibration).blocks)
    found = []
    for number, step in enumerate(plan.steps):
        method = method_of(step.work)
        work = _work(walk, blocks, step.work)
        tried = _try(walk, blocks, work, method)
        phases = {
            "open": open_seconds + hash_seconds,
            "text": 0.0 if step.work.moments else text_seconds,
            **_phases(step.work, walk, work, tried),
            "save": tried.seconds["save"] * _stored(opened, walk, step.work),
        }
        memory = _memory(step.work, walk, work, tried, offload=offload)
        disk = _disk(opened, walk, step.work, work, chained=number > 0, offload=offload)
        found.append(Estimate(phases, memory, disk))
    return found


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.monotonic()
    return work(), time.monotonic() - start


def _work(walk: Walk, blocks: Mapping[str, Blocks], step: Prune | Quantize) -> _Work:
    if step.moments:
        there = tuple(Store.open(Path(step.moments)).identity["languages"])
        return _Work(0.0, 0, there, 0)
    length = next(iter(blocks.values())).ids_BT.shape[1]
    size = batch_size(walk, length)
    counts = [len(each.ids_BT) for each in blocks.values()]
    shapes = {min(size, rest) for count in counts for rest in (count, count % size) if rest}
    table_VH = weight(walk.model.get_input_embeddings())
    hidden = sum(counts) * length * table_VH.shape[1] * table_VH.element_size()
    return _Work(sum(counts) / size, len(shapes), tuple(blocks), hidden)


def _try(walk: Walk, blocks: Mapping[str, Blocks], work: _Work, method: Method) -> _Tried:
    """One batch through the first block, and the block pressed."""
    longest = max(blocks.values(), key=lambda each: len(each.ids_BT))
    size = batch_size(walk, longest.ids_BT.shape[1])
    few = {
        longest.language: Blocks(longest.language, longest.ids_BT[:size], longest.counted_BT[:size])
    }
    seconds: dict[str, float] = {}
    todo, seconds["start"] = _timed(lambda: batches(walk, few))
    share = size / len(longest.ids_BT[:size])  # a language may not fill a batch
    hidden_BTH = todo[0].hidden_BTH
    _, seconds["prepare"] = _timed(lambda: walk.prepare(hidden_BTH))
    _, seconds["sites"] = _timed(lambda: walk.sites(0, hidden_BTH))
    before = used()
    with peak() as most:
        (moments, _), gathered = _timed(lambda: gather(walk, 0, todo, gram=method.needs_gram))
    batch_bytes = most.bytes - before
    seconds["gather"] = max(gathered - seconds["sites"], 0.0) * share
    seconds["start"] *= share
    _, passed = _timed(lambda: pass_on(walk, 0, todo))
    seconds["pass"] = passed * share
    of_one = sum(t.nbytes for seen in moments.values() for t in _tensors(seen))
    press_bytes = _try_press(walk, moments, todo, work, method, seconds)
    seconds["save"] = _save_rate(walk)
    give_back()
    return _Tried(seconds, batch_bytes, of_one, press_bytes)


def _tensors(seen: Mapping[str, object]) -> list[torch.Tensor]:
    return [t for each in seen.values() for t in each.tensors().values()]  # type: ignore[attr-defined]


def _try_press(
    walk: Walk,
    moments: BlockMoments,
    todo: list[Batch],
    work: _Work,
    method: Method,
    seconds: dict[str, float],
) -> int:
    """Press the first block as all languages would; bytes at the worst moment."""
    language = todo[0].language
    everyone = {s: dict.fromkeys(work.languages, seen[language]) for s, seen in moments.items()}
    shares = dict.fromkeys(work.languages, 1 / len(work.languages))
    folds, seconds["folds"] = {}, 0.0
    if method.scales:
        folds, seconds["folds"] = _timed(lambda: find_folds(walk, 0, todo[0].hidden_BTH[:1]))
    dense = {name: weight(each).clone() for name, each in linears(walk.blocks[0]).items()}
    before = used()
    with peak() as most:
        _, seconds["press"] = _timed(
            lambda: press.press_block(walk, 0, everyone, method, shares, folds)
        )
    kept = sum(each.nbytes for each in dense.values())
    return max(most.bytes - before - kept, 0)


def _save_rate(walk: Walk) -> float:
    """Seconds a byte: writing one block and hashing it."""
    tensors = {name: p.detach().contiguous() for name, p in walk.blocks[0].named_parameters()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "block.safetensors"
        _, seconds = _timed(lambda: (save_tensors(path, tensors), sha256_file(path)))
    return seconds / sum(each.nbytes for each in tensors.values())


def _phases(step: Prune | Quantize, walk: Walk, work: _Work, tried: _Tried) -> dict[str, float]:
    """Seconds of what is done once for every block, batch and round."""
    number, each = len(walk.blocks), tried.seconds
    compressed = step.propagate == "compressed"
    minimax = step.mixture == MINIMAX
    gathers = 0 if step.moments else 1 + (compressed and minimax)
    passes = work.batches * each["pass"] * (number - 1) if compressed else 0.0
    start = work.batches * each["start"] + work.shapes * each["prepare"]
    return {
        "gather": gathers * (start + number * (each["sites"] + work.batches * each["gather"])),
        "pass on": passes,
        "folds": number * each["folds"] * (1 + minimax),
        "minimax": number * each["press"] * step.minimax.rounds if minimax else 0.0,
        "press": number * each["press"],
    }


def _memory(
    step: Prune | Quantize, walk: Walk, work: _Work, tried: _Tried, *, offload: bool
) -> int:
    """Bytes at the worst moment: the last block, when all others are pressed."""
    of_block = len(work.languages) * tried.moments_bytes
    spooled = step.mixture == MINIMAX and not step.moments and not offload
    moments = of_block * (len(walk.blocks) if spooled else 1)
    hidden = 0 if offload else 2 * work.hidden_bytes
    pressed = 0 if offload else _pressed_bytes(walk)
    busiest = max(tried.batch_bytes, tried.press_bytes)
    return used() + hidden + moments + pressed + busiest


def _pressed_bytes(walk: Walk) -> int:
    return sum(weight(each).nbytes for block in walk.blocks for each in linears(block).values())


def _weights(walk: Walk) -> int:
    return sum(weight(each).numel() for block in walk.blocks for each in linears(block).values())


def _stored(opened: Opened, walk: Walk, step: Prune | Quantize) -> int:
    """Bytes that a step writes: the model, and codes."""
    dense = sum(p.numel() for p in opened.model.parameters()) * opened.stored_dtype.itemsize
    if isinstance(step, Prune):
        return dense
    weights = _weights(walk)
    group = step.group if isinstance(step.group, int) else weight(_first(walk)).shape[1]
    return dense + weights * CODE_BYTES + weights // group * GROUP_BYTES


def _first(walk: Walk) -> torch.nn.Module:
    return next(iter(linears(walk.blocks[0]).values()))  # type: ignore[return-value]


def _disk(
    opened: Opened,
    walk: Walk,
    step: Prune | Quantize,
    work: _Work,
    *,
    chained: bool,
    offload: bool,
) -> int:
    """Bytes in the run folder at the worst moment: what a chained step was given lies there too."""
    stored = _stored(opened, walk, step)
    dense = sum(p.numel() for p in opened.model.parameters()) * opened.stored_dtype.itemsize
    held = 2 * work.hidden_bytes + _pressed_bytes(walk) if offload else 0
    return stored + (dense if chained else 0) + held
