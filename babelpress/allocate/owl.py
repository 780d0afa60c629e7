"""OWL (Yin et al., ICML 2024, arXiv:2310.05175): blocks with more outliers keep more.

D_b is the share of a block's Wanda scores above `threshold` times their mean; densities are
2·spread·(D_b − min D) / (max D − min D), moved so that their mean is the density asked for.

Shapes: O outputs, I inputs of a linear; N weights of a block.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from babelpress.allocate import _scores
from babelpress.moments.blend import Blend

PAPER = "Yin et al., ICML 2024, arXiv:2310.05175"
DIFFERS = ("Means are blends of languages, so that outliers are those of the mixture.",)


def measure(
    weights: Mapping[str, Tensor], stats: Mapping[str, Blend], *, threshold: float = 5.0
) -> float:
    """The share of outliers."""
    score_N = _scores.wanda(weights, stats)
    return float((score_N > threshold * score_N.double().mean()).double().mean())


def densities(measured: Sequence[float], density: float, *, spread: float = 0.08) -> list[float]:
    """From the fewest outliers to the most, 2·`spread` apart."""
    return _scores.spread(list(measured), density, 2 * spread)
