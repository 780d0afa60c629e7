"""Wanda's score of every weight of a block, which rules measure blocks by.

Shapes: O outputs, I inputs of a linear; N weights of a block.

Tested in tests/allocate/test_owl.py and tests/allocate/test_dlp.py.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from babelpress.errors import BadSetting
from babelpress.moments.blend import Blend


def wanda(weights: Mapping[str, Tensor], stats: Mapping[str, Blend]) -> Tensor:
    """|w|·rms(x) of all weights of a block in one row (N,), float32."""
    return torch.cat(
        [
            (weight_OI.detach().float().abs() * stats[name].rms_I()).flatten()
            for name, weight_OI in weights.items()
        ]
    )


def spread(values: list[float], density: float, width: float) -> list[float]:
    """Densities from `values`: `width` from the least to the most, `density` in the mean.

    Equal values give equal densities. Raises BadSetting for a width that no densities have.
    """
    if not 0 <= width <= 1:
        raise BadSetting(f"a rule's spread is {width / 2}. It must lie between 0 and 0.5.")
    low, high = min(values), max(values)
    if high == low:
        return [density] * len(values)
    raised = [width * (value - low) / (high - low) for value in values]
    mean = sum(raised) / len(raised)
    return [each - mean + density for each in raised]
