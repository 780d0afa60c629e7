"""Blocks of unequal weights and inputs, and what a rule is given of them."""

import pytest
import torch

from babelpress.moments.accumulator import Accumulator
from babelpress.moments.blend import blend

SHARES = {"swh_Latn": 0.7, "hin_Deva": 0.3}


@pytest.fixture
def blocks():
    """Of every block the weights, and the inputs of every linear by language."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for block in range(4):
        weights = {
            "attn.q": torch.randn(6, 16, generator=generator) * (1 + block),
            "mlp.down": torch.randn(16, 24, generator=generator).pow(2 * block + 1),
        }
        inputs = {
            name: {
                tag: torch.randn(40 + 30 * at, each.shape[1], generator=generator).pow(3)
                for at, tag in enumerate(SHARES)
            }
            for name, each in weights.items()
        }
        found.append((weights, inputs))
    return found


@pytest.fixture
def means():
    """Make the blends of linears from their inputs by language."""

    def make(inputs):
        return {
            name: blend(
                {
                    tag: Accumulator(x_TI.shape[1], gram=False).add(x_TI).finish()
                    for tag, x_TI in of_linear.items()
                },
                SHARES,
                name,
            )
            for name, of_linear in inputs.items()
        }

    return make


def slow_scores(weights, inputs):
    """|w|·rms(x) of every weight of a block, in Python floats."""
    found = []
    for name, weight_OI in weights.items():
        rows = weight_OI.tolist()
        by_language = {tag: x_TI.tolist() for tag, x_TI in inputs[name].items()}
        for j in range(len(rows[0])):
            means = {tag: sum(x[j] ** 2 for x in xs) / len(xs) for tag, xs in by_language.items()}
            rms = sum(SHARES[tag] * mean for tag, mean in means.items()) ** 0.5
            found += [abs(row[j]) * rms for row in rows]
    return found


@pytest.fixture
def scores(blocks):
    """Wanda's scores of the weights of every block."""
    return [slow_scores(weights, inputs) for weights, inputs in blocks]
