"""Layers, what they saw and what is pruned of them, for every quantization method."""

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
            moments[language] = Accumulator(x_TI.shape[1], gram=True).add(x_TI).finish()
        return blend(moments, shares, "blocks.0.mlp.up")

    return gather


@pytest.fixture
def correlated():
    """Make tokens of correlated, unequal inputs: `correlated(tokens, inputs, seed)`."""

    def make(tokens, inputs, seed):
        generator = torch.Generator().manual_seed(seed)
        mixing_II = torch.randn(inputs, inputs, generator=generator) + 3 * torch.eye(inputs)
        sizes_I = torch.rand(inputs, generator=generator) * 4 + 0.2
        return torch.randn(tokens, inputs, generator=generator) @ mixing_II * sizes_I

    return make


@pytest.fixture
def inputs(correlated):
    """Tokens in two languages of unequal length."""
    return {"swh_Latn": correlated(130, 24, 0), "hin_Deva": correlated(70, 24, 1) + 0.5}


@pytest.fixture
def shares():
    return {"swh_Latn": 0.7, "hin_Deva": 0.3}


@pytest.fixture
def stats(saw, inputs, shares):
    return saw(inputs, shares)


@pytest.fixture
def weight_OI():
    return torch.randn(7, 24, generator=torch.Generator().manual_seed(1)) + 0.1


@pytest.fixture
def all_kept_OI():
    return torch.ones(7, 24, dtype=torch.bool)


@pytest.fixture
def keep_OI():
    """Two of five weights are pruned, some groups wholly."""
    keep_OI = torch.rand(7, 24, generator=torch.Generator().manual_seed(2)) > 0.4
    keep_OI[2, :8] = False
    keep_OI[5] = False
    return keep_OI
