"""Top 1: the share of next tokens that the model ranks first.

What greedy decoding would have written, given all that came before; of equally likely tokens the
first of the vocabulary is ranked first. Not comparable across tokenizers: compare a pressed model
with its parent. Every token is scored once, in windows (_windows.py).

Shapes: N scored tokens, V vocabulary, D documents.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.evals import Document
from babelpress.evals._head import Said
from babelpress.evals._next_token import told_sums
from babelpress.evals._windows import prepare
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent

METRIC = "top1"
SPOKEN = "share of next tokens ranked first"
LOWER_IS_BETTER = False
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
    """Return one Tally of tokens ranked first over tokens per language.

    Raises what `_windows.prepare` and `_next_token.told_sums` raise.
    """
    prepared = prepare(tokenizer, documents, window=window, stride=stride)
    hits = told_sums(
        model,
        prepared,
        _first,
        what="top 1",
        memory_mb=memory_mb,
        progress=progress,
        ranks=True,
    )
    return {tag: Tally(one.documents, hits[tag], one.tokens_D) for tag, one in prepared.items()}


def _first(said: Said) -> Tensor:
    """1 where the token that came is ranked first, else 0; NaN where a logit is NaN or +inf."""
    hit_N = (said.place_N == said.target_N).float()
    return hit_N.masked_fill(~said.best_N.isfinite(), torch.nan)
