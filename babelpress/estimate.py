"""What a recipe will take: seconds, memory and disk, from trying its first block.

The model is opened (its weights stay mapped files), the text is drawn, and the first block is tried
(`probing.py`). All else is multiplication: batches, blocks, languages, rounds of minimax. Nothing
is written but one block to a temporary folder, to see how fast the disk is.

Seconds are those of the run itself, without the start of the process.
"""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from babelpress import opening, probing
from babelpress.feeding import batch_size
from babelpress.gathering import text
from babelpress.memory import used
from babelpress.methods import Method
from babelpress.models import Walk, linears, weight
from babelpress.offload import in_memory, on_disk
from babelpress.opening import Opened, open_model
from babelpress.packing import Blocks
from babelpress.probing import Tried, timed
from babelpress.recipe import Prune, Quantize, Recipe
from babelpress.step import MINIMAX, method_of
from babelpress.store import Store


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
    """How much there is to do.

    `batches` may have a fraction, for a language that does not fill one; `passes` and `looks` are
    how often a block passes batches on, and is looked into while or without it does.
    """

    step: Prune | Quantize
    blocks: int
    languages: tuple[str, ...]
    batches: float
    shapes: int
    hidden_bytes: int
    offload: bool

    @property
    def minimax(self) -> bool:
        return self.step.mixture == MINIMAX

    @property
    def compressed(self) -> bool:
        return self.step.propagate == "compressed"

    @property
    def passing(self) -> bool:
        """Whether moments of the dense model are gathered."""
        return not self.step.moments and (self.minimax or not self.compressed)

    @property
    def eight_bits(self) -> bool:
        """Whether embedding and head are quantized too."""
        return isinstance(self.step, Quantize) and self.step.embeddings == "8bit"


def estimate(
    plan: Recipe, *, device: str = "cpu", offload: bool = False, near: Path | None = None
) -> list[Estimate]:
    """One estimate a step, of a run whose folder is to be made in `near`.

    Raises what opening the model and drawing the text raise.
    """
    opened, open_seconds = timed(lambda: open_model(plan.model, device=device))
    _, hash_seconds = timed(lambda: opening.fingerprint(opened.model))
    walk = Walk(opened.model)
    blocks, text_seconds = timed(lambda: text(opened, plan.calibration).blocks)
    base = used()
    again_seconds = 0.0
    if len(plan.steps) > 1:  # what a step made is hashed before it is opened
        again_seconds = hash_seconds + timed(lambda: open_model(plan.model, device=device))[1]
    found = []
    for number, step in enumerate(plan.steps):
        work = _work(walk, blocks, step.work, offload=offload)
        tried = _try(opened, walk, blocks, work, method_of(step.work), near)
        phases = {
            "open": hash_seconds + (again_seconds if number else open_seconds),
            "text": 0.0 if step.work.moments else text_seconds,
            **_phases(walk, work, tried),
            "save": tried.seconds["dense"] * _dense_bytes(opened) + tried.seconds["tokenizer"],
        }
        memory = base + _memory(walk, work, tried)
        disk = _disk(opened, walk, work, tried, chained=number > 0)
        found.append(Estimate(phases, memory, disk))
    return found


def _work(
    walk: Walk, blocks: Mapping[str, Blocks], step: Prune | Quantize, *, offload: bool
) -> _Work:
    number = len(walk.blocks)
    if step.moments:
        there = tuple(Store.open(Path(step.moments)).identity["languages"])
        return _Work(step, number, there, 0.0, 0, 0, offload)
    length = next(iter(blocks.values())).ids_BT.shape[1]
    size = batch_size(walk, length)
    counts = [len(each.ids_BT) for each in blocks.values()]
    shapes = {min(size, rest) for count in counts for rest in (count, count % size) if rest}
    table_VH = weight(walk.model.get_input_embeddings())
    hidden = sum(counts) * length * table_VH.shape[1] * table_VH.element_size()
    return _Work(step, number, tuple(blocks), sum(counts) / size, len(shapes), hidden, offload)


def _try(
    opened: Opened,
    walk: Walk,
    blocks: Mapping[str, Blocks],
    work: _Work,
    method: Method,
    near: Path | None,
) -> Tried:
    tried = Tried()
    with tempfile.TemporaryDirectory(dir=near) as name:
        folder = Path(name)
        hold = on_disk(folder) if work.offload else in_memory
        if work.step.moments:
            moments = probing.try_store(tried, Store.open(Path(work.step.moments)))
        else:
            few, batch = probing.try_text(tried, walk, blocks, method, hold=hold)
            moments = probing.for_everyone(few, batch, blocks)
        shares = dict.fromkeys(work.languages, 1 / len(work.languages))
        where = {"hold": hold, "folder": folder}
        probing.try_press(tried, walk, moments, method, shares, rounds=work.minimax, **where)
        if work.eight_bits:
            probing.try_table(tried, walk)
        probing.try_saving(tried, opened, walk, folder)
    return tried


def _phases(walk: Walk, work: _Work, tried: Tried) -> dict[str, float]:
    """Seconds of what is done once for every block, batch and round."""
    number, each = work.blocks, tried.seconds
    rounds = work.step.minimax.rounds if work.minimax else 0
    found = {"minimax": number * rounds * each["round"], "press": number * each["press"]}
    found["folds"] = number * each["folds"] * (1 + work.minimax)
    if work.eight_bits:
        found["tables"] = each["table"] * _rows(walk)
    if work.step.moments:
        found["read"] = number * (each["first read"] + rounds * each["read"])
        return found
    start = work.batches * each["start"]
    last = number - 1  # passes nothing on
    gather = each["warm"] + work.shapes * each["prepare"]
    if work.passing:
        batch = last * each["gather"] + each["reach"]
        gather += start + number * each["sites"] + work.batches * batch
    if work.compressed:
        gather += start + number * (each["sites"] + work.batches * each["reach"])
        found["pass on"] = work.batches * each["pass"] * last
    return {"gather": gather, **found}


def _memory(walk: Walk, work: _Work, tried: Tried) -> int:
    """Bytes at the worst moment, beyond those of an open model: at the last block."""
    each = tried.bytes
    if work.step.moments:
        return each["moments"] + each["press"] + _changed(walk, work)
    of_block = len(work.languages) * each["moments"]
    kept = work.blocks if work.minimax and not work.offload else 1
    both = work.minimax and work.compressed and not work.offload
    hidden = 0 if work.offload else work.hidden_bytes
    after = max(each["press"], each.get("table", 0) * _rows(walk))
    busiest = max(each["batch"], each["stays"] + after)
    return hidden + of_block * (kept + both) + _changed(walk, work) + busiest


def _changed(walk: Walk, work: _Work) -> int:
    """Bytes of the blocks that were pressed and lie in memory."""
    of_blocks = [
        sum(weight(each).nbytes for each in linears(block).values()) for block in walk.blocks
    ]
    return max(of_blocks) if work.offload else sum(of_blocks)


def _rows(walk: Walk) -> int:
    """Rows of the embedding, and of the head where it is another table."""
    tables = {
        weight(each).data_ptr(): len(weight(each))
        for each in (walk.model.get_input_embeddings(), walk.model.get_output_embeddings())
        if each is not None
    }
    return sum(tables.values())


def _dense_bytes(opened: Opened) -> int:
    return sum(p.numel() for p in opened.model.parameters()) * opened.stored_dtype.itemsize


def _disk(opened: Opened, walk: Walk, work: _Work, tried: Tried, *, chained: bool) -> int:
    """Bytes in the run folder at the worst moment: what a chained step was given lies there too."""
    model = _dense_bytes(opened) + tried.bytes["tokenizer"]
    stored = model + work.blocks * tried.bytes["codes"]
    if work.eight_bits:
        table_VH = weight(walk.model.get_input_embeddings())
        stored += _rows(walk) * (table_VH.shape[1] + 5)  # codes, a scale and a zero point
    held = 0
    if work.offload:
        spooled = work.blocks * len(work.languages) * tried.bytes["moments"] * work.minimax
        everything = sum(weight(e).nbytes for b in walk.blocks for e in linears(b).values())
        held = work.hidden_bytes + everything + (0 if work.step.moments else spooled)
    return stored + (model if chained else 0) + held
