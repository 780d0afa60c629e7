"""Expected calibration error: how far the model's own probability of its first guess is off.

Every next token is a guess: the token that the model ranks first, with the probability p that it
gives it; hit is 1 where that token came and else 0. Guesses go by p into 15 bins of equal width,
and the error is Σ_bins |Σ_guesses of the bin (p − hit)| over all guesses of the language (Guo et
al. 2017, arXiv:1706.04599, equation 3; what is tallied of it stands in _calibration.py). Misra et
al. (2023, arXiv:2308.14969) find that sparsity harms it and quantization does not.

Not comparable across tokenizers: compare a pressed model with its parent. Every token is scored
once, in windows (_windows.py). Labels of texts have class_ece.

Shapes: N scored tokens, V vocabulary, D documents, K bins.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.evals import Detail, Document, _calibration, unheard
from babelpress.evals._head import Said
from babelpress.evals._next_token import told_sums
from babelpress.evals._windows import prepare
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent

METRIC = "ece"
SPOKEN = "expected calibration error"
LOWER_IS_BETTER = True
FIRST_ORDER = True
ONE_SIDED = True


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
    found = told_sums(
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
        tallies[tag], parts = _calibration.tally(one.documents, found[tag], one.tokens_D)
        detail(tag, parts)
    return tallies


def _gaps(said: Said) -> Tensor:
    """(N, K): p − hit in the bin of p, else 0; NaN where a logit is NaN or +inf."""
    sure_N = (said.best_N - said.log_sum_N).exp()
    hit_N = (said.place_N == said.target_N).float()
    return _calibration.gaps(sure_N, hit_N)
