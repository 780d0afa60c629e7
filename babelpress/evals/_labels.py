"""What a model with a head of a task says of labelled texts: logits of words, or of whole texts.

Shapes: W words of a document (1 of a text with one label), C labels, B pieces of a batch, T tokens.

Tested in tests/evals/test_ner.py and tests/evals/test_classify.py.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadModel, NotFinite
from babelpress.evals._next_token import BATCH_TOKENS, place_of
from babelpress.evals._windows import batches, evaluating, no_text
from babelpress.models.heads import OF_TEXTS, OF_WORDS
from babelpress.models.reading import positions_of
from babelpress.models.tokenizers import check_known, vocabulary_of
from babelpress.system.files import fingerprint
from babelpress.system.progress import Progress
from babelpress.text.labelled import Labelled
from babelpress.text.pieces import padded, pieces_of
from babelpress.text.readers import listed

# What such a head does, and the task that `babelpress finetune` puts one on a model for.
DOES = {OF_WORDS: ("labels words", "ner"), OF_TEXTS: ("labels whole texts", "topic")}

_SAID: ContextVar[dict[Any, list[np.ndarray]] | None] = ContextVar("said", default=None)


def no_head(architecture: str, wanted: str) -> BadModel:
    """The error for a model without the head that an evaluation is of."""
    does, task = DOES[wanted]
    return BadModel(
        f"{architecture or 'the model'} has no head that {does} (…{wanted}). Put one on it: "
        f"babelpress finetune MODEL --task {task} --corpus FOLDER --out run"
    )


def labels_of(model: PreTrainedModel, wanted: str) -> tuple[str, ...]:
    """The names of a head's labels in order. Raises BadModel where the model has another head."""
    if not type(model).__name__.endswith(wanted):
        raise no_head(type(model).__name__, wanted)
    names: Any = model.config.id2label
    return tuple(str(names[place]) for place in range(len(names)))


def check_labels(labels: Sequence[str], documents: Sequence[Labelled]) -> None:
    """Raise BadModel naming the first document with a label that a head has not."""
    known = set(labels)
    for each in documents:
        if lost := next((label for label in each.labels if label not in known), None):
            raise BadModel(
                f"{each.id} has the label '{lost}', and the head of the model has {listed(labels)}."
                " Name the data that it was fine-tuned on with --corpus, or fine-tune it on these."
            )


@contextmanager
def remembering() -> Iterator[None]:
    """Within it a text is run once for all evaluations that ask for it: no weight may change."""
    token = _SAID.set({})
    try:
        yield
    finally:
        _SAID.reset(token)


def logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tag: str,
    documents: Sequence[Labelled],
    *,
    window: int,
    by_word: bool,
    what: str,
    progress: Progress,
) -> list[np.ndarray]:
    """Of each document (W, C) in float64; `what` is told to progress.

    Raises BadCorpus for a language without text, BadModel for a tokenizer of another model,
    NotFinite naming the document.
    """
    said = _SAID.get()
    texts = fingerprint([[each.id, each.text] for each in documents])
    key = (id(model), tag, window, by_word, texts)
    if said is not None and key in said:
        return said[key]
    found = _logits(
        model,
        tokenizer,
        tag,
        documents,
        window=window,
        by_word=by_word,
        what=what,
        progress=progress,
    )
    if said is not None:
        said[key] = found
    return found


@torch.inference_mode()
def _logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tag: str,
    documents: Sequence[Labelled],
    *,
    window: int,
    by_word: bool,
    what: str,
    progress: Progress,
) -> list[np.ndarray]:
    if not documents:
        raise no_text(tag)
    room = min(window, positions_of(model) or window)
    pieces = pieces_of(tokenizer, documents, room, by_word=by_word)
    check_known(max(int(each.ids_T.max()) for each in pieces), vocabulary_of(model), tag)
    pieces.sort(key=lambda each: len(each.ids_T))
    found: list[dict[int, np.ndarray]] = [{} for _ in documents]
    pad = getattr(model.config, "pad_token_id", None) or 0
    done = 0
    with evaluating(model):
        for batch in batches(pieces, BATCH_TOKENS[place_of(model)]):
            ids_BT, mask_BT = (
                each.to(model.device) for each in padded([each.ids_T for each in batch], pad)
            )
            head: Any = model(ids_BT, attention_mask=mask_BT)
            for piece, said in zip(batch, head.logits.double().cpu().numpy(), strict=True):
                rows_WC = said[list(piece.places_W)] if by_word else said[None]
                if not np.isfinite(rows_WC).all():
                    raise _not_finite(tag, documents[piece.document].id)
                found[piece.document][piece.first] = rows_WC
            done += len(batch)
            progress(f"{what}: {tag}", done, len(pieces))
    return [np.concatenate([parts[first] for first in sorted(parts)]) for parts in found]


def _not_finite(tag: str, document: str) -> NotFinite:
    return NotFinite(
        f"a logit of '{document}' in {tag} is NaN or infinite. Likely causes: (a) a weight of the "
        "model is; (b) the model overflows in float16: load it in bfloat16."
    )
