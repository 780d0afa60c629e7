"""Recover: open the dense model, see what learns, train, and say what became of every language.

Training resumes: its checkpoints lie in the step's folder while it is not done, beside the
fingerprint of what they are checkpoints of.

Tested in tests/steps/test_recover.py.
"""

import shutil
import tempfile
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

from torch.optim import AdamW

from babelpress.errors import BadModel
from babelpress.models import vocabulary
from babelpress.models.ledger import ledger
from babelpress.models.open import Opened
from babelpress.models.weights import weights_hash
from babelpress.press.codes import FOLDER as CODES
from babelpress.press.trial import timed
from babelpress.recover import REPAIRS
from babelpress.steps import _by_block
from babelpress.steps._dense import open_dense
from babelpress.steps._estimating import Trial
from babelpress.steps._kind import TABLE, Done, Estimate, MixtureRow, ModelRow
from babelpress.steps._repairing import Repair
from babelpress.steps._training import MOMENTS, checkpoints, cosine
from babelpress.steps._watching import Length, mean_shares, train
from babelpress.steps.recover import KEPT, Report, Settings
from babelpress.system.cost import measured
from babelpress.system.memory import peak, used
from babelpress.system.offload import Hold, in_memory, on_disk
from babelpress.system.progress import Progress, remark, silent
from babelpress.text.settings import CalibrationSettings
from babelpress.train import fit as fitting
from babelpress.train.kept import Kept, bytes_of
from babelpress.train.reading import Reader
from babelpress.train.recovering import AsScored, Recovery, losses_of
from babelpress.train.tuned import Tuned, tables_of


def recover(
    opened: Opened,
    asked: CalibrationSettings,
    settings: Settings,
    folder: Path,
    hold: Hold,
    progress: Progress,
) -> Done:
    """The model, repaired; `folder` keeps checkpoints until it is.

    Raises BadModel, BadSetting, BadRun or BadCorpus before anything is trained where the models,
    the repair and the text do not fit together.
    """
    name = settings.against or opened.name
    dense = open_dense(opened, opened.dense or name, name)
    repair = Repair.of(opened, dense, asked, settings)
    known = ModelRow(name=opened.name, fingerprint=weights_hash(opened.model))
    against = {"name": name, "fingerprint": weights_hash(dense.model)}
    work = {
        "model": known.fingerprint,
        "against": against,
        "pruned": sorted(opened.pruned),
        "coded": repair.coded,
        "settings": settings.model_dump(mode="json"),
        "text": asked.model_dump(mode="json"),
        "corpus": repair.texts.manifest.get("fingerprint"),
    }
    place = checkpoints(folder, work, progress)
    if hold is not in_memory and not settings.by_block:
        remark(progress, f"--offload has no effect on {settings.repair}: all is in memory")
    with measured() as cost:
        if settings.by_block:
            own = _by_block.repair(repair, place, folder, hold, progress)
        else:
            own = _whole(repair, place, progress)
    if repair.codes is not None and not (folder / CODES).exists():
        shutil.copytree(repair.codes.folder, folder / CODES)
    opened.model.requires_grad_(True).eval()
    done = {"model": known, "against": against, "cost": cost, **_told(repair, own)}
    return Done(own.model_copy(update=done), {}, opened)


def _told(repair: Repair, own: Report) -> dict[str, Any]:
    """What a report says of a repair that is done, besides what was found."""
    opened, codes = repair.opened, repair.codes
    rows = {} if codes is None else codes.rows
    index_of = repair.walk.index_of
    return {
        "step": repair.settings.model_dump(mode="json"),
        "calibration": repair.texts.manifest,
        "mixture": MixtureRow.of(repair.mixed, mean_shares(own.at, own.drawn)),
        "ledger": ledger(opened.model, rows, index_of, opened.stored_dtype, carried=opened.carried),
        "apart": repair.texts.told,
        "rate": repair.rate,
        "learnt": repair.learns,
        "coded": 0 if codes is None else _numbers(repair),
    }


def _numbers(repair: Repair) -> int:
    """How many weights lie on a grid."""
    assert repair.codes is not None
    shapes = (repair.codes.row(name)["shape"] for name in repair.coded)
    return sum(rows * inputs for rows, inputs in shapes)


# ---- the whole model at once ---------------------------------------------------------------


def _whole(repair: Repair, place: Path, progress: Progress) -> Report:
    """Train the whole model; what did best on text held apart is what it becomes."""
    made = _recovery(repair, place, progress)
    stopped = _train(made, repair.settings, repair.rate, progress)
    trained = sum(each.numel() for each in made.tuned.parameters.values())
    made.load_best()
    made.tuned.finish()
    if isinstance(made.dense, Kept):
        made.dense.close()
    return Report(
        model=ModelRow(name=""),
        reference=made.reference,
        losses_apart=made.found,
        at=made.at,
        drawn=made.used,
        best=made.best,
        losses=made.losses,
        read=made.tokens,
        trained=trained,
        zeros=made.tuned.zeros,
        stopped=stopped,
    )


def _recovery(repair: Repair, place: Path, progress: Progress) -> Recovery:
    """The model in float32, with what learns of it and what it learns from."""
    settings = repair.settings
    model, teacher = repair.opened.model.float(), repair.dense.model.float()
    teacher.requires_grad_(False)
    tuned = Tuned.of(
        model,
        settings.learns,
        blocks=repair.walk.blocks,
        pruned=repair.pruned,
        fixed=repair.coded,
        tables=tables_of(model) if settings.embeddings else (),
        pruned_tables=TABLE in repair.opened.pruned,
        rank=settings.rank,
        seed=repair.seed,
    )
    if not settings.embeddings:
        vocabulary.share(teacher, model)
    reader = Reader.of(teacher.eval())
    reference = losses_of(reader, repair.apart, repair.watched, repair.seed)
    facts = REPAIRS.facts(settings.repair)
    dense: Reader | Kept | None = reader if facts.get("DENSE") else None
    if settings.teacher == KEPT:
        dense = Kept(place / "kept")
        dense.fill(reader, repair.text, settings.top, progress)
    length = max(each.length for each in repair.text.blocks.values())
    return Recovery(
        reader=repair.reader,
        tuned=tuned,
        loss_of=REPAIRS.get(settings.repair),
        dense=dense,
        text=repair.text,
        apart=repair.apart,
        base=repair.base,
        shares=dict(repair.base),
        reference=reference,
        batch=max(1, settings.batch // length),
        seed=repair.seed,
        place=place,
        radius=settings.radius if repair.lacking else None,
        watch=settings.watch,
    )


def _train(made: Recovery, settings: Settings, rate: float, progress: Progress) -> str:
    """Train; what ended it before its last step, if anything did."""
    return train(
        made,
        AsScored(made.reader.model),
        Length(
            steps=settings.steps,
            evaluate=settings.evaluate,
            patience=settings.patience,
            minutes=settings.minutes,
        ),
        optimizer=AdamW(list(made.tuned.parameters.values()), lr=rate, weight_decay=0.0),
        factor=lambda _, share: cosine(share, settings.warmup),
        against="the dense model",
        progress=progress,
    )


# ---- before it is done ---------------------------------------------------------------------


def estimate(trial: Trial, settings: Settings, *, chained: bool) -> Estimate:
    """What a repair will take: steps and an evaluation are tried.

    Where an earlier step makes the codes they are not known yet: all weights are taken to learn.
    """
    opened, before = trial.opened, used()
    name = settings.against or opened.name
    with peak() as most, tempfile.TemporaryDirectory(dir=trial.near) as place:
        if chained and settings.grids:
            raise BadModel(
                "what rounding takes is known with the integers only, which an earlier step makes: "
                "do that step first, and try --dry-run on its run."
            )
        dense, reading = timed(lambda: open_dense(opened, opened.dense or name, name))
        repair = Repair.of(opened, dense, trial.asked, settings)
        if settings.by_block:
            hold = on_disk(Path(place)) if trial.offload else in_memory
            phases, numbers, every = _by_block.tried(repair, Path(place), hold)
            disk = 4 * every + (every if settings.grids else 0)  # all blocks, and integers beside
        else:
            phases, numbers = _tried(repair, Path(place))
            disk = (fitting.KEPT + 1) * (MOMENTS + 4) * numbers + 8 * numbers
    whole = sum(each.numel() for each in opened.model.parameters())
    if settings.by_block and trial.offload:  # both models and what they are fed, in float32
        disk += 4 * (whole + sum(each.numel() for each in dense.model.parameters()))
        disk += 4 * _read(repair) * int(opened.model.config.get_text_config().hidden_size)
    if settings.teacher == KEPT:
        disk += bytes_of(_read(repair), settings.top)
    opening = trial.open_again if chained else trial.open_seconds
    times = {
        "open": 2 * trial.hash_seconds + opening + reading,
        "text": trial.text_seconds,
        **phases,
    }
    memory = trial.base + max(0, most.bytes - before) + MOMENTS * numbers
    return Estimate(times, memory, disk + whole * opened.stored_dtype.itemsize)


def _tried(repair: Repair, place: Path) -> tuple[dict[str, float], int]:
    """Seconds by phase, and how many numbers learn."""
    settings = repair.settings
    beside = replace(repair, settings=settings.model_copy(update={"teacher": "beside"}))
    made, first = timed(lambda: _recovery(beside, place, silent))

    def step(number: int) -> None:
        for part in made.loss(number):
            part().backward()

    seconds = min(timed(lambda number=number: step(number))[1] for number in range(2))
    looking = timed(lambda: losses_of(made.reader, made.apart, made.reference, made.seed))[1]
    steps = settings.steps
    if settings.minutes:  # of which evaluations are a part
        steps = min(steps, ceil(60 * settings.minutes / (seconds + looking / settings.evaluate)))
    looks = 2 + -(-steps // settings.evaluate)
    numbers = sum(each.numel() for each in made.tuned.parameters.values())
    made.tuned.finish()
    phases = {"train": seconds * steps, "evaluate": looking * looks}
    if settings.teacher == KEPT:
        apart = sum(repair.apart.number(tag) for tag in made.reference)
        ahead = sum(repair.text.number(tag) for tag in made.base)
        phases["keep"] = first * ahead / max(1, apart)
    return phases, numbers


def _read(repair: Repair) -> int:
    """Tokens of all text that is learnt from."""
    return sum(each.ids_BT.numel() for each in repair.text.blocks.values())
