"""Distil: make the student, hold text apart, train, and say what was learnt.

Training resumes: its checkpoints lie in the step's folder while it is not done, beside the
fingerprint of what they are checkpoints of.

Tested in tests/steps/test_distill.py.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import AdamW
from transformers import PreTrainedModel

from babelpress.distill import by_objective
from babelpress.errors import BadModel, BadSetting
from babelpress.models.ledger import ledger
from babelpress.models.open import Opened, open_model, open_shapes
from babelpress.models.reading import sees_both_sides
from babelpress.models.reshaped import bare
from babelpress.models.student import anew, chosen_blocks, fewer_blocks
from babelpress.models.tokenizers import tokenizer_hash
from babelpress.models.walk import Walk, find_stacks
from babelpress.models.weights import weights_hash
from babelpress.press.trial import timed
from babelpress.steps._dense import open_dense
from babelpress.steps._estimating import Trial
from babelpress.steps._kind import Done, Estimate, MixtureRow, ModelRow
from babelpress.steps._learnt import Learnt, of_task, of_text
from babelpress.steps._training import MOMENTS, checkpoints, factor
from babelpress.steps._watching import Length, mean_shares, train
from babelpress.steps.distill import BY_DEFAULT, RANDOM, STRIDE, Report, Settings
from babelpress.system.cost import measured
from babelpress.system.memory import peak, used
from babelpress.system.progress import Progress
from babelpress.text import mixtures
from babelpress.text.mixtures import LACKING
from babelpress.text.settings import SELF, CalibrationSettings
from babelpress.train.distilling import Distillation, Objective, Pupil, layer_map
from babelpress.train.fit import KEPT
from babelpress.train.reading import Reader, answers_of


def distil(
    opened: Opened,
    asked: CalibrationSettings,
    settings: Settings,
    folder: Path,
    progress: Progress,
) -> Done:
    """The student, trained; `folder` keeps checkpoints until it is.

    Raises BadSetting, BadModel or BadCorpus before anything is trained where teacher, student,
    objectives and text do not fit together.
    """
    taught = _teacher(opened, settings)
    teacher = Reader.of(taught.model)
    names = _objectives(settings, teacher.model, teacher.answers)
    known = ModelRow.of(opened)  # before it becomes the student
    student, kept = _student(opened, settings, asked.seed)
    texts = _learnt(opened, asked, settings, teacher)
    tags = texts.learnt.languages()
    mixed = mixtures.mixture(settings.mixture, tags, model=opened.name)
    mixtures.check_there(mixed, tags)
    made = _distillation(teacher, student, names, settings, asked.seed, texts, mixed.shares)
    against = _against(opened, taught, settings)
    work = {
        "model": known.fingerprint,
        "against": against,
        "student": weights_hash(student),
        "settings": settings.model_dump(mode="json"),
        "text": asked.model_dump(mode="json"),
        "corpus": texts.manifest.get("fingerprint"),
    }
    with measured() as cost:
        made.place = checkpoints(folder, work, progress)
        made.refer()
        stopped = _train(made, settings, progress)
    trained = sum(each.numel() for each in made.learns().values())
    student.requires_grad_(True).eval()
    found = replace(opened, model=student, carried=())
    walk = Walk(student)
    done = Report(
        step=settings.model_dump(mode="json"),
        model=known,
        calibration=texts.manifest,
        mixture=MixtureRow.of(mixed, mean_shares(made.at, made.used)),
        ledger=ledger(student, {}, walk.index_of, opened.stored_dtype),
        cost=cost,
        kept=kept,
        layers=[len(walk.blocks), len(teacher.blocks)],
        objectives={each.name: dict(each.options) for each in made.objectives},
        **_watched(made),
        against=against,
        parameters=[_size(student), _size(teacher.model)],
        stopped=stopped,
        unit=texts.unit or _unit(made.objectives),
        apart=texts.told,
        trained=trained,
        dropped=[each.name for each in opened.carried],
    )
    return Done(done, {}, found)


def _against(opened: Opened, taught: Opened, settings: Settings) -> dict[str, str]:
    """The teacher of a student at hand, by name and weights; nothing of one that is made of it."""
    if not settings.at_hand:
        return {}
    name = settings.against or opened.name
    return {"name": name, "fingerprint": weights_hash(taught.model)}


def _watched(made: Distillation) -> dict[str, Any]:
    """What a report tells of a training that was watched."""
    return {
        "distances": made.distances,
        "losses": made.losses,
        "reference": made.reference,
        "losses_apart": made.found if made.reference else [],
        "at": made.at,
        "drawn": made.used,
        "best": made.best,
        "read": made.tokens,
    }


# ---- what fits together --------------------------------------------------------------------


def shapes(name: str, walk: Walk, settings: Settings) -> Walk:
    """The student, without weights.

    Raises BadModel for a kind or a head that is not distilled so, BadSetting for more layers than
    there are.
    """
    _check_kind(name, walk.model)
    if answers := answers_of(walk.model):
        _objectives(settings, walk.model, answers)
    if settings.student is not None:
        return Walk(open_shapes(settings.student))
    if settings.layers is None or settings.shrinks:
        return walk
    kept = chosen_blocks(len(walk.stacks[0].blocks), settings.layers, str(settings.init))
    return Walk(fewer_blocks(bare(walk.model), kept))


def check_text(opened: Opened, asked: CalibrationSettings, settings: Settings) -> None:
    """Raise what `of_text` raises; what a model writes itself, or is of a task, comes later."""
    if settings.task is None and asked.corpus != SELF:
        of_text(opened, asked, answers_of(opened.model))


def _check_kind(name: str, model: PreTrainedModel) -> None:
    """Raise BadModel for one that reads one text and writes another."""
    if model.config.is_encoder_decoder:
        raise BadModel(
            f"{name} is an encoder-decoder, and those are not distilled here. Give an encoder or a "
            "decoder."
        )


def _objectives(settings: Settings, model: PreTrainedModel, answers: str) -> tuple[Objective, ...]:
    """The objectives that were asked for, or the one that the model can have."""
    if answers in ("labels", "texts") and not settings.task:
        raise BadModel(
            f"{type(model).__name__} gives labels, and plain text has none to learn. Name the task "
            "with --task and its labelled text with --corpus, or distil the model before it is "
            "fine-tuned."
        )
    heads = answers != "nothing" or bool(settings.task)
    names = settings.objective or BY_DEFAULT[:1] if heads else settings.objective or BY_DEFAULT[1:]
    found = tuple(
        Objective(name, options) for name, options in by_objective(names, settings.options).items()
    )
    for each in found:
        if each.reads == "logits" and not heads:
            raise BadModel(
                f"{type(model).__name__} has no head that predicts tokens, and {each.name} reads "
                "what that says. Use --objective hidden."
            )
    return found


def _teacher(opened: Opened, settings: Settings, *, smaller: bool = True) -> Opened:
    """The teacher: the model, or the one that a model which is a student is held against.

    Raises BadModel for one that reads one text and writes another, or is not larger than its
    student; `smaller` is False where an earlier step is still to make the student.
    """
    _check_kind(opened.name, opened.model)
    if not settings.at_hand:
        return opened
    name = settings.against or opened.name
    teacher = open_dense(opened, opened.dense or name, name)
    numbers = [_size(each.model) for each in (opened, teacher)]
    if smaller and numbers[0] >= numbers[1]:
        raise BadSetting(
            f"the model has {numbers[0]:,} parameters and its teacher, {name}, {numbers[1]:,}: a "
            "student is smaller. Make one with --layers N or --width 0.75, give it with --student "
            "DIR, or name a larger teacher with --against."
        )
    return teacher


def _size(model: PreTrainedModel) -> int:
    return sum(each.numel() for each in model.parameters())


def _student(opened: Opened, settings: Settings, seed: int) -> tuple[PreTrainedModel, list[int]]:
    """A student in float32, and the teacher's blocks that it began with.

    Where the model is the student it is changed itself: a copy would be a third one in memory.
    """
    if settings.layers is not None:
        stacks = find_stacks(opened.model)
        init = settings.init or STRIDE
        kept = chosen_blocks(len(stacks[0].blocks), settings.layers, init)
        return fewer_blocks(opened.model, kept).float(), kept
    if settings.at_hand:
        return (anew(opened.model, seed) if settings.init == RANDOM else opened.model).float(), []
    assert settings.student is not None
    other = open_model(settings.student, device=str(opened.model.device))
    if tokenizer_hash(other.tokenizer) != tokenizer_hash(opened.tokenizer):
        raise BadModel(
            f"{settings.student} has another tokenizer than {opened.name}, so it reads other "
            "tokens. Give a student with the tokenizer of its teacher."
        )
    mine, its = (dict(each.model.config.id2label or {}) for each in (other, opened))
    if settings.task and mine != its:
        raise BadModel(
            f"{settings.student} has the labels {', '.join(mine.values())} and {opened.name} "
            f"{', '.join(its.values())}: a student would learn them under other names. Fine-tune "
            "both on the same labels, or begin with layers of the teacher: --layers."
        )
    if sees_both_sides(other.model) != sees_both_sides(opened.model):
        raise BadModel(
            f"one of {settings.student} and {opened.name} reads text on both sides and the other "
            "does not: they need the same task. Give an encoder with an encoder, or two decoders."
        )
    return other.model.float(), []


def _learnt(
    opened: Opened, asked: CalibrationSettings, settings: Settings, teacher: Reader
) -> Learnt:
    if settings.task:
        return of_task(opened, asked, settings.task, settings.store)
    return of_text(opened, asked, teacher.answers)


def _distillation(
    teacher: Reader,
    student: PreTrainedModel,
    objectives: tuple[Objective, ...],
    settings: Settings,
    seed: int,
    texts: Learnt,
    shares: Mapping[str, float],
) -> Distillation:
    reader = Reader.of(student.eval())
    layers = layer_map(objectives, len(reader.blocks), len(teacher.blocks))
    widths = [(_width(student), _width(teacher.model))] * len(layers)
    base = {tag: share for tag, share in shares.items() if share > 0}
    narrower = _width(student) < _width(teacher.model)
    if not (settings.embeddings or (settings.at_hand and (narrower or settings.init == RANDOM))):
        student.get_input_embeddings().requires_grad_(False)
    made = Distillation(
        teacher=teacher,
        reader=reader,
        pupil=Pupil(student, widths, seed),
        objectives=objectives,
        text=texts.learnt,
        apart=texts.apart,
        batch=settings.batch,
        seed=seed,
        base=base,
        shares=dict(base),
        place=Path(),
        radius=settings.radius if settings.mixture == LACKING else None,
        watch=settings.watch,
        layers=layers,
    )
    made.check()
    made.fit_maps()
    return made


def _unit(objectives: Sequence[Objective]) -> str:
    """What losses are counted in that are the distance to the teacher."""
    found = (each.function("unit") for each in objectives)
    return ", ".join(str(each()) for each in found if each)


def _width(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().hidden_size)


# ---- training ------------------------------------------------------------------------------


def _train(made: Distillation, settings: Settings, progress: Progress) -> str:
    """Train; what did best on text held apart is what the student becomes."""
    stopped = train(
        made,
        made.pupil,
        Length(steps=settings.steps, evaluate=settings.evaluate, patience=settings.patience),
        optimizer=AdamW(_trained(made), lr=settings.rate, weight_decay=0.0),
        factor=lambda step, _: factor(step, settings.steps, settings.warmup),
        against="the teacher",
        progress=progress,
    )
    made.load_best()
    return stopped


def _trained(made: Distillation) -> list[nn.Parameter]:
    """What learns: of the student, and maps of its states."""
    return [each for each in made.pupil.parameters() if each.requires_grad]


# ---- before it is done ---------------------------------------------------------------------


def estimate(trial: Trial, settings: Settings, *, chained: bool) -> Estimate:
    """What a distillation will take: a step and an evaluation are tried, twice each."""
    opened = trial.opened
    # At hand the model becomes the student in its place, and steps after it are tried on it too.
    own = replace(opened, model=deepcopy(opened.model)) if settings.at_hand else opened
    before = used()
    teacher = Reader.of(_teacher(opened, settings, smaller=not chained).model)
    objectives = _objectives(settings, teacher.model, teacher.answers)
    texts = _learnt(opened, trial.asked, settings, teacher)
    with peak() as most:
        student, _ = _student(own, settings, trial.asked.seed)
        tags = texts.learnt.languages()
        shares = mixtures.mixture(settings.mixture, tags, model=opened.name).shares
        made = _distillation(teacher, student, objectives, settings, 0, texts, shares)
        trained = _trained(made)
        numbers = sum(each.numel() for each in trained)
        step = timed(lambda: made.loss(0).backward())[1]
        step = min(step, timed(lambda: made.loss(1).backward())[1])
        look = timed(made.measured)[1]
    looks = 2 + -(-settings.steps // settings.evaluate)
    dense = sum(each.numel() for each in student.parameters()) * opened.stored_dtype.itemsize
    phases = {
        "open": trial.hash_seconds + (trial.open_again if chained else trial.open_seconds),
        "text": trial.text_seconds,
        "train": step * settings.steps,
        "evaluate": look * looks,
    }
    memory = trial.base + max(0, most.bytes - before) + MOMENTS * numbers
    best = 2 * 4 * numbers  # what did best, and what is written over it
    return Estimate(phases, memory, dense + best + (KEPT + 1) * (MOMENTS + 4) * numbers)
