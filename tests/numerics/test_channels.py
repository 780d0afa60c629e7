"""The order of channels against all orders there are, and its assignment against all of them."""

from itertools import permutations

import pytest
import torch

from babelpress.numerics import channels
from babelpress.numerics.channels import best_order, kept


def slow_kept(scores, order, keep, of):
    """The largest scores of every group and row, in Python floats."""
    total = 0.0
    for row in scores:
        for start in range(0, len(order), of):
            group = sorted((row[each] for each in order[start : start + of]), reverse=True)
            total += sum(group[:keep])
    return total


def scores_of(seed, rows=5, size=8):
    """Channels that are large or small throughout, and lie badly: large ones beside one another."""
    lot = torch.Generator().manual_seed(seed)
    sizes_S = torch.linspace(3, 0.1, size).exp()
    return torch.rand(rows, size, generator=lot) * sizes_S


SHAPES = [(2, 4), (1, 4), (3, 4), (1, 2)]
every_shape = pytest.mark.parametrize(("keep", "of"), SHAPES)


@every_shape
@pytest.mark.parametrize("seed", range(2))
def test_what_is_kept_is_counted_as_plain_loops_do(seed, keep, of):
    score_RS, order = scores_of(seed), [3, 0, 7, 5, 1, 2, 6, 4]

    expected = slow_kept(score_RS.tolist(), order, keep, of)

    assert kept(score_RS, torch.tensor(order), keep, of) == pytest.approx(expected, rel=1e-6)


@every_shape
@pytest.mark.parametrize("seed", range(3))
def test_an_order_keeps_no_less_than_that_of_the_file_and_nearly_the_most_there_is(seed, keep, of):
    score_RS = scores_of(seed)
    scores = score_RS.tolist()
    # Groups and places inside them do not matter, so the first channel can stay in the first.
    most = max(slow_kept(scores, [0, *rest], keep, of) for rest in permutations(range(1, 8)))
    as_is = slow_kept(scores, range(8), keep, of)

    order_S = best_order(score_RS, keep, of)

    found = slow_kept(scores, order_S.tolist(), keep, of)
    assert sorted(order_S.tolist()) == list(range(8))
    assert as_is < found <= most + 1e-9
    assert found - as_is > 0.9 * (most - as_is)


@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("keep", [1, 2, 3])
def test_a_place_is_assigned_as_the_best_of_all_assignments(place, keep):
    score_RS = scores_of(1, size=16)[
        :, torch.randperm(16, generator=torch.Generator().manual_seed(3))
    ]
    order_S = torch.arange(16)

    assigned_S = channels._assigned(score_RS, order_S, place, keep, 4)

    best = 0.0
    for chosen in permutations(range(4)):
        order = order_S.view(4, 4).clone()
        order[:, place] = order_S.view(4, 4)[list(chosen), place]
        best = max(best, slow_kept(score_RS.tolist(), order.flatten().tolist(), keep, 4))
    assert slow_kept(score_RS.tolist(), assigned_S.tolist(), keep, 4) == pytest.approx(best)
    fixed = [each for each in range(16) if each % 4 != place]
    assert torch.equal(assigned_S[fixed], order_S[fixed])


def test_channels_are_dealt_forth_and_back():
    """Sums 8 to 1: 8, 7 are dealt, then 5, 6, then 4, 3, then 1, 2."""
    score_RS = torch.tensor([[8.0, 7, 6, 5, 4, 3, 2, 1]])

    assert channels._dealt(score_RS, 4).tolist() == [0, 3, 4, 7, 1, 2, 5, 6]


def test_where_nothing_is_to_be_gained_the_order_stays():
    assert best_order(torch.ones(3, 8), 2, 4).tolist() == list(range(8))
    assert best_order(scores_of(0), 4, 4).tolist() == list(range(8))
    assert best_order(scores_of(0, size=4), 2, 4).tolist() == list(range(4))
