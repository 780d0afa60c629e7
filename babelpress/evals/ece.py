"""Expected calibration error: how far the model's own probability of its first guess is off.

Every next token is a guess: the token that the model ranks first, with the probability p that it
gives it; hit is 1 where that token came and else 0. Guesses go by p into 15 bins of equal width,
and the error is Σ_bins |Σ_guesses of the bin (p − hit)| over all guesses of the language (Guo et
al. 2017, arXiv:1706.04599, equation 3). Misra et al. (2023, arXiv:2308.14969) find that sparsity
harms it and quantization does not.

Not comparable across tokenizers: compare a pressed model with its parent. Every token is scored
once, in windows (_windows.py).

The error is no sum over documents, for a bin takes the absolute value over all of them. What is
tallied is its first-order form: the sign s_b of every bin is that of the whole language, and a
document has Σ_b s_b Σ_guesses of the document in b (p − hit) over its guesses. So the value is
exactly the error, a document may count below zero, and a bootstrap draws with the signs as they
are: in a draw where the gap of a bin changes its sign, the error of the draw would be larger than
what is drawn. The interval is right where gaps are wide of zero, and a little low for a model that
is calibrated well.

Shapes: N scored tokens, V vocabulary, D documents, K bins.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.evals import Detail, Document, unheard
from babelpress.evals._head import Said
from babelpress.evals._next_token import told_sums
from babelpress.evals._windows import prepare
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent

METRIC = "ece"
SPOKEN = "expected calibration error"
LOWER_IS_BETTER = True
ONE_SIDED = True
BINS = 15


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Document]],
    *,
    window: int,
    stride: int | None = None,
    memory_mb: int = 256,
    detail: Detail = unheard,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of gaps, signed by bin, over guesses per language.

    `detail` is told what every bin adds to the error, positive where the model is too sure of
    itself: with a minus sign where it is not sure enough. Raises what `_windows.prepare` and
    `_next_token.told_sums` raise.
    """
    prepared = prepare(tokenizer, documents, window=window, stride=stride)
    gaps = told_sums(
        model,
        prepared,
        _gaps,
        what="calibration error",
        memory_mb=memory_mb,
        progress=progress,
        ranks=True,
    )
    tallies = {}
    for tag, one in prepared.items():
        guesses_D = one.tokens_D
        gap_K = gaps[tag].sum(0)
        tallies[tag] = Tally(one.documents, gaps[tag] @ np.sign(gap_K), guesses_D)
        detail(tag, {_said(k): gap_K[k] / guesses_D.sum() for k in range(BINS)})
    return tallies


def _gaps(said: Said) -> Tensor:
    """(N, K): p − hit in the bin of p, else 0; NaN where a logit is NaN or +inf."""
    sure_N = (said.best_N - said.log_sum_N).exp()
    hit_N = (said.place_N == said.target_N).float()
    # Bins are closed above; NaN has no bin, and goes on as what it is.
    bin_N = (sure_N.nan_to_num() * BINS).ceil().long().clamp(1, BINS) - 1
    gap_NK = sure_N.new_zeros(len(sure_N), BINS)
    return gap_NK.scatter(1, bin_N[:, None], (sure_N - hit_N)[:, None])


def _said(k: int) -> str:
    """A bin by its bounds, for who reads what it adds."""
    return f"{k / BINS:.3f} to {(k + 1) / BINS:.3f}"
