"""Layers and what they saw, for every pruning method."""

from dataclasses import replace

import pytest
import torch

from babelpress.moments.accumulator import Accumulator
from babelpress.moments.blend import blend


@pytest.fixture
def saw():
    """Make the blend of a site that saw these inputs: `saw({language: x_TI}, shares)`."""

    def gather(inputs, shares):
        moments = {}
        for language, x_TI in inputs.items():
            seen = Accumulator(x_TI.shape[1], gram=True).add(x_TI).finish()
            other_I = seen.sumsq_I.flip(0) / seen.n  # what a second text had of the same inputs
            moments[language] = replace(seen, against_I=other_I)
        return blend(moments, shares, "blocks.0.mlp.up", apart=True)

    return gather


@pytest.fixture
def inputs():
    """Correlated tokens of unequal inputs in two languages of unequal length."""
    generator = torch.Generator().manual_seed(0)
    mixing_II = torch.randn(24, 24, generator=generator) + 3 * torch.eye(24)
    sizes_I = torch.linspace(0.2, 4, 24)
    return {
        "swh_Latn": torch.randn(130, 24, generator=generator) @ mixing_II * sizes_I,
        "hin_Deva": torch.randn(70, 24, generator=generator) * sizes_I.flip(0) + 0.5,
    }


@pytest.fixture
def shares():
    return {"swh_Latn": 0.7, "hin_Deva": 0.3}


@pytest.fixture
def stats(saw, inputs, shares):
    return saw(inputs, shares)


@pytest.fixture
def weight_OI():
    return torch.randn(7, 24, generator=torch.Generator().manual_seed(1))
