"""Magnitude on a matrix small enough to read."""

import torch

from babelpress.numerics.patterns import KeepOf, PerLayer, PerRow
from babelpress.prune.magnitude import prune

WEIGHT_OI = torch.tensor([[1.0, -2.0, 3.0, -4.0], [-8.0, 7.0, -6.0, 5.0]])


def test_the_smallest_weights_of_each_row_go(stats):
    expected = torch.tensor([[0.0, -2.0, 3.0, -4.0], [-8.0, 7.0, -6.0, 0.0]])

    assert torch.equal(expected, prune(WEIGHT_OI, stats, PerRow(0.25)))


def test_the_smallest_weights_of_the_layer_go(stats):
    expected = torch.tensor([[0.0, 0.0, 3.0, -4.0], [-8.0, 7.0, -6.0, 5.0]])

    assert torch.equal(expected, prune(WEIGHT_OI, stats, PerLayer(0.25)))


def test_the_largest_weight_of_every_four_stays(stats):
    expected = torch.tensor([[0.0, 0.0, 0.0, -4.0], [-8.0, 0.0, 0.0, 0.0]])

    assert torch.equal(expected, prune(WEIGHT_OI, stats, KeepOf(1, 4)))
