"""Contrast against its definition, as plain loops over the inputs of both texts."""

import math
from dataclasses import replace

import pytest
import torch

from babelpress.errors import BadMoments
from babelpress.moments.accumulator import Accumulator
from babelpress.moments.blend import blend
from babelpress.numerics.patterns import PerLayer, PerRow
from babelpress.prune import wanda
from babelpress.prune.contrast import prune

NEVER = 0.0


def lists(inputs):
    return {language: x_TI.tolist() for language, x_TI in inputs.items()}


def means(inputs, shares, column):
    """The mean square of an input, every language weighted by its share."""
    return sum(
        shares[tag] * sum(x[column] ** 2 for x in xs) / len(xs) for tag, xs in inputs.items()
    )


def slow_contrast(weight, kept, against, shares, drop):
    """The definition, one weight at a time; what is without bound is a pair that sorts last."""
    pruned = [row[:] for row in weight]
    for i, row in enumerate(weight):
        scores = []
        for j, w in enumerate(row):
            gain = abs(w) * means(kept, shares, j)
            norm = math.sqrt(means(against, shares, j))
            endless = norm == NEVER and gain > 0
            scores.append((endless, gain if endless or norm == NEVER else gain / norm))
        for j in sorted(range(len(row)), key=scores.__getitem__)[:drop]:
            pruned[i][j] = 0.0
    return pruned


@pytest.fixture
def against():
    """Another text of both languages: other sizes, other lengths."""
    generator = torch.Generator().manual_seed(7)
    return {
        "swh_Latn": torch.randn(50, 24, generator=generator) * torch.linspace(3, 0.1, 24),
        "hin_Deva": torch.randn(90, 24, generator=generator).cumsum(1),
    }


def seen(inputs):
    return {
        tag: Accumulator(x_TI.shape[1], gram=False).add(x_TI).finish()
        for tag, x_TI in inputs.items()
    }


@pytest.fixture
def contrasted(shares):
    """Make the blend of a site that saw the one text and the other."""

    def gather(kept, against):
        other = seen(against)
        both = {
            tag: replace(each, against_I=other[tag].sumsq_I / other[tag].n)
            for tag, each in seen(kept).items()
        }
        return blend(both, shares, "blocks.0.mlp.up", apart=True)

    return gather


@pytest.mark.parametrize(("fraction", "drop"), [(0.25, 6), (0.29, 6), (0.7, 16)])
def test_matches_the_definition(weight_OI, inputs, against, shares, contrasted, fraction, drop):
    expected = torch.tensor(
        slow_contrast(weight_OI.tolist(), lists(inputs), lists(against), shares, drop)
    )

    found = prune(weight_OI, contrasted(inputs, against), PerRow(fraction))

    assert torch.equal(expected, found)
    stats = contrasted(inputs, against)
    assert not torch.equal(wanda.prune(weight_OI, stats, PerRow(fraction)), found)
    assert not torch.equal(prune(weight_OI, contrasted(against, inputs), PerRow(fraction)), found)


@pytest.mark.parametrize("drop", [3, 6, 9, 21])
def test_norms_of_zero_on_either_side_are_told_apart(
    weight_OI, inputs, against, shares, contrasted, drop
):
    for tag in inputs:
        inputs[tag][:, [2, 3]] = 0  # never in the text to keep
        against[tag][:, [3, 11, 12, 13]] = 0  # never in the other; 3 in neither
    inputs["swh_Latn"][:, 12] *= 1e-6  # hardly ever, but the other never
    inputs["hin_Deva"][:, 12] = 0

    found = prune(weight_OI, contrasted(inputs, against), PerRow(drop / 24))

    slow = slow_contrast(weight_OI.tolist(), lists(inputs), lists(against), shares, drop)
    assert torch.equal(torch.tensor(slow), found)
    assert (found[:, [2, 3]] == 0).all()
    assert ((found[:, [11, 12, 13]] == 0).sum(1) == max(0, drop - 21)).all()


def test_with_the_same_text_on_both_sides_it_is_wanda(weight_OI, inputs, contrasted):
    stats = contrasted(inputs, inputs)

    for pattern in (PerRow(0.29), PerLayer(0.7)):
        assert torch.equal(wanda.prune(weight_OI, stats, pattern), prune(weight_OI, stats, pattern))


def test_the_size_of_either_text_alone_changes_nothing(weight_OI, inputs, against, contrasted):
    expected = prune(weight_OI, contrasted(inputs, against), PerLayer(0.29))

    for mine, other in ((4.0, 1.0), (1.0, 16.0), (0.5, 8.0)):
        stats = contrasted(
            {tag: mine * x for tag, x in inputs.items()},
            {tag: other * x for tag, x in against.items()},
        )
        assert torch.equal(expected, prune(weight_OI, stats, PerLayer(0.29)))


def test_inverted_it_drops_the_highest(weight_OI, inputs, against, contrasted):
    stats = contrasted(inputs, against)
    lowest = prune(weight_OI, stats, PerRow(0.25)) == 0

    highest = prune(weight_OI, stats, PerRow(0.75), inverted=True) == 0

    assert torch.equal(lowest, ~highest)


def test_without_a_second_text_it_says_how_to_give_one(weight_OI, inputs, shares):
    stats = blend(seen(inputs), shares, "blocks.0.mlp.up")

    with pytest.raises(BadMoments, match=r"blocks\.0\.mlp\.up in a second text.*--against"):
        prune(weight_OI, stats, PerRow(0.25))
