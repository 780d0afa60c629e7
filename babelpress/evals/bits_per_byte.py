"""Bits per byte: what a model needs to write one byte of a text, comparable across tokenizers.

Negative log-likelihood in nats / ln 2 / UTF-8 bytes of the text, summed over a document and then
over documents. Every token is scored once, after BOS (else EOS); long documents in windows of
which each later one scores the next `stride` tokens.

Not comparable across languages: one byte carries less in Devanagari than in Latin script.
Compare a pressed model with its parent in the same language.
"""

import math
from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.evals import Document
from babelpress.evals._next_token import nats, told_sums
from babelpress.evals._windows import Prepared, prepare
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent

METRIC = "bits_per_byte"
SPOKEN = "bits per byte"
LOWER_IS_BETTER = True
ONE_SIDED = True


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
    """Score prepared documents. Raises what `_next_token.told_sums` raises."""
    found = told_sums(
        model, prepared, nats, what="bits per byte", memory_mb=memory_mb, progress=progress
    )
    return {
        tag: Tally(one.documents, found[tag] / math.log(2), one.bytes_D)
        for tag, one in prepared.items()
    }
