"""DLP against its formula, as plain loops (Chen et al. 2025)."""

import pytest
import torch

from babelpress.allocate.dlp import densities, measure


def slow_mean(scores):
    return sum(scores) / len(scores)


def slow_densities(means, density, spread=0.15):
    r = [1 - mean / sum(means) for mean in means]
    raised = [2 * spread * (each - min(r)) / (max(r) - min(r)) for each in r]
    return [each - sum(raised) / len(raised) + density for each in raised]


def test_a_block_shows_its_mean_score(blocks, means, scores):
    found = [measure(weights, means(inputs)) for weights, inputs in blocks]

    # float32 scores of ours against 64-bit ones
    assert found == pytest.approx([slow_mean(each) for each in scores], rel=1e-6)


@pytest.mark.parametrize("options", [{}, {"spread": 0.15}, {"spread": 0.31}])
@pytest.mark.parametrize("density", [0.3, 0.71])
def test_densities_are_those_of_the_formula(scores, options, density):
    means = [slow_mean(each) for each in scores]

    found = densities(means, density, **options)

    assert found == pytest.approx(slow_densities(means, density, **options), abs=1e-12)
    assert sum(found) / len(found) == pytest.approx(density, abs=1e-12)
    assert max(found) - min(found) == pytest.approx(2 * options.get("spread", 0.15), abs=1e-12)


def test_the_block_with_the_largest_scores_gives_most():
    found = densities([3.0, 9.0, 1.0, 4.0], 0.5)

    assert found.index(min(found)) == 1
    assert found.index(max(found)) == 2


def test_densities_by_hand():
    """Means 1, 2, 5 of 8: r is 7/8, 6/8, 3/8; 0.2, 0.15, 0 and 0.35/3 in the mean."""
    found = densities([1.0, 2.0, 5.0], 0.5, spread=0.1)

    expected = [0.2 - 0.35 / 3 + 0.5, 0.15 - 0.35 / 3 + 0.5, 0.5 - 0.35 / 3]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("same", [0.0, 1.5])
def test_blocks_with_equal_scores_get_the_same(same):
    assert densities([same] * 3, 0.4) == [0.4, 0.4, 0.4]


def test_a_large_block_is_summed_exactly_enough(means):
    """In float32 a plain sum of this many would stop growing."""
    weights = {"up": torch.full((1 << 13, 1 << 11), 0.1)}
    stats = means({"up": {tag: torch.ones(2, 1 << 11) for tag in ("swh_Latn", "hin_Deva")}})

    exact = float(torch.tensor(0.1).double())
    assert measure(weights, stats) == pytest.approx(exact, rel=1e-7)
