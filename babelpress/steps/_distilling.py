"""Distil: make the student, hold text apart, train, and say what was learnt.

Training resumes: its checkpoints lie in the step's folder while it is not done, beside the
fingerprint of what they are checkpoints of.

Tested in tests/steps/test_distill.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import AdamW
from transformers import PreTrainedModel

from babelpress.distill import by_objective
from babelpress.errors import BadCorpus, BadModel
from babelpress.models.ledger import ledger
from babelpress.models.open import Opened, open_model
from babelpress.models.reading import sees_both_sides
from babelpress.models.student import chosen_blocks, fewer_blocks
from babelpress.models.tokenizers import encode, tokenizer_hash, vocabulary_of
from babelpress.models.walk import Walk, find_stacks
from babelpress.models.weights import weights_hash
from babelpress.press.trial import timed
from babelpress.steps._estimating import Trial
from babelpress.steps._kind import Done, Estimate, MixtureRow, ModelRow
from babelpress.steps._training import MOMENTS, checkpoints, factor
from babelpress.steps.distill import BY_DEFAULT, Report, Settings
from babelpress.system.cost import measured
from babelpress.system.memory import peak, used
from babelpress.system.progress import Progress, remark
from babelpress.text import mixtures
from babelpress.text.corpus import open_corpus
from babelpress.text.draw import draw, fitting_length
from babelpress.text.mixtures import LACKING
from babelpress.text.settings import SELF, CalibrationSettings
from babelpress.text.shots import shots_of
from babelpress.text.token_blocks import Layout, TokenBlocks, layout_for, pack
from babelpress.train.batches import Blocks, Marks
from babelpress.train.distilling import Distillation, Objective, Pupil, layer_map
from babelpress.train.fit import KEPT, fit
from babelpress.train.reading import Reader

APART = 2048  # tokens of a language that distances are found on, at most
TENTH = 10  # of the blocks, held apart where a corpus has no text for it
UNITS = {"logits": "nats a scored token", "hidden": "share of the states"}


@dataclass(frozen=True, slots=True)
class _Texts:
    """What is learnt from, what distances are found on, and what is told of both."""

    learnt: Blocks
    apart: Blocks
    manifest: dict[str, Any]
    told: dict[str, Any]


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
    teacher = Reader.of(opened.model)
    names = _objectives(settings, teacher)
    student, kept = _student(opened, settings)
    texts = _texts(opened, asked, teacher)
    tags = texts.learnt.languages()
    mixed = mixtures.mixture(settings.mixture, tags, model=opened.name)
    mixtures.check_there(mixed, tags)
    made = _distillation(teacher, student, names, settings, asked.seed, texts, mixed.shares)
    known = ModelRow(name=opened.name, fingerprint=weights_hash(opened.model))
    work = {
        "model": known.fingerprint,
        "student": weights_hash(student),
        "settings": settings.model_dump(mode="json"),
        "text": asked.model_dump(mode="json"),
        "corpus": texts.manifest.get("fingerprint"),
    }
    with measured() as cost:
        trained = _train(made, settings, asked.seed, checkpoints(folder, work, progress), progress)
    student.requires_grad_(True).eval()
    found = replace(opened, model=student, carried=())
    walk = Walk(student)
    done = Report(
        step=settings.model_dump(mode="json"),
        model=known,
        calibration=texts.manifest,
        mixture=MixtureRow.of(mixed, made.shares),
        ledger=ledger(student, {}, walk.index_of, opened.stored_dtype),
        cost=cost,
        kept=kept,
        layers=[len(walk.blocks), len(teacher.blocks)],
        objectives={each.name: dict(each.options) for each in made.objectives},
        distances=made.distances,
        losses=made.losses,
        unit=UNITS["logits" if texts.learnt.scores != "nothing" else "hidden"],
        apart=texts.told,
        trained=trained,
        dropped=[each.name for each in opened.carried],
    )
    return Done(done, {}, found)


# ---- what fits together --------------------------------------------------------------------


def _objectives(settings: Settings, teacher: Reader) -> tuple[Objective, ...]:
    """The objectives that were asked for, or the one that the model can have."""
    model = teacher.model
    if model.config.is_encoder_decoder:
        raise BadModel(
            f"{type(model).__name__} is an encoder-decoder, and those are not distilled here. Give "
            "an encoder or a decoder."
        )
    if teacher.answers in ("labels", "texts"):
        raise BadModel(
            f"{type(model).__name__} gives labels, and plain text has none to learn. Distil the "
            "model before it is fine-tuned, and fine-tune the student."
        )
    heads = teacher.answers == "tokens"
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


def _student(opened: Opened, settings: Settings) -> tuple[PreTrainedModel, list[int]]:
    """A student in float32, and the teacher's blocks that it began with."""
    if settings.layers is not None:
        stacks = find_stacks(opened.model)
        kept = chosen_blocks(len(stacks[0].blocks), settings.layers, settings.init)
        return fewer_blocks(opened.model, kept).float(), kept
    assert settings.student is not None
    other = open_model(settings.student, device=str(opened.model.device))
    if tokenizer_hash(other.tokenizer) != tokenizer_hash(opened.tokenizer):
        raise BadModel(
            f"{settings.student} has another tokenizer than {opened.name}, so it reads other "
            "tokens. Give a student with the tokenizer of its teacher."
        )
    if sees_both_sides(other.model) != sees_both_sides(opened.model):
        raise BadModel(
            f"one of {settings.student} and {opened.name} reads text on both sides and the other "
            "does not: they need the same task. Give an encoder with an encoder, or two decoders."
        )
    return other.model.float(), []


def _texts(opened: Opened, asked: CalibrationSettings, teacher: Reader) -> _Texts:
    """Text to learn from, and text that is held apart from it: of the valid split where it is."""
    marks, scores = _marks(opened, teacher)
    drawn = draw(opened, asked)
    length = fitting_length(opened, asked.length)
    whole, known = sees_both_sides(opened.model), vocabulary_of(opened.model)
    layout = layout_for(opened.tokenizer, max(APART, length), length, False, known, whole)
    learnt, apart, of_train = _apart(opened, asked, drawn.blocks, layout)
    note = f"distances of {', '.join(of_train)} are on train text that was held apart."
    told = {
        "tokens": {tag: int(each.counted_BT.sum()) for tag, each in apart.items()},
        "of_train": of_train,
        "notes": [note] if of_train else [],
    }
    learns, looks = Blocks(learnt, marks, scores), Blocks(apart, marks, scores)
    return _Texts(learns, looks, drawn.manifest, told)


def _marks(opened: Opened, teacher: Reader) -> tuple[Marks, str]:
    """The marks of a tokenizer, and what is scored of text: hidden tokens, the next, nothing."""
    known, both = vocabulary_of(opened.model), sees_both_sides(opened.model)
    layout = layout_for(opened.tokenizer, 2, 2, False, known)
    scores = "nothing" if teacher.answers != "tokens" else "hidden" if both else "next"
    mask: Any = opened.tokenizer.mask_token_id
    if scores == "hidden" and mask is None:
        raise BadModel(
            f"the tokenizer of {opened.name} has no mask token, so nothing can be hidden from the "
            "model. Give the tokenizer that belongs to it."
        )
    return Marks(layout.pad, layout.special, mask if scores == "hidden" else None, known), scores


def _apart(
    opened: Opened,
    asked: CalibrationSettings,
    blocks: Mapping[str, TokenBlocks],
    layout: Layout,
) -> tuple[dict[str, TokenBlocks], dict[str, TokenBlocks], list[str]]:
    """Blocks to learn from, blocks held apart, and the languages whose are a tenth of the first."""
    plain = asked.corpus != SELF and shots_of(asked.corpus) is None
    corpus = open_corpus(asked.corpus) if plain else None
    learnt: dict[str, TokenBlocks] = {}
    apart: dict[str, TokenBlocks] = {}
    of_train: list[str] = []
    for tag, each in blocks.items():
        texts = [d.text for d in corpus.documents(tag, "valid")] if corpus else []
        ids = encode(opened.tokenizer, texts)["input_ids"] if texts else []
        found = pack(tag, ids, layout)
        if len(found.ids_BT):
            learnt[tag], apart[tag] = each, found
            continue
        number = len(each.ids_BT)
        if number < 2:
            raise BadCorpus(
                f"{tag} has {number} blocks of text to learn from, and none to hold apart. Give "
                f"shorter blocks with --length, less than {asked.length}, or more text."
            )
        held = _held(each)
        learnt[tag], apart[tag] = _rows(each, slice(held, None)), _rows(each, slice(held))
        of_train.append(tag)
    return learnt, apart, of_train


def _held(blocks: TokenBlocks) -> int:
    """How many blocks are held apart, where a corpus has no text for it."""
    return max(1, len(blocks.ids_BT) // TENTH)


def _rows(blocks: TokenBlocks, which: slice) -> TokenBlocks:
    return TokenBlocks(blocks.language, blocks.ids_BT[which], blocks.counted_BT[which])


def _distillation(
    teacher: Reader,
    student: PreTrainedModel,
    objectives: tuple[Objective, ...],
    settings: Settings,
    seed: int,
    texts: _Texts,
    shares: Mapping[str, float],
) -> Distillation:
    reader = Reader.of(student.eval())
    layers = layer_map(objectives, len(reader.blocks), len(teacher.blocks))
    widths = [(_width(student), _width(teacher.model))] * len(layers)
    made = Distillation(
        teacher,
        reader,
        Pupil(student, widths),
        objectives,
        texts.learnt,
        texts.apart,
        settings.batch,
        seed,
        {tag: share for tag, share in shares.items() if share > 0},
        lacking=settings.mixture == LACKING,
        layers=layers,
    )
    made.check()
    return made


def _width(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().hidden_size)


# ---- training ------------------------------------------------------------------------------


def _train(
    made: Distillation, settings: Settings, seed: int, place: Path, progress: Progress
) -> int:
    """Train, evaluating on the way; how many numbers were trained."""
    trained = _trained(made, settings)
    if not made.distances and not any(place.glob("checkpoint-*")):
        made.evaluate()
    since: list[float] = []

    def after(step: int, loss: float) -> None:
        since.append(loss)
        progress("train: step", step, settings.steps)
        if step % settings.evaluate == 0 or step == settings.steps:
            made.losses.append(sum(since) / len(since))
            since.clear()
            _say(made, step, progress)

    progress("train: step", 0, settings.steps)
    fit(
        made.pupil,
        made.loss,
        place,
        steps=settings.steps,
        optimizer=AdamW(trained, lr=settings.rate, weight_decay=0.0),
        factor=lambda step: factor(step, settings.steps, settings.warmup),
        checkpoint=settings.evaluate,
        seed=seed,
        after=after,
        memory=made,
    )
    own = made.pupil.student.parameters()
    return sum(each.numel() for each in own if each.requires_grad)


def _trained(made: Distillation, settings: Settings) -> list[nn.Parameter]:
    """What learns; the embeddings only where they are asked for."""
    if not settings.embeddings:
        made.pupil.student.get_input_embeddings().requires_grad_(False)
    return [each for each in made.pupil.parameters() if each.requires_grad]


def _say(made: Distillation, step: int, progress: Progress) -> None:
    found = made.evaluate()
    worst = max(found, key=found.__getitem__)
    mean = sum(found.values()) / len(found)
    remark(
        progress,
        f"step {step}: loss {made.losses[-1]:.4g}, distance to the teacher {mean:.4g} in the mean, "
        f"{found[worst]:.4g} in {worst}",
    )


# ---- before it is done ---------------------------------------------------------------------


def estimate(trial: Trial, settings: Settings, *, chained: bool) -> Estimate:
    """What a distillation will take: a step and an evaluation are tried, twice each."""
    opened, before = trial.opened, used()
    teacher = Reader.of(opened.model)
    objectives = _objectives(settings, teacher)
    marks, scores = _marks(opened, teacher)
    there = {tag: each for tag, each in trial.blocks.items() if len(each.ids_BT)}
    few = {tag: _rows(each, slice(max(1, _held(each)))) for tag, each in there.items()}
    manifest: dict[str, Any] = {}
    texts = _Texts(Blocks(there, marks, scores), Blocks(few, marks, scores), manifest, {})
    with peak() as most:
        student, _ = _student(opened, settings)
        shares = mixtures.mixture(settings.mixture, list(there), model=opened.name).shares
        made = _distillation(teacher, student, objectives, settings, 0, texts, shares)
        trained = _trained(made, settings)
        numbers = sum(each.numel() for each in trained)
        step = timed(lambda: made.loss(0).backward())[1]
        step = min(step, timed(lambda: made.loss(1).backward())[1])
        look = timed(made.evaluate)[1]
    looks = 1 + -(-settings.steps // settings.evaluate)
    dense = sum(each.numel() for each in student.parameters()) * opened.stored_dtype.itemsize
    phases = {
        "open": trial.hash_seconds + (trial.open_again if chained else trial.open_seconds),
        "text": trial.text_seconds,
        "train": step * settings.steps,
        "evaluate": look * looks,
    }
    memory = trial.base + max(0, most.bytes - before) + MOMENTS * numbers
    return Estimate(phases, memory, dense + (KEPT + 1) * (MOMENTS + 4) * numbers)
