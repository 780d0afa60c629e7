"""What a pressing step will take, from trying the first block (`press/trial.py`).

All else is multiplication: batches, blocks, languages, rounds that find a mixture. Nothing is
written but one block to a temporary folder, to see how fast the disk is.

Tested in tests/runs/test_estimate.py.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from babelpress.models.linears import linears, weight
from babelpress.models.open import Opened
from babelpress.models.walk import Walk
from babelpress.moments.gather import batch_size
from babelpress.moments.store import Store
from babelpress.moments.weigh import rows_of_batch
from babelpress.press import trial as tries
from babelpress.press.method import Method
from babelpress.press.trial import Tried
from babelpress.steps import _measured
from babelpress.steps._kind import Estimate
from babelpress.steps._looking import contrasted
from babelpress.steps._pressing import LookingSettings, PressingSettings
from babelpress.system.memory import peak, used
from babelpress.system.offload import in_memory, on_disk
from babelpress.text.mixtures import MEASURED, MINIMAX
from babelpress.text.settings import LOSS, CalibrationSettings
from babelpress.text.token_blocks import TokenBlocks


@dataclass(frozen=True, slots=True)
class Trial:
    """An open model with its text, to try steps on, and what opening and drawing took.

    There are no `blocks` where every step is of a task, and reads labelled text.

    `near` is where files may be tried, `base` the memory in use before anything is tried,
    `open_again` the seconds to open what a step before made.
    """

    opened: Opened
    asked: CalibrationSettings
    walk: Walk
    blocks: Mapping[str, TokenBlocks]
    near: Path | None
    offload: bool
    base: int
    hash_seconds: float
    open_seconds: float
    open_again: float
    text_seconds: float


@dataclass(frozen=True, slots=True)
class _Work:
    """How much there is to do.

    `batches` may have a fraction, for a language that does not fill one; `shapes` are those of
    batches. `weighed` says whether the loss weighs tokens, `tables` whether embedding and head are
    quantized too.
    """

    step: LookingSettings
    weighed: bool
    tables: bool
    blocks: int
    languages: tuple[str, ...]
    batches: float
    shapes: int
    offload: bool

    @property
    def minimax(self) -> bool:
        return self.step.mixture == MINIMAX

    @property
    def pressed(self) -> int:
        """Times that all blocks are pressed before they are at last: rounds of measured."""
        if self.step.mixture != MEASURED:
            return 0
        assert isinstance(self.step, PressingSettings)
        return self.step.measured.rounds

    @property
    def compressed(self) -> bool:
        return self.step.propagate == "compressed"

    @property
    def passing(self) -> bool:
        """Whether moments of the dense model are gathered."""
        return not self.step.moments and (self.step.looks_twice or not self.compressed)


def pressing(
    trial: Trial,
    step: LookingSettings,
    method: Method,
    *,
    against: str | None = None,
    tables: bool = False,
    chained: bool,
) -> Estimate:
    """What a pressing step will take; a `chained` one opens what another made.

    `against` is a second moments folder, which is read beside.
    """
    work = _work(trial, step, tables)
    score = _try_scoring(trial, work)
    tried = _try(trial, work, method, against)
    phases = {
        "open": trial.hash_seconds + (trial.open_again if chained else trial.open_seconds),
        "text": 0.0 if step.moments else trial.text_seconds,
        **_phases(trial.walk, work, tried, score),
        "save": tried.seconds.dense * _dense_bytes(trial.opened) + tried.seconds.tokenizer,
    }
    memory = trial.base + max(_memory(trial.walk, work, tried), score.bytes)
    return Estimate(phases, memory, _disk(trial, work, tried, chained=chained))


def _work(trial: Trial, step: LookingSettings, tables: bool) -> _Work:
    walk, number = trial.walk, len(trial.walk.blocks)
    if step.moments:
        there = tuple(Store.open(Path(step.moments)).identity["languages"])
        return _Work(step, False, tables, number, there, 0.0, 0, trial.offload)
    weighed = trial.asked.weigh == LOSS
    shapes: set[tuple[int, int]] = set()
    batches = 0.0
    for count, length in ((len(each.ids_BT), each.length) for each in trial.blocks.values()):
        size = rows_of_batch(walk, length) if weighed else batch_size(walk, length)
        shapes |= {(min(size, rest), length) for rest in (count, count % size) if rest}
        batches += count / size
    tags = tuple(trial.blocks)
    return _Work(step, weighed, tables, number, tags, batches, len(shapes), trial.offload)


@dataclass(frozen=True, slots=True)
class _Score:
    """What scoring the text held out of one language takes."""

    seconds: float = 0.0
    bytes: int = 0


def _try_scoring(trial: Trial, work: _Work) -> _Score:
    """Score one language, where the mixture is found so."""
    if not work.pressed:
        return _Score()
    assert isinstance(work.step, PressingSettings)
    scores = _measured.tried(trial.opened, trial.asked, work.step, work.languages[0])
    before = used()
    with peak() as most:
        _, seconds = tries.timed(scores)
    return _Score(seconds, max(most.bytes - before, 0) + _changed(trial.walk, work))


def _try(trial: Trial, work: _Work, method: Method, against: str | None) -> Tried:
    tried, other, walk = Tried(), Tried(), trial.walk
    with tempfile.TemporaryDirectory(dir=trial.near) as name:
        folder = Path(name)
        hold = on_disk(folder) if work.offload else in_memory
        if work.step.moments:
            moments = tries.try_store(tried, Store.open(Path(work.step.moments)))
        else:
            few, batch = tries.try_text(tried, walk, trial.blocks, method, hold=hold)
            moments = tries.for_everyone(few, batch, trial.blocks)
            if work.weighed:
                slopes = trial.asked.first_order
                tries.try_weighed(tried, walk, trial.blocks, method, slopes=slopes)
        if against is not None:
            second = tries.try_store(other, Store.open(Path(against)))
            moments = contrasted(moments, second)
        shares = dict.fromkeys(work.languages, 1 / len(work.languages))
        tries.try_press(
            tried, walk, moments, method, shares, rounds=work.minimax, hold=hold, folder=folder
        )
        tried.bytes.press += other.bytes.moments
        tried.seconds.first_read += other.seconds.first_read
        tried.seconds.read += other.seconds.read
        if work.tables:
            tries.try_table(tried, walk)
        tries.try_saving(tried, trial.opened, walk, folder)
    return tried


def _phases(walk: Walk, work: _Work, tried: Tried, score: _Score) -> dict[str, float]:
    """Seconds of what is done once for every block, batch and round."""
    found = _once(walk, work, tried)
    if work.pressed:
        again = ("press", "folds", *(("gather", "pass on") if work.compressed else ()))
        scored = len(work.languages) * score.seconds
        each = sum(found.get(name, 0.0) for name in again) + scored
        found["measured"] = work.pressed * each + scored
    return found


def _once(walk: Walk, work: _Work, tried: Tried) -> dict[str, float]:
    """The same where the shares are given, or minimax finds them."""
    number, each = work.blocks, tried.seconds
    rounds = work.step.minimax.rounds if work.minimax else 0
    found = {"minimax": number * rounds * each.round, "press": number * each.press}
    rounds += work.pressed
    if each.first_read:
        found["read"] = number * (each.first_read + rounds * each.read)
    found["folds"] = number * each.folds * (1 + work.minimax)
    if work.tables:
        found["tables"] = each.table * _rows(walk)
    if work.step.moments:
        return found
    start = work.batches * each.start
    last = number - 1  # passes nothing on
    gather = each.warm + work.shapes * each.prepare
    if work.weighed:
        return {"gather": each.warm + tried.passes * work.batches * each.back, **found}
    if work.passing:
        batch = last * each.gather + each.reach
        gather += start + number * each.sites + work.batches * batch
    if work.compressed:
        gather += start + number * (each.sites + work.batches * each.reach)
        found["pass on"] = work.batches * each.pass_on * last
    return {"gather": gather, **found}


def _memory(walk: Walk, work: _Work, tried: Tried) -> int:
    """Bytes at the worst moment, beyond those of an open model: at the last block."""
    each = tried.bytes
    if work.step.moments:
        return each.moments + each.press + _changed(walk, work)
    of_block = len(work.languages) * each.moments
    stays = work.weighed or (work.step.looks_twice and not work.offload)
    kept = work.blocks if stays else tried.together
    both = work.step.looks_twice and work.compressed and not work.offload
    hidden = 0 if work.offload or work.weighed else _hidden_bytes(work, tried)
    after = max(each.press, each.table * _rows(walk))
    busiest = max(each.batch, each.stays + after)
    return hidden + of_block * (kept + both) + _changed(walk, work) + busiest


def _hidden_bytes(work: _Work, tried: Tried) -> int:
    """Bytes of all hidden states between two blocks, and what their batches bring along."""
    return round(work.batches * tried.bytes.hidden)


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
    own = sum(p.numel() for p in opened.model.parameters()) * opened.stored_dtype.itemsize
    return own + sum(each.bytes for each in opened.carried)


def _disk(trial: Trial, work: _Work, tried: Tried, *, chained: bool) -> int:
    """Bytes in the run folder at the worst moment: what a chained step was given lies there too."""
    walk = trial.walk
    model = _dense_bytes(trial.opened) + tried.bytes.tokenizer
    stored = model + work.blocks * tried.bytes.codes
    if work.tables:
        table_VH = weight(walk.model.get_input_embeddings())
        stored += _rows(walk) * (table_VH.shape[1] + 5)  # codes, a scale and a zero point
    held = 0
    if work.offload:
        spooled = work.blocks * len(work.languages) * tried.bytes.moments * work.step.looks_twice
        everything = sum(weight(e).nbytes for b in walk.blocks for e in linears(b).values())
        held = _hidden_bytes(work, tried) + everything + (0 if work.step.moments else spooled)
    return stored + (model if chained else 0) + held
