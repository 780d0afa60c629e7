"""Uniform: every block gives the same. What is done where nobody says anything.

Tested in tests/allocate/test_every_rule.py.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from babelpress.moments.blend import Blend


def measure(weights: Mapping[str, Tensor], stats: Mapping[str, Blend]) -> float:  # noqa: ARG001
    """Nothing is looked at."""
    return 0.0


def densities(measured: Sequence[float], density: float) -> list[float]:
    """The same for all blocks."""
    return [density] * len(measured)
