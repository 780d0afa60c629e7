"""Patterns against a stable sort, one weight at a time, with exact counts."""

import math
from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from babelpress.errors import BadLayer, BadSetting
from babelpress.numerics.patterns import (
    KeepOf,
    PerGroup,
    PerLayer,
    PerRow,
    Spared,
    Stacked,
    chosen_together,
    parse,
)


def slow_keep(scores, drop):
    """Sort one list, ties by position; False for the first `drop`."""
    order = sorted(range(len(scores)), key=scores.__getitem__)
    return [place not in set(order[:drop]) for place in range(len(scores))]


def slow_per_row(score_OI, fraction):
    drop = floor(Fraction(str(fraction)) * score_OI.shape[1])
    return torch.tensor([slow_keep(row, drop) for row in score_OI.tolist()])


def slow_per_layer(score_OI, fraction):
    drop = floor(Fraction(str(fraction)) * score_OI.numel())
    return torch.tensor(slow_keep(score_OI.flatten().tolist(), drop)).reshape(score_OI.shape)


def slow_keep_of(score_OI, keep, of):
    rows = [
        [kept for i in range(0, len(row), of) for kept in slow_keep(row[i : i + of], of - keep)]
        for row in score_OI.tolist()
    ]
    return torch.tensor(rows)


def slow_per_group(score_OI, fraction, width):
    rows, columns = score_OI.shape
    exact, kept, gone = Fraction(str(fraction)), [], 0
    for start in range(0, columns, width):
        part = score_OI[:, start : start + width]
        drop = floor(exact * rows * min(start + width, columns)) - gone
        gone += drop
        kept.append(torch.tensor(slow_keep(part.flatten().tolist(), drop)).reshape(part.shape))
    return torch.cat(kept, 1)


@st.composite
def tied_scores(draw, columns=tuple(range(1, 13))):
    """Few different values, so that ties are everywhere; several rows, so that they differ."""
    rows, width = draw(st.integers(1, 5)), draw(st.sampled_from(columns))
    values = st.lists(st.integers(0, 3), min_size=rows * width, max_size=rows * width)
    return torch.tensor(draw(values), dtype=torch.float32).reshape(rows, width)


seeded = settings(deadline=None, derandomize=True)
fractions = st.sampled_from([0.0, 0.1, 0.25, 0.29, 0.3, 0.57, 0.7, 0.99])


@seeded
@given(tied_scores(), fractions)
def test_per_row_is_a_stable_sort_of_every_row(score_OI, fraction):
    assert torch.equal(slow_per_row(score_OI, fraction), PerRow(fraction).keep(score_OI))


@seeded
@given(tied_scores(), fractions)
def test_per_layer_is_a_stable_sort_of_all_weights(score_OI, fraction):
    assert torch.equal(slow_per_layer(score_OI, fraction), PerLayer(fraction).keep(score_OI))


@seeded
@given(tied_scores(columns=(3, 6, 9)), st.integers(1, 3))
def test_keep_of_is_a_stable_sort_of_every_group(score_OI, keep):
    assert torch.equal(slow_keep_of(score_OI, keep, 3), KeepOf(keep, 3).keep(score_OI))


@seeded
@given(tied_scores(), fractions, st.integers(1, 5))
def test_per_group_is_a_stable_sort_of_all_rows_of_a_group(score_OI, fraction, width):
    keep_OI = PerGroup(fraction, width).keep(score_OI)

    assert torch.equal(slow_per_group(score_OI, fraction, width), keep_OI)
    assert (~keep_OI).sum() == floor(Fraction(str(fraction)) * score_OI.numel())


def test_large_scores_without_and_with_ties_match_a_stable_sort():
    torch.manual_seed(0)
    for score_OI in (torch.rand(40, 301), torch.rand(40, 301).bfloat16().float()):
        order_OI = score_OI.argsort(dim=1, stable=True)
        expected = torch.ones(40, 301, dtype=torch.bool)
        expected.scatter_(1, order_OI[:, :210], False)

        assert torch.equal(expected, PerRow(0.7).keep(score_OI))


@pytest.mark.parametrize(("fraction", "columns", "gone"), [(0.29, 100, 29), (0.57, 100, 57)])
def test_fractions_are_the_decimals_that_were_written(fraction, columns, gone):
    assert int(columns * fraction) == gone - 1  # what binary floats would give

    assert PerRow(fraction).count(1, columns) == gone
    assert (~PerRow(fraction).keep(torch.rand(3, columns))).sum() == 3 * gone


@pytest.mark.parametrize(
    ("pattern", "gone"),
    [
        (PerRow(0.25), 5 * 3),
        (PerLayer(0.3), 18),
        (PerGroup(0.3, 5), 18),
        (KeepOf(1, 4), 5 * 9),
        (Stacked((PerLayer(0.3),) * 2, (1, 4)), 3 + 14),
        (Stacked((PerRow(0.3),) * 2, (2, 3)), 5 * 3),
        (Stacked((KeepOf(2, 3),) * 2, (2, 3)), 5 * 4),
    ],
)
def test_the_count_is_known_before_and_met(pattern, gone):
    torch.manual_seed(0)
    for score_OI in (torch.rand(5, 12), torch.ones(5, 12)):
        assert pattern.count(5, 12) == gone
        assert (~pattern.keep(score_OI)).sum() == gone


@pytest.mark.parametrize("pattern", [PerRow(0.29), PerGroup(0.29, 6), KeepOf(1, 3), PerLayer(0.29)])
@pytest.mark.parametrize("columns", [3, 6, 12])
@pytest.mark.parametrize("stacked", [False, True])
def test_blocks_of_columns_add_up_to_the_exact_count(pattern, columns, stacked):
    torch.manual_seed(0)
    pattern = Stacked((pattern,) * 2, (2, 5)) if stacked else pattern
    score_OI = torch.rand(7, 24)
    width = chosen_together(pattern, columns, 24)

    starts = range(0, 24, width)
    kept = [pattern.keep_among(score_OI[:, s : s + width].T, s, 24) for s in starts]

    assert (torch.cat(kept) == 0).sum() == pattern.count(7, 24)


@pytest.mark.parametrize("pattern", [PerGroup(0.3, 5), KeepOf(1, 3), PerLayer(0.3)])
def test_groups_chosen_one_by_one_are_those_chosen_at_once(pattern):
    torch.manual_seed(0)
    score_OI = torch.rand(7, 24)
    width = chosen_together(pattern, 6, 24)

    starts = range(0, 24, width)
    kept = [pattern.keep_among(score_OI[:, s : s + width].T, s, 24) for s in starts]

    assert torch.equal(pattern.keep(score_OI), torch.cat(kept).T.bool())


def test_a_row_in_blocks_loses_its_share_of_every_block():
    score_OI = torch.arange(20.0).reshape(1, 20)

    first = PerRow(0.3).keep_among(score_OI[:, :5].T, 0, 20)
    second = PerRow(0.3).keep_among(score_OI[:, 5:10].T, 5, 20)

    assert ((~first).sum(), (~second).sum()) == (1, 2)


def test_a_stack_treats_every_linear_by_itself():
    score_OI = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [9.0, 9.0, 9.0, 9.0]])

    keep_OI = Stacked((PerLayer(0.25),) * 2, (1, 2)).keep(score_OI)

    assert keep_OI.tolist() == [[False] + [True] * 3, [False, False, True, True], [True] * 4]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("0.5", PerRow(0.5)),
        ("0.0", PerRow(0.0)),
        ("1e-05", PerRow(1e-05)),
        ("0.7/layer", PerLayer(0.7)),
        ("0.5/128", PerGroup(0.5)),
        ("0.5/96", PerGroup(0.5, 96)),
        ("2of4", KeepOf(2, 4)),
        ("1of3", KeepOf(1, 3)),
    ],
)
def test_a_pattern_is_what_its_text_says_and_back(text, pattern):
    assert parse(text) == pattern
    assert str(pattern) == text
    assert str(Stacked((pattern,) * 2, (1, 2))) == text


def test_a_colon_is_accepted_where_it_means_one_thing():
    assert parse("2:4") == KeepOf(2, 4)
    assert parse(" 4:8 ") == KeepOf(4, 8)


def test_a_colon_that_could_mean_two_things_is_refused():
    with pytest.raises(BadSetting, match=r"'1:4' .* Write 1of4 to keep 1 .* or 3of4 to drop 1"):
        parse("1:4")


@pytest.mark.parametrize("text", ["", "half", "0.5/", "0.5/row", "2of", "50%", "0.5/1.5"])
def test_any_other_text_is_refused_with_examples(text):
    with pytest.raises(BadSetting, match=r"is no sparsity pattern. Write 0.5 .* 2of4"):
        parse(text)


@pytest.mark.parametrize("text", ["1.0", "-0.1", "nan", "inf", "1.5/layer", "2/128", "50"])
def test_a_fraction_out_of_range_is_refused(text):
    with pytest.raises(BadSetting, match="at least 0 and below 1"):
        parse(text)


@pytest.mark.parametrize("text", ["5of4", "0of4", "0of0"])
def test_keeping_none_or_more_than_all_is_refused(text):
    with pytest.raises(BadSetting, match=f"keep {text[0]} of {text[-1]} makes no sense"):
        parse(text)


def test_a_group_without_columns_is_refused():
    with pytest.raises(BadSetting, match="at least 1 column, not 0"):
        parse("0.5/0")


def test_keep_of_needs_a_number_of_inputs_that_divides():
    message = r"2of4 needs a number of inputs that 4 divides; this layer has 6\. Leave it out"
    for refuse in (
        lambda: KeepOf(2, 4).keep(torch.rand(2, 6)),
        lambda: KeepOf(2, 4).count(2, 6),
        lambda: KeepOf(2, 4).keep_among(torch.rand(4, 2), 0, 6),
    ):
        with pytest.raises(BadLayer, match=message):
            refuse()


# ---- what stays whole ----------------------------------------------------------------------

SPARE = {
    "columns": (frozenset(), frozenset({1, 2, 7})),
    "rows": (frozenset({0, 3}), frozenset()),
    "both": (frozenset({3}), frozenset({1, 5, 11})),
}
every_spare = pytest.mark.parametrize("spare", SPARE)


def slow_spared(score_OI, plain, rows, columns):
    """The weights that stay, row by row or group by group, those that are spared never going."""
    scores = score_OI.tolist()
    for i, row in enumerate(scores):
        for j in range(len(row)):
            if i in rows or j in columns:
                row[j] = math.inf
    others = [i for i in range(len(scores)) if i not in rows]
    total = plain.count(*score_OI.shape)
    if isinstance(plain, PerRow):
        each, more = divmod(total, len(others))
        drops = {i: each + (place < more) for place, i in enumerate(others)}
        return torch.tensor([slow_keep(row, drops.get(i, 0)) for i, row in enumerate(scores)])
    masked_OI = torch.tensor(scores)
    if isinstance(plain, PerGroup):
        return slow_per_group(masked_OI, plain.fraction, plain.columns)
    if isinstance(plain, KeepOf):
        return slow_keep_of(masked_OI, plain.keep_count, plain.of)
    return slow_per_layer(masked_OI, plain.fraction)


@pytest.mark.parametrize(
    ("plain", "spare"),
    [
        *((each, spare) for each in (PerRow(0.29), PerRow(0.5), PerLayer(0.4)) for spare in SPARE),
        *((PerGroup(0.3, 5), spare) for spare in SPARE),
        (KeepOf(2, 4), "columns"),
        (KeepOf(3, 4), "columns"),
    ],
)
def test_others_go_in_the_place_of_what_stays_whole(plain, spare):
    rows, columns = SPARE[spare]
    score_OI = torch.randint(0, 9, (5, 12), generator=torch.Generator().manual_seed(0)).float()
    score_OI[:, [1, 2]] = 0  # the first to go
    pattern = Spared(plain, rows, columns)

    keep_OI = pattern.keep(score_OI)

    assert torch.equal(slow_spared(score_OI, plain, rows, columns), keep_OI)
    assert (~keep_OI).sum() == pattern.count(5, 12) == plain.count(5, 12)
    assert keep_OI[sorted(rows)].all()
    assert keep_OI[:, sorted(columns)].all()
    stacked = Stacked((pattern, plain), (5, 2)).keep(score_OI[[*range(5), 0, 1]])
    assert torch.equal(stacked, torch.cat([keep_OI, plain.keep(score_OI[:2])]))


@every_spare
@pytest.mark.parametrize("plain", [PerRow(0.29), PerRow(0.5), PerGroup(0.29, 6), PerLayer(0.29)])
@pytest.mark.parametrize("width", [3, 5, 6])
def test_with_what_stays_whole_blocks_of_columns_add_up_too(plain, width, spare):
    pattern = Spared(plain, *SPARE[spare])
    width = chosen_together(pattern, width, 12)
    score_IO = torch.rand(12, 5, generator=torch.Generator().manual_seed(1))

    parts = [
        pattern.keep_among(part_BO, start, 12)
        for start, part_BO in zip(range(0, 12, width), score_IO.split(width), strict=True)
    ]

    keep_OI = torch.cat(parts).T
    assert (~keep_OI).sum() == plain.count(5, 12)
    assert keep_OI[sorted(pattern.rows)].all()
    assert keep_OI[:, sorted(pattern.columns)].all()
    if isinstance(plain, PerRow):
        assert torch.equal((~keep_OI).sum(1), (~pattern.keep(score_IO.T)).sum(1))


def test_rows_that_stay_whole_are_made_up_for_evenly():
    """5 rows lose 3 of 12 each, 15: three others lose 5 each, four 4, 4, 4 and 3."""
    score_OI = torch.rand(5, 12)

    three = Spared(PerRow(0.25), frozenset({0, 2})).keep(score_OI)
    four = Spared(PerRow(0.25), frozenset({2})).keep(score_OI)

    assert (~three).sum(1).tolist() == [0, 5, 0, 5, 5]
    assert (~four).sum(1).tolist() == [4, 4, 0, 4, 3]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (
            Spared(PerRow(0.75), frozenset(), frozenset(range(4))),
            "0.75 takes 45 weights of this layer, where protection leaves 40. Protect less, or "
            "prune less.",
        ),
        (
            Spared(PerLayer(0.5), frozenset(range(3)), frozenset()),
            "0.5/layer takes 30 weights of this layer, where protection leaves 24. Protect less, "
            "or prune less.",
        ),
        (
            Spared(PerGroup(0.5, 4), frozenset(), frozenset({4, 5, 6})),
            "0.5/4 takes 10 weights of columns 4 to 7 of this layer, where protection leaves 5. "
            "Protect less, or prune less.",
        ),
        (
            Spared(KeepOf(2, 4), frozenset(), frozenset({4, 5, 7})),
            "2of4 takes 2 of inputs 4 to 7, where protection leaves 1. Protect at most 2 of them.",
        ),
        (
            Spared(KeepOf(2, 4), frozenset({1})),
            "2of4 takes weights of every row, so that none can stay whole. Protect columns only, "
            "or use --pattern 0.5.",
        ),
    ],
)
def test_where_too_few_may_go_it_is_refused(pattern, words):
    with pytest.raises(BadLayer) as counted:
        pattern.count(5, 12)
    with pytest.raises(BadLayer) as kept:
        pattern.keep(torch.rand(5, 12))

    assert str(counted.value) == str(kept.value) == words
