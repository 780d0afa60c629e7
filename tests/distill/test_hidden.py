"""Differences of hidden states against plain floats, and which block is held against which."""

import pytest
import torch
from distilling import case, mean

from babelpress.distill._seen import Seen
from babelpress.distill.hidden import loss, teacher_blocks


def states(seed, sizes):
    generator = torch.Generator().manual_seed(seed)
    return tuple(size * torch.randn((4, 3), generator=generator).double() for size in sizes)


@pytest.mark.parametrize("relative", [True, False])
def test_it_is_the_mean_of_squares_by_block(relative):
    mine, its = states(0, (1, 1)), states(1, (1, 50))
    _, _, truth = case()

    found = loss(Seen(mine[0], mine), Seen(its[0], its), truth, relative=relative, weight=3.0)

    blocks = []
    for one, other in zip(mine, its, strict=True):
        pairs = list(zip(one.flatten().tolist(), other.flatten().tolist(), strict=True))
        apart = mean((a - b) ** 2 for a, b in pairs)
        blocks.append(apart / mean(b**2 for _, b in pairs) if relative else apart)
    assert found.item() == pytest.approx(3 * mean(blocks), rel=1e-9)


def test_a_step_against_the_slope_comes_nearer():
    (mine,), (its,) = states(0, (1,)), states(1, (1,))
    _, _, truth = case()
    mine.requires_grad_()
    before = loss(Seen(mine, (mine,)), Seen(its, (its,)), truth)
    before.backward()
    assert mine.grad is not None
    # of a square the slope is twice the difference, over the number of numbers and their size
    expected = 2 * (mine.detach() - its) / its.numel() / its.square().mean()

    torch.testing.assert_close(mine.grad, expected)


@pytest.mark.parametrize(
    ("student", "teacher", "even", "last"),
    [
        (6, 12, [1, 3, 5, 7, 9, 11], [6, 7, 8, 9, 10, 11]),
        (4, 6, [1, 2, 4, 5], [2, 3, 4, 5]),
        (1, 3, [2], [2]),
        (3, 3, [0, 1, 2], [0, 1, 2]),
        (4, 2, [0, 0, 1, 1], [0, 0, 1, 1]),  # a student of its own may be deeper
    ],
)
def test_the_last_block_is_held_against_the_last(student, teacher, even, last):
    assert teacher_blocks(student, teacher) == even
    assert teacher_blocks(student, teacher, map="last") == last
