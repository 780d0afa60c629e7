"""Whole numbers against exhaustive search; patterns of blocks whose totals are exact."""

import itertools
import random

import pytest
import torch

from babelpress.allocate._exact import density, patterns, whole
from babelpress.errors import BadLayer
from babelpress.numerics.patterns import PerGroup, parse

SHAPES = {"attn.q": (8, 24), "attn.o": (12, 8), "mlp.down": (24, 40)}
PATTERNS = ("0.5", "0.29", "0.5/layer", "0.29/layer", "0.5/128", "0.29/16", "2of4", "1of4", "5of8")
every_pattern = pytest.mark.parametrize("text", PATTERNS)


def nearest(wanted, total, most):
    """The least squared distance of whole numbers within the bounds that sum to the total."""
    every = itertools.product(range(most + 1), repeat=len(wanted))
    return min(distance(one, wanted) for one in every if sum(one) == total)


def distance(taken, wanted):
    return sum((t - w) ** 2 for t, w in zip(taken, wanted, strict=True))


def cases(beyond, number=400):
    """Small cases; what is wanted lies up to `beyond` out of bounds, in eighths: no rounding."""
    lot = random.Random(0)
    for _ in range(number):
        most, places = lot.randint(1, 4), lot.randint(1, 4)
        wanted = [lot.randint(-8 * beyond, 8 * (most + beyond)) / 8 for _ in range(places)]
        yield wanted, lot.randint(0, most * places), most


@pytest.mark.parametrize("beyond", [0, 1, 5])
def test_no_whole_numbers_within_the_bounds_come_nearer(beyond):
    for wanted, total, most in cases(beyond):
        taken = whole(wanted, total, most)

        assert sum(taken) == total
        assert all(0 <= each <= most for each in taken)
        assert distance(taken, wanted) == nearest(wanted, total, most), (wanted, total, most)


def test_the_largest_remainders_get_what_is_left_and_of_equal_ones_the_first():
    assert whole([1.25, 2.5, 0.75, 1.5], 6, 9) == [1, 3, 1, 1]
    assert whole([1.5, 1.5, 1.5], 5, 9) == [2, 2, 1]
    assert whole([1.5, 1.5, 1.5], 4, 9) == [2, 1, 1]
    assert whole([7.0, -2.0, 1.0], 6, 4) == [4, 0, 2]


@pytest.mark.parametrize(("total", "expected"), [(0, [0, 0, 0]), (12, [4, 4, 4])])
def test_all_or_nothing_is_all_or_nothing_whatever_is_wanted(total, expected):
    assert whole([9.0, -3.5, 1.25], total, 4) == expected


# ---- patterns ------------------------------------------------------------------------------


@every_pattern
@pytest.mark.parametrize(
    "densities",
    [
        [0.71, 0.5, 0.62, 0.55, 0.4],
        [0.0, 1.0, 0.0, 1.0, 1.0],
        [-3.0, 0.5, 0.5, 0.5, 4.0],
        [0.123] * 5,
        [9.0] * 5,
    ],
)
def test_over_all_blocks_every_linear_loses_what_the_plain_pattern_asks(text, densities):
    plain = parse(text)

    found = patterns(plain, [SHAPES] * 5, densities)

    for name, (rows, columns) in SHAPES.items():
        counts = [each[name].count(rows, columns) for each in found]
        assert sum(counts) == 5 * plain.count(rows, columns)
        assert max(counts) < rows * columns
        assert {type(each[name]) for each in found} == {type(plain)}


@every_pattern
def test_masks_have_the_counts_that_patterns_say(text):
    found = patterns(parse(text), [SHAPES] * 3, [0.8, 0.3, 0.6])

    for name, shape in SHAPES.items():
        score_OI = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        for each in (block[name] for block in found):
            assert (~each.keep(score_OI)).sum() == each.count(*shape)


@every_pattern
def test_equal_densities_give_the_plain_pattern(text):
    plain = parse(text)

    found = patterns(plain, [SHAPES] * 3, [density(plain)] * 3)

    for name, shape in SHAPES.items():
        score_OI = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        for each in (block[name] for block in found):
            assert torch.equal(plain.keep(score_OI), each.keep(score_OI))


@pytest.mark.parametrize("text", ["0.29", "0.29/layer"])
def test_a_block_loses_what_its_density_says_up_to_one_row_or_one_weight(text):
    densities = [0.91, 0.5, 0.72, 0.71]  # 0.71 in the mean

    found = patterns(parse(text), [SHAPES] * 4, densities)

    for name, (rows, columns) in SHAPES.items():
        for each, stays in zip(found, densities, strict=True):
            gone = each[name].count(rows, columns)
            unit = 1 if "layer" in text else rows
            # Counts are rounded down: up to one unit of every block is shared out.
            assert abs(gone - (1 - stays) * rows * columns) <= 2 * unit


def test_rows_and_groups_lose_equally_within_a_block():
    rows = patterns(parse("0.29"), [SHAPES] * 2, [0.9, 0.52])
    groups = patterns(parse("1of4"), [SHAPES] * 2, [0.5, 0.0])
    score_OI = torch.randn(8, 24, generator=torch.Generator().manual_seed(0))

    # 6 of 24 in the mean: 2.4 and 11.52 are wanted, 12 are given.
    assert [(~each["attn.q"].keep(score_OI)).sum(1).tolist() for each in rows] == [
        [1] * 8,
        [11] * 8,
    ]
    assert [str(each["attn.q"]) for each in groups] == ["1of4", "1of4"]


def test_bounds_hold_one_weight_of_every_row_and_group_stays():
    found = patterns(parse("1of4"), [SHAPES] * 2, [-1.0, 0.9])

    assert [str(each["attn.q"]) for each in found] == ["1of4", "1of4"]
    found = patterns(parse("2of4"), [SHAPES] * 2, [-1.0, 2.0])
    assert [str(each["attn.q"]) for each in found] == ["1of4", "3of4"]


def test_linears_of_one_name_and_different_shapes_have_totals_of_their_own():
    shapes = [{"up": (3, 20)}, {"up": (3, 50)}, {"up": (3, 20)}, {"up": (3, 50)}]

    found = patterns(parse("0.3"), shapes, [0.9, 0.1, 0.5, 0.5])

    counts = [each["up"].count(*shape["up"]) for each, shape in zip(found, shapes, strict=True)]
    assert counts[0] + counts[2] == 3 * 2 * 6
    assert counts[1] + counts[3] == 3 * 2 * 15
    assert counts[1] > counts[3]


def test_a_linear_that_a_block_lacks_counts_nowhere():
    shapes = [SHAPES, {"attn.q": (8, 24)}, SHAPES]

    found = patterns(parse("0.5"), shapes, [0.9, 0.4, 0.2])

    assert [set(each) for each in found] == [set(each) for each in shapes]
    assert sum(found[at]["mlp.down"].count(24, 40) for at in (0, 2)) == 2 * 24 * 20


def test_a_linear_that_the_pattern_does_not_fit_is_refused():
    with pytest.raises(BadLayer, match="needs a number of inputs that 4 divides"):
        patterns(parse("2of4"), [{"up": (3, 10)}], [0.5])


@pytest.mark.parametrize(
    ("text", "stays"), [("0.29", 0.71), ("0.3/layer", 0.7), ("0.7/16", 0.3), ("1of4", 0.25)]
)
def test_the_density_of_a_pattern_is_the_share_that_stays(text, stays):
    assert density(parse(text)) == pytest.approx(stays, abs=1e-15)


def test_a_group_keeps_its_columns():
    (found,) = patterns(parse("0.5/16"), [SHAPES], [0.5])

    assert all(isinstance(each, PerGroup) and each.columns == 16 for each in found.values())
