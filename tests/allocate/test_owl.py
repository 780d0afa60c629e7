"""OWL against its formula, as plain loops (Yin et al. 2024)."""

import pytest
import torch

from babelpress.allocate.owl import densities, measure
from babelpress.moments.accumulator import Accumulator
from babelpress.moments.blend import blend


def slow_outliers(scores, threshold=5.0):
    mean = sum(scores) / len(scores)
    return sum(score > threshold * mean for score in scores) / len(scores)


def slow_densities(shares, density, spread=0.08):
    low, high = min(shares), max(shares)
    raised = [2 * spread * (share - low) / (high - low) for share in shares]
    return [each - sum(raised) / len(raised) + density for each in raised]


@pytest.mark.parametrize("options", [{}, {"threshold": 5.0}, {"threshold": 2.5}])
def test_a_block_shows_its_share_of_outliers(blocks, means, scores, options):
    found = [measure(weights, means(inputs), **options) for weights, inputs in blocks]

    assert found == [slow_outliers(each, **options) for each in scores]
    assert len(set(found)) > 2


@pytest.mark.parametrize("options", [{}, {"spread": 0.08}, {"spread": 0.21}])
@pytest.mark.parametrize("density", [0.3, 0.71])
def test_densities_are_those_of_the_formula(scores, options, density):
    shares = [slow_outliers(each) for each in scores]

    found = densities(shares, density, **options)

    assert found == pytest.approx(slow_densities(shares, density, **options), abs=1e-12)
    assert sum(found) / len(found) == pytest.approx(density, abs=1e-12)
    assert max(found) - min(found) == pytest.approx(2 * options.get("spread", 0.08), abs=1e-12)
    assert found.index(max(found)) == shares.index(max(shares))


def test_densities_by_hand():
    """From 0.02 to 0.06 the second lies at a quarter: 0, 0.05, 0.2 and 0.2, 0.1125 in the mean."""
    found = densities([0.02, 0.03, 0.06, 0.06], 0.6, spread=0.1)

    assert found == pytest.approx([0.4875, 0.5375, 0.6875, 0.6875], abs=1e-12)


def test_outliers_by_hand():
    """Scores are 1, 1, 1, 1 and 0, 0, 0, 36 of the other linear: 5 in the mean, one above 25."""
    seen = Accumulator(2, gram=False).add(torch.tensor([[2.0, 2.0], [-2.0, 2.0]])).finish()
    means = blend({"eng_Latn": seen}, {"eng_Latn": 1.0}, "up")
    weights = {
        "up": torch.tensor([[0.5, -0.5], [0.5, 0.5]]),
        "down": torch.tensor([[0.0, 0.0], [0.0, -18.0]]),
    }
    stats = dict.fromkeys(weights, means)

    assert measure(weights, stats) == 1 / 8
    assert measure(weights, stats, threshold=7.2) == 0.0  # none is above its 36
    assert measure(weights, stats, threshold=0.1) == 5 / 8


def test_blocks_with_as_many_outliers_get_the_same():
    assert densities([0.25, 0.25, 0.25], 0.4) == [0.4, 0.4, 0.4]
    assert densities([0.1], 0.4) == [0.4]
