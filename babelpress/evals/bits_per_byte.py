"""Bits per byte: what a model needs to write one byte of a text, comparable across tokenizers.

Negative log-likelihood in nats / ln 2 / UTF-8 bytes of the text, summed over a document and then
over documents. Every token is scored once, after BOS (else EOS); long documents in windows of
which each later one scores the next `stride` tokens.

Not comparable across languages: one byte carries less in Devanagari than in Latin script.
Compare a pressed model with its parent in the same language.

Shapes: N scored tokens, V vocabulary.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.evals import Document
from babelpress.evals._next_token import sums
from babelpress.evals._windows import Prepared, prepare
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent

METRIC = "bits_per_byte"
SPOKEN = "bits per byte"
LOWER_IS_BETTER = True
CACHED = 1 << 18  # logits, in float32 a mebibyte


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Document]],
    *,
    window: int,
    stride: int | None = None,
    memory_mb: int = 256,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of bits over bytes per language: `prepare`, then `score`."""
    prepared = prepare(tokenizer, documents, window=window, stride=stride)
    return score(model, prepared, memory_mb=memory_mb, progress=progress)


def score(
    model: PreTrainedModel,
    prepared: Mapping[str, Prepared],
    *,
    memory_mb: int = 256,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Score prepared documents. Raises what `_next_token.sums` raises."""
    nats = sums(
        model, prepared, _loss, what="bits per byte", memory_mb=memory_mb, progress=progress
    )
    return {
        tag: Tally(one.documents, nats[tag] / math.log(2), one.bytes_D)
        for tag, one in prepared.items()
    }


def _loss(logits_NV: Tensor, target_N: Tensor) -> Tensor:
    """Negative log-likelihoods (N,), in nats.

    On a processor a few rows at a time: what is added up over a vocabulary of 262,144 tokens stays
    in its caches then, which is three times as fast.
    """
    target_N = target_N.to(logits_NV.device)
    rows = max(1, CACHED // logits_NV.shape[1]) if logits_NV.device.type == "cpu" else None
    if rows is None or rows >= len(logits_NV):
        return _loss_of(logits_NV, target_N)
    slices = zip(logits_NV.split(rows), target_N.split(rows), strict=True)
    return torch.cat([_loss_of(some, target) for some, target in slices])


def _loss_of(logits_NV: Tensor, target_N: Tensor) -> Tensor:
    logits_NV = logits_NV.float()
    return logits_NV.logsumexp(1) - logits_NV.gather(1, target_N[:, None])[:, 0]
