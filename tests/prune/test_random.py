"""Random: the same by seed and place, and blind to everything else."""

from dataclasses import replace

import torch

from babelpress.numerics.patterns import PerRow, Stacked
from babelpress.prune.random import prune

PATTERN = PerRow(0.25)


def gone(weight_OI, stats, **options):
    return prune(weight_OI, stats, PATTERN, **options) == 0


def test_another_seed_or_place_draws_other_weights(weight_OI, stats):
    elsewhere = replace(stats, where="blocks.1.mlp.up")

    first = gone(weight_OI, stats)

    assert torch.equal(first, gone(weight_OI, stats, seed=0))
    assert not torch.equal(first, gone(weight_OI, stats, seed=1))
    assert not torch.equal(first, gone(weight_OI, elsewhere))


def test_neither_weights_nor_inputs_nor_the_generator_of_the_program_matter(
    weight_OI, stats, saw, inputs
):
    first = gone(weight_OI, stats)
    torch.manual_seed(7)
    other = saw(inputs, {"swh_Latn": 0.1, "hin_Deva": 0.9})

    assert torch.equal(first, gone(weight_OI.flip(1) * 3, other))


def test_every_place_is_drawn_equally_often(stats):
    """2000 rows lose 6 of 24: each column 500 times, give or take five standard deviations."""
    often_I = gone(torch.ones(2000, 24), stats).sum(0)

    assert often_I.sum() == 2000 * 6
    assert (often_I - 500).abs().max() < 5 * (2000 * 0.25 * 0.75) ** 0.5


def test_two_linears_of_one_shape_and_site_lose_different_places(stats):
    pruned_OI = prune(torch.ones(10, 24), stats, Stacked((PATTERN,) * 2, (5, 5)))

    assert not torch.equal(pruned_OI[:5], pruned_OI[5:])
