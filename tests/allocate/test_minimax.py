"""The program against exhaustive search, trades by hand, and what a block may get."""

import itertools
import random

import pytest
from running import refusal

from babelpress.allocate import RULES, _options, by_table
from babelpress.allocate.minimax import asked, check, losses, size, solve, trade
from babelpress.errors import BadSetting


def table(lot, languages, blocks, options):
    """Random losses; now and then one rises with the size, as measured ones may."""
    return [
        [
            sorted((lot.lognormvariate(0, 1) for _ in range(options)), reverse=lot.random() < 0.9)
            for _ in range(blocks)
        ]
        for _ in range(languages)
    ]


def sizes(lot, blocks, options):
    """Ascending sizes, of blocks that are not all as large."""
    of_one = [lot.randint(3, 40) for _ in range(blocks)]
    return [[each * (option + 1) for option in range(options)] for each in of_one]


def exhaustive(loss, size_of, budget):
    """The least worst language of all choices within the budget, by trying every one."""
    every = itertools.product(*(range(len(row)) for row in size_of))
    fitting = [each for each in every if size(size_of, each) <= budget]
    return min(max(losses(loss, each)) for each in fitting)


@pytest.mark.parametrize("seed", range(30))
def test_no_other_choice_within_the_budget_is_better_for_the_worst_language(seed):
    lot = random.Random(seed)
    languages, blocks, options = lot.randint(1, 5), lot.randint(1, 5), lot.randint(1, 4)
    loss, size_of = table(lot, languages, blocks, options), sizes(lot, blocks, options)
    budget = lot.randint(sum(map(min, size_of)), sum(map(max, size_of)))

    chosen = solve(loss, size_of, budget)

    assert len(chosen) == blocks
    assert size(size_of, chosen) <= budget
    assert max(losses(loss, chosen)) == pytest.approx(exhaustive(loss, size_of, budget), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_unit_of_losses_does_not_matter_and_that_of_sizes_is_exact(scale):
    lot = random.Random(7)
    loss, size_of = table(lot, 3, 4, 3), sizes(lot, 4, 3)
    plain = solve(loss, size_of, 150)
    large = [[each * 10**9 for each in row] for row in size_of]

    scaled = [[[scale * each for each in row] for row in of] for of in loss]

    assert solve(scaled, size_of, 150) == plain
    assert solve(loss, large, 150 * 10**9) == plain
    exact = size(large, plain)
    assert solve(loss, large, exact) == plain
    assert solve(loss, large, exact - 1) != plain


def test_it_is_the_worst_language_that_counts_and_not_the_sum():
    """One block may be large: the first costs one language 4, the second two languages 3 each."""
    loss = [[[4.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [3.0, 0.0]], [[0.0, 0.0], [3.0, 0.0]]]

    assert solve(loss, [[1, 2], [1, 2]], 3) == [1, 0]
    assert sum(losses(loss, [1, 0])) > sum(losses(loss, [0, 1]))


def test_losses_of_nothing_choose_anything_that_fits():
    assert size([[1, 2], [3, 4]], solve([[[0.0, 0.0], [0.0, 0.0]]], [[1, 2], [3, 4]], 5)) <= 5


def test_a_budget_that_nothing_fits_is_refused_in_one_line():
    said = (
        "the smallest option of every block takes 4 in all, more than the budget of 3. Allow "
        "smaller options, or ask for less."
    )

    assert refusal(BadSetting, solve, [[[1.0, 0.0], [1.0, 0.0]]], [[1, 2], [3, 4]], 3) == said
    assert refusal(BadSetting, check, [[1, 2], [3, 4]], 3) == said
    check([[1, 2], [3, 4]], 4)


# ---- trades --------------------------------------------------------------------------------

LOSS = [[[4.0, 2.0, 1.0], [4.0, 2.1, 1.0], [4.0, 2.2, 1.0]]]
SIZE = [[1, 2, 3], [1, 2, 3], [1, 2, 3]]


def test_a_trade_takes_what_gains_where_it_is_measured_until_nothing_does():
    real: dict[tuple[int, ...], float] = {
        (1, 1, 1): 9.0,
        (2, 1, 0): 8.0,
        (2, 0, 1): 8.5,
        (1, 2, 0): 7.0,
    }

    found = trade([1, 1, 1], LOSS, SIZE, 6, lambda each: real.get(tuple(each), 10.0), 100)

    assert [each for each, _ in found.tried] == [[1, 1, 1], [1, 2, 0], [2, 1, 0], [0, 2, 1]]
    assert found.chosen == [1, 2, 0]
    assert [worst for _, worst in found.tried] == [9.0, 7.0, 8.0, 10.0]


@pytest.mark.parametrize("trades", [0, 1, 3])
def test_no_more_trades_are_measured_than_were_asked_for(trades):
    asked_for = []

    def worst(each):
        asked_for.append(each)
        return 10.0 - len(asked_for)

    found = trade([1, 1, 1], LOSS, SIZE, 6, worst, trades)

    assert len(asked_for) == len(found.tried) == trades + 1
    assert found.chosen == asked_for[-1]


def test_what_gains_nothing_leaves_the_choice_as_it_was():
    found = trade([1, 1, 1], LOSS, SIZE, 6, lambda _: 1.0, 100)

    assert found.chosen == [1, 1, 1]
    assert len(found.tried) == 7  # it, and all six trades


def test_a_trade_keeps_the_budget_where_blocks_differ_in_size():
    size_of = [[1, 2, 3], [10, 20, 30], [1, 2, 3]]

    found = trade([1, 1, 1], LOSS, size_of, 24, lambda _: 1.0, 100)

    assert {tuple(each) for each, _ in found.tried} == {
        (1, 1, 1),
        (2, 0, 1),
        (1, 0, 2),
        (2, 1, 0),
        (0, 1, 2),
    }


# ---- what a block may get ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "wanted", "found"),
    [
        ("0.5", "", [0.3, 0.4, 0.5, 0.6, 0.7]),
        ("0.29/layer", "", [0.51, 0.61, 0.71, 0.81, 0.91]),
        ("0.1/128", "", [0.7, 0.8, 0.9, 1.0]),
        ("0.9", "", [0.1, 0.2, 0.3]),
        ("2of4", "", [0.25, 0.5, 0.75, 1.0]),
        ("1of4", "", [0.25, 0.5, 0.75]),
        ("8of16", "", [0.375, 0.4375, 0.5, 0.5625, 0.625]),
        ("0.5", "0.6, 0.4,0.4", [0.4, 0.6]),
        ("2of4", "0.25,0.75", [0.25, 0.75]),
    ],
)
def test_densities_lie_around_what_the_pattern_leaves_or_are_those_wanted(pattern, wanted, found):
    assert _options.densities(pattern, wanted) == found


def test_bits_are_those_of_grids_or_those_wanted():
    assert _options.bits(3, "") == [2, 3, 4, 8]
    assert _options.bits(4, "8,2") == [2, 8]


@pytest.mark.parametrize(
    ("pattern", "wanted", "said"),
    [
        ("0.5", "0.6,0", "densities has 0. A share that stays is above 0, at most 1."),
        ("0.5", "0.3,1.5", "densities has 1.5. A share that stays is above 0, at most 1."),
        (
            "0.5",
            "few",
            "densities has 'few', which is no number. Write numbers with commas between.",
        ),
        (
            "0.5",
            "0.5",
            "densities has 0.5 alone, so there is nothing to choose for 0.5. Give more, with "
            "commas between.",
        ),
        (
            "0.5",
            "0.6,0.7",
            "densities has 0.6, 0.7, and 0.5 asks for 0.5 in the mean. Give some that is smaller.",
        ),
        (
            "2of4",
            "0.3,0.5",
            "densities has 0.3, which 2of4 cannot have: give shares of 4, such as 0.25.",
        ),
    ],
)
def test_densities_that_nothing_can_be_chosen_from_are_refused(pattern, wanted, said):
    assert refusal(BadSetting, _options.densities, pattern, wanted) == said


def test_bits_that_nothing_can_be_chosen_from_are_refused():
    assert refusal(BadSetting, _options.bits, 3, "3,5") == "bits has 5. Choose among 2, 3, 4, 8."
    assert "asks for 3 in the mean" in refusal(BadSetting, _options.bits, 3, "4,8")


def test_it_says_of_itself_that_it_goes_by_a_table_and_what_it_takes():
    assert by_table("minimax")
    assert not by_table("owl")
    options = {"tokens": 512, "densities": "", "bits": "", "trades": 8}
    assert RULES.options("minimax") == options
    assert {name: getattr(asked(), name) for name in options} == options
