"""Masked: what an encoder needs to write one byte of a text of which it does not see a part.

Every `every`th token is hidden behind the mask, in as many passes as it takes for each token to be
hidden once: in pass r those at places r, r + every, and so on. Negative log-likelihood in nats /
ln 2 / UTF-8 bytes of the text, summed over a document and then over documents. So every token is
scored once, with the others of its window before and behind it; hiding one at a time (Salazar et
al. 2020, arXiv:1910.14659) takes as many passes as a window has tokens. Nothing is drawn.

A window has CLS (else BOS) in front and SEP (else EOS) behind, neither of which is scored; a longer
document is scored in windows one after another. Not comparable across tokenizers, nor with bits per
byte: compare a pressed encoder with its parent.

Shapes: B windows of a batch, T positions, N hidden tokens, D documents.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadModel, BadSetting
from babelpress.evals import Document
from babelpress.evals._head import of_model, of_states, runs_apart, streamed
from babelpress.evals._next_token import BATCH_TOKENS, BYTES_PER_LOGIT, nats, not_finite
from babelpress.evals._windows import Window, batches, evaluating, no_text
from babelpress.models.around import Around
from babelpress.models.reading import positions_of
from babelpress.models.tokenizers import check_known, encode, vocabulary_of
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent

METRIC = "masked_bits"
SPOKEN = "bits per byte of hidden tokens"
LOWER_IS_BETTER = True


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Document]],
    *,
    window: int,
    every: int = 6,
    memory_mb: int = 256,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of bits over bytes per language.

    Logits take at most `memory_mb` (2^20 bytes). Raises BadModel for a model that predicts no
    hidden tokens, BadSetting for an impossible window or `every`, BadCorpus for a language without
    text, NotFinite naming the document.
    """
    around, mask = Around.of(tokenizer), _mask_of(tokenizer)
    _check(model, window, every)
    prepared = {
        tag: _prepare(tokenizer, tag, some, window, around, vocabulary_of(model))
        for tag, some in documents.items()
    }
    total = every * sum(piece.scored for pieces in prepared.values() for piece in pieces)
    done, tallies = 0, {}
    with torch.inference_mode(), evaluating(model):
        scorer = _Scorer.of(model, around, mask, every, memory_mb << 20)
        for tag, pieces in prepared.items():
            nats_D = np.zeros(len(documents[tag]))
            for batch in batches(pieces, BATCH_TOKENS["cpu"]):
                for piece, number in zip(batch, scorer.nats(batch), strict=True):
                    if not math.isfinite(number):
                        raise not_finite(tag, documents[tag][piece.document].id)
                    nats_D[piece.document] += number
                done += every * sum(piece.scored for piece in batch)
                progress("masked", done, total)
            names = tuple(each.id for each in documents[tag])
            bytes_D = np.array([len(each.text.encode()) for each in documents[tag]], dtype=float)
            tallies[tag] = Tally(names, nats_D / math.log(2), bytes_D)
    return tallies


def _mask_of(tokenizer: PreTrainedTokenizerBase) -> int:
    if tokenizer.mask_token_id is None:
        raise BadModel(
            "the tokenizer has no mask token, so nothing can be hidden from the model. Score a "
            "decoder with --on bits_per_byte."
        )
    return cast(int, tokenizer.mask_token_id)


def _check(model: PreTrainedModel, window: int, every: int) -> None:
    if model.get_output_embeddings() is None:
        raise BadModel(
            f"{type(model).__name__} has no head that predicts hidden tokens. The sentences of an "
            "encoder without one are scored with --on retrieval."
        )
    if isinstance(every, bool) or every < 2:
        raise BadSetting(f"every is {every}. Hide every second token or fewer: 2 or more.")
    limit = positions_of(model)
    if window < 3 or (limit is not None and window > limit):
        most = " or more" if limit is None else f" to {limit}, the positions of the model"
        raise BadSetting(f"a window of {window} tokens cannot be had. Give one of 3{most}.")


def _prepare(
    tokenizer: PreTrainedTokenizerBase,
    tag: str,
    documents: Sequence[Document],
    window: int,
    around: Around,
    known: int,
) -> list[Window]:
    """The windows of a language with what is around them, shortest first."""
    size = window - around.number
    texts = [each.text for each in documents]
    ids = encode(tokenizer, texts)["input_ids"] if texts else []
    check_known(max((number for each in ids for number in each), default=0), known, tag)
    pieces = [
        (place, each[start : start + size])
        for place, each in enumerate(ids)
        for start in range(0, len(each), size)
    ]
    if not pieces:
        raise no_text(tag)
    found = [Window(at, np.array(around.put(some)), len(some)) for at, some in pieces]
    return sorted(found, key=lambda each: len(each.ids_T))


@dataclass(frozen=True, slots=True)
class _Scorer:
    """Nats of windows; `apart` says whether the output layer runs on hidden tokens alone."""

    model: PreTrainedModel
    around: Around
    mask: int
    every: int
    logits: int
    apart: bool

    @classmethod
    def of(
        cls, model: PreTrainedModel, around: Around, mask: int, every: int, memory: int
    ) -> "_Scorer":
        probe_1T = torch.tensor([around.put([mask])], device=model.device)
        apart = runs_apart(model, probe_1T, model(probe_1T).logits)
        return cls(model, around, mask, every, memory // BYTES_PER_LOGIT, apart)

    def nats(self, batch: Sequence[Window]) -> list[float]:
        """Of each window, over all passes."""
        ids_BT, text_BT, mask_BT = self._padded(batch)
        sum_B = torch.zeros(len(batch), dtype=torch.float64)
        place_BT = text_BT.cumsum(1) - 1
        for turn in range(self.every):
            hidden_BT = text_BT & (place_BT % self.every == turn)
            if not hidden_BT.any():
                continue
            shown_BT = ids_BT.masked_fill(hidden_BT, self.mask)
            run = of_states if self.apart else of_model
            given = (each.to(self.model.device) for each in (shown_BT, mask_BT.long(), hidden_BT))
            logits = run(self.model, *given)
            target_N = ids_BT[hidden_BT].to(logits.rows.device)
            told_N = streamed(nats, False, logits, target_N, self.logits)
            sum_B.index_add_(0, hidden_BT.nonzero()[:, 0], told_N.double().cpu())
        return sum_B.tolist()

    def _padded(self, batch: Sequence[Window]) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids, where text is, where anything is; all (B, T)."""
        rows = [torch.from_numpy(window.ids_T) for window in batch]
        ids_BT = torch.full((len(rows), max(map(len, rows))), self.mask)
        text_BT, mask_BT = (torch.zeros(ids_BT.shape, dtype=torch.bool) for _ in range(2))
        for row, ids in enumerate(rows):
            ids_BT[row, : len(ids)] = ids
            mask_BT[row, : len(ids)] = True
            text_BT[row, len(self.around.front) : len(ids) - len(self.around.behind)] = True
        return ids_BT, text_BT, mask_BT
