"""Scores of languages joined, against loops over numbers."""

import math

import pytest
import torch

from babelpress.numerics.joining import WAYS, joined, level

SCORES = [[1.0, 4.0, 2.0], [3.0, 0.5, 2.0]]
SHARES = [0.25, 0.75]


def slow(way, column, p, temperature):
    match way:
        case "mean":
            return sum(s * x for s, x in zip(SHARES, column, strict=True))
        case "max":
            return max(column)
        case "pnorm":
            return sum(s * x**p for s, x in zip(SHARES, column, strict=True)) ** (1 / p)
    parts = [s * math.exp(x / temperature) for s, x in zip(SHARES, column, strict=True)]
    return sum(w * x for w, x in zip(parts, column, strict=True)) / sum(parts)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1)])
def test_every_way_is_its_formula(way, shape):
    found = joined(
        torch.tensor(SCORES).view(shape), torch.tensor(SHARES), way, p=3.0, temperature=0.5
    )

    expected = [slow(way, column, 3.0, 0.5) for column in zip(*SCORES, strict=True)]
    assert found.flatten().tolist() == pytest.approx(expected, rel=1e-6)


def test_a_language_whose_scores_are_larger_throughout_counts_like_the_others():
    one = torch.tensor([1.0, 2.0, 6.0])

    assert torch.allclose(level(one), level(1000 * one))
    assert level(one).mean() == pytest.approx(1)
    assert torch.equal(level(torch.zeros(3)), torch.zeros(3))
