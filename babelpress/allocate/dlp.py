"""DLP (Chen et al. 2025, arXiv:2505.23807): blocks with larger scores give more.

r_b = 1 − m_b / Σ m, m_b the mean Wanda score of block b; densities are
2·spread·(r_b − min r) / (max r − min r), moved so that their mean is the density asked for.
The paper speaks of medians; the released code takes means for unstructured pruning, as this does.

Shapes: O outputs, I inputs of a linear.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from babelpress.allocate import _scores
from babelpress.moments.blend import Blend

PAPER = "Chen et al. 2025, arXiv:2505.23807"
DIFFERS = (
    "Mean scores, as the released code takes for unstructured pruning.",
    "Means of inputs are blends of languages.",
)


def measure(weights: Mapping[str, Tensor], stats: Mapping[str, Blend]) -> float:
    """The mean Wanda score."""
    return float(_scores.wanda(weights, stats).double().mean())


def densities(measured: Sequence[float], density: float, *, spread: float = 0.15) -> list[float]:
    """From the largest mean score to the smallest, 2·`spread` apart."""
    total = sum(measured) or 1.0
    return _scores.spread([1 - value / total for value in measured], density, 2 * spread)
