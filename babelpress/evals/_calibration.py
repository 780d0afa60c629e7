"""Expected calibration error as a tally: gaps by bins of how sure a guess is.

Guesses go by the probability p of the guess into 15 bins of equal width; the error is
Σ_bins |Σ_guesses of the bin (p − hit)| over all guesses (Guo et al. 2017, arXiv:1706.04599,
equation 3).

The error is no sum over documents, for a bin takes the absolute value over all of them. What is
tallied is its first-order form: the sign s_b of every bin is that of the whole language, and a
document has Σ_b s_b Σ_guesses of the document in b (p − hit) over its guesses. So the value is
exactly the error, a document may count below zero, and a bootstrap draws with the signs as they
are: in a draw where the gap of a bin changes its sign, the error of the draw would be larger than
what is drawn. The interval is right where gaps are wide of zero, and a little low for a model that
is calibrated well.

Shapes: N guesses, D documents, K bins.

Tested in tests/evals/test_ece.py.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from babelpress.numerics.tally import Tally

BINS = 15


def gaps(sure_N: Tensor, hit_N: Tensor) -> Tensor:
    """(N, K): p − hit in the bin of p, else 0; NaN where p is."""
    # Bins are closed above; NaN has no bin, and goes on as what it is.
    bin_N = (sure_N.nan_to_num() * BINS).ceil().long().clamp(1, BINS) - 1
    gap_NK = torch.zeros((len(sure_N), BINS), dtype=sure_N.dtype, device=sure_N.device)
    return gap_NK.scatter(1, bin_N[:, None], (sure_N - hit_N)[:, None])


def tally(
    names: Sequence[str], gap_DK: np.ndarray, guesses_D: np.ndarray
) -> tuple[Tally, dict[str, float]]:
    """The error of a language, and what every bin adds to it.

    That is positive where the model is too sure of itself, and negative where not sure enough.
    """
    gap_K = gap_DK.sum(0)
    parts = {_said(k): gap_K[k] / guesses_D.sum() for k in range(BINS)}
    return Tally(tuple(names), gap_DK @ np.sign(gap_K), guesses_D), parts


def _said(k: int) -> str:
    """A bin by its bounds, for who reads what it adds."""
    return f"{k / BINS:.3f} to {(k + 1) / BINS:.3f}"
