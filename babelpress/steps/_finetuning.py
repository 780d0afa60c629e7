"""Fine-tune: read labelled texts, put a head on the model, train, and say what was learnt.

Training resumes: its checkpoints lie in the step's folder while it is not done.

Tested in tests/steps/test_finetune.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.nn.utils import parametrize
from torch.optim import AdamW
from transformers import PreTrainedModel

from babelpress.errors import BadCorpus
from babelpress.evals import _labels, classify, ner
from babelpress.models.heads import OF_TEXTS, OF_WORDS, with_head
from babelpress.models.ledger import ledger
from babelpress.models.open import Opened
from babelpress.models.reading import positions_of
from babelpress.models.tokenizers import check_known, tokenizer_hash, vocabulary_of
from babelpress.models.walk import Walk
from babelpress.press.trial import timed
from babelpress.steps._estimating import Trial
from babelpress.steps._kind import TABLE, Done, Estimate, MixtureRow, ModelRow
from babelpress.steps._sparse import Sparsity
from babelpress.steps._training import MOMENTS, checkpoints, factor
from babelpress.steps.finetune import Report, Settings
from babelpress.system.cost import measured
from babelpress.system.files import fingerprint
from babelpress.system.memory import peak, used
from babelpress.system.progress import Progress, remark, silent
from babelpress.text import mixtures
from babelpress.text.labelled import (
    OUTSIDE,
    TASKS,
    Labelled,
    LabelledCorpus,
    in_order,
    open_labelled,
)
from babelpress.text.languages import select
from babelpress.text.mixtures import Distribution, Mixture
from babelpress.text.pieces import Piece, pieces_of
from babelpress.train.batches import Example
from babelpress.train.finetuning import Finetuning, examples_of, mean_loss
from babelpress.train.fit import KEPT, fit
from babelpress.train.rows import Rows

OFTEN = 200  # steps between checkpoints at most
TRIED = 2  # steps for an estimate
TABLES = ("embed", "norm", "bias")  # parts of names of what is not decayed


@dataclass(frozen=True, slots=True)
class Texts:
    """Labelled texts to learn from and to choose the best epoch by, and the labels of a head."""

    corpus: LabelledCorpus
    train: Mapping[str, Sequence[Labelled]]
    dev: Mapping[str, Sequence[Labelled]]
    labels: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def by_word(self) -> bool:
        """Whether words are labelled."""
        return TASKS[self.corpus.task].by_word

    def fingerprint(self) -> str:
        """Of all of them."""
        parts = (self.train, self.dev)
        return fingerprint([[[t, [[d.id, d.text] for d in p[t]]] for t in p] for p in parts])


def finetune(opened: Opened, settings: Settings, folder: Path, progress: Progress) -> Done:
    """The model with a head, trained; `folder` keeps checkpoints until it is.

    Raises BadModel or BadCorpus before anything is trained where model and texts do not fit.
    """
    texts = read_texts(settings, progress)
    kind = OF_WORDS if texts.by_word else OF_TEXTS
    model, had = with_head(opened.model, kind, texts.labels, seed=settings.seed)
    length = min(settings.length, positions_of(model) or settings.length)
    pieces = {
        tag: pieces_of(opened.tokenizer, some, length, by_word=texts.by_word)
        for tag, some in texts.train.items()
    }
    highest = max(int(each.ids_T.max()) for some in pieces.values() for each in some)
    check_known(highest, vocabulary_of(model), "the training texts")
    mixed = _mixture(settings, texts, opened.name)
    known = ModelRow.of(opened)
    work = {
        "model": known.fingerprint,
        "tokenizer": tokenizer_hash(opened.tokenizer),
        "settings": settings.model_dump(mode="json"),
        "pruned": sorted(opened.pruned),
        "texts": texts.fingerprint(),
        "rows": True,  # of checkpoints: before, the whole table was in them
    }
    made = _finetuning(opened, settings, texts, model, pieces, mixed, length)
    made.place = checkpoints(folder, work, progress)
    sparse = Sparsity.of(settings, opened.pruned)
    made.adapting = (sparse.adapting(model, settings, made.steps), *_rows(made, sparse))
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    with measured() as cost:
        _train(made, settings, progress)
        made.load_best()
    walk = Walk(model)
    report = Report(
        step=settings.model_dump(mode="json"),
        model=known,
        mixture=MixtureRow.of(mixed, mixed.shares),
        ledger=ledger(model, {}, walk.index_of, opened.stored_dtype),
        cost=cost,
        had_head=had,
        metric=ner.SPOKEN if texts.by_word else classify.SPOKEN,
        scores=made.scores,
        losses=made.losses,
        best=made.best,
        zeros=sparse.zeros(model),
        trained=trained,
        **_told(texts, pieces),
    )
    return Done(report, {}, replace(opened, model=model.eval(), carried=()))


# ---- texts ---------------------------------------------------------------------------------


def open_texts(settings: Settings) -> tuple[LabelledCorpus, list[str], list[str]]:
    """The texts, the languages to learn, and those that are left out, before any is read.

    Raises BadCorpus naming a language that was asked for and has no training texts.
    """
    corpus = open_labelled(settings.task, settings.corpus)
    there = corpus.languages("train")
    if settings.languages:
        tags = select(settings.languages, among=corpus.languages() + there)
        corpus.require(tags, "train")
        return corpus, tags, []
    if not there:
        corpus.require(corpus.languages()[:1], "train")
    return corpus, there, [tag for tag in corpus.languages() if tag not in there]


def read_texts(settings: Settings, progress: Progress = silent) -> Texts:
    """All texts of all languages, train and dev. Raises BadCorpus for what cannot be learnt."""
    corpus, tags, left_out = open_texts(settings)
    train: dict[str, list[Labelled]] = {}
    dev: dict[str, list[Labelled]] = {}
    for number, tag in enumerate(tags, 1):
        train[tag], dev[tag] = corpus.documents(tag, "train"), corpus.documents(tag, "valid")
        progress("texts: language", number, len(tags))
    there = {label for some in train.values() for each in some for label in each.labels}
    labels = in_order(settings.task, there)
    for tag, some in dev.items():
        _check_dev(corpus.name, tag, some, labels)
    return Texts(corpus, train, dev, labels, tuple(left_out))


def _check_dev(name: str, tag: str, some: Sequence[Labelled], labels: Sequence[str]) -> None:
    for each in some:
        if lost := [label for label in each.labels if label not in labels]:
            raise BadCorpus(
                f"{each.id} of {name} has the label '{lost[0]}', and no training text has it: they "
                f"have {', '.join(labels)}. Mend it, or remove the row."
            )
    if all(label == OUTSIDE for each in some for label in each.labels):
        raise BadCorpus(f"the dev texts of {name} in {tag} have no entity. Give others.")


def _mixture(settings: Settings, texts: Texts, model: str) -> Mixture:
    tags = list(texts.train)
    rows = Distribution(
        name=f"texts of {texts.corpus.name}",
        unit="labelled texts",
        stage="raw",
        source=texts.corpus.name,
        note="",
        prior=False,
        values={tag: float(len(some)) for tag, some in texts.train.items()},
        not_languages={},
    )
    mixed = mixtures.mixture(settings.mixture, tags, model=model, own=rows)
    mixtures.check_there(mixed, tags)
    return mixed


def _told(texts: Texts, pieces: Mapping[str, Sequence[Piece]]) -> dict[str, Any]:
    """What a report says of the texts."""
    several = sum(piece.first > 0 for some in pieces.values() for piece in some)
    return {
        "labels": list(texts.labels),
        "texts": {
            tag: {"train": len(some), "dev": len(texts.dev[tag])}
            for tag, some in texts.train.items()
        },
        "held_out": [tag for tag in texts.train if texts.corpus.held_out(tag)],
        "left_out": list(texts.left_out),
        "cut": sum(piece.cut > 0 for some in pieces.values() for piece in some),
        "split": several,
        "fingerprint": texts.fingerprint(),
        "said": list(texts.corpus.says()),
    }


# ---- training ------------------------------------------------------------------------------


def _finetuning(
    opened: Opened,
    settings: Settings,
    texts: Texts,
    model: PreTrainedModel,
    pieces: Mapping[str, Sequence[Piece]],
    mixed: Mixture,
    length: int,
) -> Finetuning:
    measure = ner.measure if texts.by_word else classify.measure
    examples = {
        tag: examples_of(pieces[tag], some, texts.labels) for tag, some in texts.train.items()
    }

    def score() -> dict[str, float]:
        with parametrize.cached():
            found = measure(model, opened.tokenizer, texts.dev, window=length)
        return {tag: each.value for tag, each in found.items()}

    return Finetuning(
        model=model,
        examples=examples,
        shares=mixed.shares,
        score=score,
        batch=settings.batch,
        epochs=settings.epochs,
        patience=settings.patience,
        seed=settings.seed,
        place=Path(),
    )


def _rows(made: Finetuning, sparse: Sparsity) -> list[Rows]:
    """The rows of the token table that learn; none apart where zeros of all of it are kept."""
    if TABLE in sparse.kept | sparse.pruned:
        return []
    pad = getattr(made.model.config, "pad_token_id", None) or 0
    read = {int(each) for some in made.examples.values() for e in some for each in e.tokens}
    found = Rows.of(made.model, read | {pad})
    return [found] if found else []


def _train(made: Finetuning, settings: Settings, progress: Progress) -> None:
    """Train, and say after every epoch how dev texts are scored."""

    def after(step: int, loss: float) -> bool:
        said = len(made.scores)
        over = made.after(step, loss)
        progress("train: step", step, made.steps)
        if len(made.scores) > said:
            remark(progress, _said(made))
        return over

    progress("train: step", 0, made.steps)
    fit(
        made.model,
        made.loss,
        made.place,
        steps=made.steps,
        optimizer=_optimizer(made.model, settings),
        factor=lambda step: factor(step, made.steps, settings.warmup),
        checkpoint=min(made.steps_of_epoch, OFTEN),
        seed=settings.seed,
        after=after,
        memory=made,
    )


def _optimizer(model: PreTrainedModel, settings: Settings) -> AdamW:
    """AdamW; matrices are decayed, embeddings, norms and biases are not."""
    decayed, others = [], []
    for name, each in model.named_parameters():
        if each.requires_grad:
            plain = each.ndim < 2 or any(part in name.lower() for part in TABLES)
            (others if plain else decayed).append(each)
    groups = [
        {"params": decayed, "weight_decay": settings.decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return AdamW([each for each in groups if each["params"]], lr=settings.learning_rate)


def _said(made: Finetuning) -> str:
    found = made.scores[-1]
    worst = min(found, key=found.__getitem__)
    best = ", the best so far" if made.best == len(made.scores) - 1 else ""
    return (
        f"epoch {len(made.scores)} of {made.epochs}: loss {made.losses[-1]:.4g}, dev "
        f"{np.mean(list(found.values())):.3f} in the mean, {found[worst]:.3f} in {worst}{best}"
    )


# ---- before it is done ---------------------------------------------------------------------


def estimate(trial: Trial, settings: Settings, *, chained: bool) -> Estimate:
    """What fine-tuning will take: some steps and a part of an evaluation are tried."""
    opened, before = trial.opened, used()
    texts, reading = timed(lambda: read_texts(settings))
    kind = OF_WORDS if texts.by_word else OF_TEXTS
    with peak() as most:
        model, _ = with_head(opened.model, kind, texts.labels, seed=settings.seed)
        length = min(settings.length, positions_of(model) or settings.length)
        pieces = {
            tag: pieces_of(opened.tokenizer, some, length, by_word=texts.by_word)
            for tag, some in texts.train.items()
        }
        mixed = _mixture(settings, texts, opened.name)
        made = _finetuning(opened, settings, texts, model, pieces, mixed, length)
        _rows(made, Sparsity.of(settings, opened.pruned))
        model.train()
        drawn = [made.order(0)[n * made.batch : (n + 1) * made.batch] for n in range(TRIED)]
        batches = [[made.examples[tag][place] for tag, place in some] for some in drawn if some]
        step = min(timed(lambda each=each: _try(model, each))[1] for each in batches)
        few = {tag: some[: settings.batch] for tag, some in list(texts.dev.items())[:1]}
        seconds = timed(lambda: _look(opened, model, texts, few, length))[1]
    each_text = seconds / sum(map(len, few.values()))
    looks = settings.epochs * sum(map(len, texts.dev.values()))
    numbers = sum(each.numel() for each in model.parameters() if each.requires_grad)
    whole = sum(each.numel() for each in model.parameters())
    phases = {
        "open": trial.hash_seconds + (trial.open_again if chained else trial.open_seconds),
        "text": reading,
        "train": step * made.steps,
        "evaluate": each_text * looks,
    }
    memory = trial.base + max(0, most.bytes - before) + MOMENTS * numbers
    dense = whole * opened.stored_dtype.itemsize
    return Estimate(phases, memory, dense + (KEPT + 1) * (MOMENTS + 4) * numbers + 8 * numbers)


def _try(model: PreTrainedModel, batch: Sequence[Example]) -> None:
    mean_loss(model, batch).backward()


def _look(
    opened: Opened,
    model: PreTrainedModel,
    texts: Texts,
    few: Mapping[str, Sequence[Labelled]],
    length: int,
) -> None:
    for tag, some in few.items():
        _labels.logits(
            model,
            opened.tokenizer,
            tag,
            some,
            window=length,
            by_word=texts.by_word,
            what="try",
            progress=silent,
        )
