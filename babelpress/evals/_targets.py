"""What an encoder-decoder needs to write the text of targets, each of its own source.

The decoder is shown a target up to each token and has to predict that token, the source read.
Marks, those of languages and of the end among them, are read and not scored.

Shapes: B pairs of a batch, S positions of a source, T of a target, V vocabulary, D documents.

Tested in tests/evals/test_translation_loss.py.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from babelpress.errors import BadSetting
from babelpress.evals._next_token import BYTES_PER_LOGIT, not_finite
from babelpress.evals._windows import evaluating
from babelpress.models.reading import decoder_ids
from babelpress.models.sides import padded, there
from babelpress.models.tokenizers import Tokenizer, check_known, vocabulary_of
from babelpress.system.progress import Progress
from babelpress.text.marks import Marks
from babelpress.text.translations import IGNORED

ROWS = 32  # pairs in a batch at most


class Paired(Protocol):
    """A document: its name, and its (source, target) texts."""

    @property
    def id(self) -> str: ...

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]: ...


def nats_of(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    documents: Mapping[str, Sequence[Paired]],
    *,
    window: int,
    what: str,
    memory_mb: int,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """By direction the negative log-likelihood of the targets of every document (D,), in nats.

    `window` is how many tokens a side may have. Logits take at most `memory_mb` (2^20 bytes), but
    one pair is always read. `what` is told to progress. Raises BadSetting for a direction that the
    tokenizer has no token for or a sentence that does not fit, NotFinite naming the document.
    """
    marks = Marks.of(tokenizer, model.config.model_type)
    marks.check(list(documents))
    prepared = {way: _prepared(marks, model, way, some, window) for way, some in documents.items()}
    total = sum(each.scored for pairs in prepared.values() for each in pairs)
    done, found = 0, {}
    with torch.inference_mode(), evaluating(model):
        for way, pairs in prepared.items():
            found[way] = np.zeros(len(documents[way]))
            for batch in _batches(pairs, _rows(model, memory_mb << 20)):
                for pair, number in zip(batch, _nats(model, marks, batch), strict=True):
                    if not math.isfinite(number):
                        raise not_finite(way, documents[way][pair.document].id)
                    found[way][pair.document] += number
                done += sum(pair.scored for pair in batch)
                progress(what, done, total)
    return found


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both sides of a sentence of a document, by its place; `front` marks stand before the text.

    `scored` tokens of the labels are text.
    """

    document: int
    source: list[int]
    labels: list[int]
    front: int
    scored: int


def _prepared(
    marks: Marks,
    model: PreTrainedModel,
    way: str,
    documents: Sequence[Paired],
    window: int,
) -> list[_Pair]:
    """The pairs of a direction in token ids, shortest first."""
    places = [place for place, each in enumerate(documents) for _ in each.pairs]
    read, written = zip(*(pair for each in documents for pair in each.pairs), strict=True)
    sources, targets = marks.source(way, read), marks.target(way, written)
    around = marks.around_target(way)
    highest = max(number for ids in (*sources, *targets) for number in ids)
    check_known(highest, vocabulary_of(model), way)
    found = [
        _Pair(place, source, labels, len(around.front), len(labels) - around.number)
        for place, source, labels in zip(places, sources, targets, strict=True)
    ]
    longest = max(found, key=lambda each: max(len(each.source), len(each.labels)))
    size = max(len(longest.source), len(longest.labels))
    if size > window:
        raise BadSetting(
            f"a sentence of '{documents[longest.document].id}' in {way} takes {size} tokens, and "
            f"the window has {window}. Give --window {size}, where the model has as many "
            "positions, or shorter text."
        )
    return sorted(found, key=lambda each: (len(each.labels), len(each.source)))


def _rows(model: PreTrainedModel, memory: int) -> int:
    """Positions of targets whose logits, all at once, take that many bytes."""
    return memory // BYTES_PER_LOGIT // vocabulary_of(model)


def _batches(pairs: Sequence[_Pair], positions: int) -> Iterator[list[_Pair]]:
    """Consecutive pairs that have at most so many positions with their padding, or one pair."""
    batch: list[_Pair] = []
    for pair in pairs:  # shortest first, so the newest one sets the width
        if batch and (len(batch) == ROWS or (len(batch) + 1) * len(pair.labels) > positions):
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch


def _nats(model: PreTrainedModel, marks: Marks, batch: Sequence[_Pair]) -> list[float]:
    """Negative log-likelihoods of the text of every pair, float32 in each token."""
    pad = marks.tokenizer.pad_token_id
    sources = [each.source for each in batch]
    label_BT = padded([each.labels for each in batch], IGNORED)
    target_BT = decoder_ids(model, label_BT)
    asked: Any = model
    device = model.device
    logits_BTV: Tensor = asked(
        input_ids=padded(sources, pad or 0).to(device),
        attention_mask=there(sources).long().to(device),
        decoder_input_ids=target_BT.to(device),
        use_cache=False,
    ).logits
    place_T = torch.arange(label_BT.shape[1])
    first_B1 = torch.tensor([[each.front] for each in batch])
    last_B1 = first_B1 + torch.tensor([[each.scored] for each in batch])
    text_BT = (place_T >= first_B1) & (place_T < last_B1)
    nats_N = functional.cross_entropy(
        logits_BTV[text_BT.to(device)].float(), label_BT[text_BT].to(device), reduction="none"
    )
    row_N = text_BT.nonzero()[:, 0]
    sum_B = torch.zeros(len(batch), dtype=torch.float64)
    return sum_B.index_add_(0, row_N, nats_N.double().cpu()).tolist()
