"""Collapse points against a slow search over made-up curves."""

import zlib

import numpy as np
import pytest

from babelpress.errors import BadRun
from babelpress.judge.collapse import collapse
from babelpress.judge.compare import compare
from babelpress.numerics.tally import Tally

TAGS = ("eng_Latn", "yor_Latn", "hin_Deva")


def tally(bits, size, prefix="doc"):
    return Tally(tuple(f"{prefix}/{i}" for i in range(len(bits))), np.array(bits), np.array(size))


def curves(losses, *, documents=17, noise=0.02, seed=3, prefix=lambda _tag: "doc"):
    """A dense model and a rung for every number of a curve; losses are noisy by document."""
    rng = np.random.default_rng(seed)
    dense, rungs = {}, [{} for _ in next(iter(losses.values()))]
    for tag, curve in losses.items():
        size = rng.integers(50, 400, documents).astype(float)
        bits = size * rng.uniform(1.0, 3.0, documents)
        dense[tag] = tally(bits, size, prefix(tag))
        for rung, loss in zip(rungs, curve, strict=True):
            more = bits * (1 + loss + rng.normal(0, noise, documents))
            rung[tag] = tally(more, size, prefix(tag))
    return dense, rungs


def slow_holds(losses, most):
    """How many there are before the first that is too much."""
    count = 0
    for loss in losses:
        if loss > most:
            break
        count += 1
    return count


def slow_draws(dense, rungs, tag, draws, seed, stream):
    """The losses at every rung in every draw, one document at a time."""
    rng = np.random.default_rng([seed, stream])
    size = len(dense[tag].documents)
    order = sorted(range(size), key=dense[tag].documents.__getitem__)
    found = []
    for counts in rng.multinomial(size, [1 / size] * size, size=draws):
        row = []
        for rung in rungs:
            sums = [0.0] * 4
            for times, i in zip(counts, order, strict=True):
                sums[0] += times * rung[tag].numerator_D[i]
                sums[1] += times * rung[tag].denominator_D[i]
                sums[2] += times * dense[tag].numerator_D[i]
                sums[3] += times * dense[tag].denominator_D[i]
            row.append((sums[0] / sums[1]) / (sums[2] / sums[3]) - 1)
        found.append(row)
    return found


def slow_interval(counts):
    """The smallest counts that 2.5 % and 97.5 % of all draws do not exceed."""
    ordered = sorted(counts)
    ends = []
    for share in (0.025, 0.975):
        reached = next(i for i in range(len(ordered)) if (i + 1) / len(ordered) >= share)
        ends.append(ordered[reached])
    return tuple(ends)


CURVES = {
    "eng_Latn": (0.0, 0.01, 0.02, 0.049, 0.2),
    "yor_Latn": (0.01, 0.051, 0.04, 0.3, 0.6),
    "hin_Deva": (-0.02, 0.0, 0.03, 0.055, 0.052),
}


@pytest.mark.parametrize("most", [0.05, 0.02, 0.25])
def test_every_point_equals_a_slow_search_on_the_same_draws(most):
    dense, rungs = curves(CURVES)

    found = collapse(dense, rungs, max_loss=most, draws=150, seed=7)

    every = []
    for tag, point in zip(TAGS, found.points, strict=True):
        exact = [rung[tag].value / dense[tag].value - 1 for rung in rungs]
        draws = slow_draws(dense, rungs, tag, 150, 7, 0)
        assert point.language == tag
        assert point.holds == slow_holds(exact, most)
        assert point.loss == pytest.approx([*exact, exact[-1]][point.holds])
        assert (point.low, point.high) == slow_interval([slow_holds(row, most) for row in draws])
        after = [k for k, loss in enumerate(exact) if loss <= most and k >= point.holds]
        assert list(point.beyond) == after
        every.append(draws)
    together = [min(slow_holds(row, most) for row in rows) for rows in zip(*every, strict=True)]
    assert found.every.holds == min(point.holds for point in found.points)
    assert (found.every.low, found.every.high) == slow_interval(together)


def test_losses_are_those_of_compare_rung_by_rung():
    dense, rungs = curves(CURVES)
    changes = [{c.language: c.change for c in compare(dense, each).changes} for each in rungs]

    found = collapse(dense, rungs, max_loss=0.04)

    for point in found.points:
        losses = [each[point.language or ""] for each in changes]
        assert point.holds == slow_holds(losses, 0.04)


def test_a_rung_that_holds_beyond_one_that_does_not_is_named_and_counts_nothing():
    dense, rungs = curves({"eng_Latn": (0.01, 0.2, 0.01, 0.3)}, noise=0.0)

    (point,) = collapse(dense, rungs, max_loss=0.05).points

    assert (point.holds, point.beyond) == (1, (2,))


def test_none_that_holds_and_all_that_hold_are_the_ends():
    dense, rungs = curves({"eng_Latn": (0.2, 0.3, 0.4), "yor_Latn": (0.0, 0.01, 0.02)}, noise=0.0)

    found = collapse(dense, rungs, max_loss=0.05)

    assert [(p.holds, p.low, p.high) for p in found.points] == [(0, 0, 0), (3, 3, 3)]
    assert found.every.holds == 0
    assert [p.language for p in found.first_lost()] == ["eng_Latn", "yor_Latn"]


def test_where_higher_is_better_a_loss_is_what_went():
    dense = {"eng_Latn": tally([8.0, 9.0, 10.0, 9.0], [10.0] * 4)}
    rungs = [
        {"eng_Latn": tally([8.0 - lost, 9.0, 10.0, 9.0], [10.0] * 4)} for lost in (0.0, 1.0, 4.0)
    ]

    (point,) = collapse(dense, rungs, max_loss=0.03, lower_is_better=False).points
    (other,) = collapse(dense, rungs, max_loss=0.03, lower_is_better=True).points

    assert (point.holds, other.holds) == (2, 3)


def test_a_language_at_chance_has_no_point_and_is_not_among_all():
    dense = {
        "eng_Latn": tally([1.0] * 9 + [0.0], [1.0] * 10),
        "yor_Latn": tally([1.0, 0.0] * 5, [1.0] * 10),
    }
    worse = {
        "eng_Latn": tally([1.0] * 9 + [0.0], [1.0] * 10),
        "yor_Latn": tally([0.0] * 9 + [1.0], [1.0] * 10),
    }
    floors = {"eng_Latn": 0.25, "yor_Latn": 0.5}

    found = collapse(dense, [worse], max_loss=0.05, lower_is_better=False, floors=floors)

    assert [p.at_chance for p in found.points] == [False, True]
    assert found.every.holds == 1
    assert [p.language for p in found.first_lost()] == ["eng_Latn", "yor_Latn"]


def test_languages_with_documents_of_their_own_have_draws_of_their_own():
    dense, rungs = curves(CURVES, prefix=lambda tag: tag)

    found = collapse(dense, rungs, max_loss=0.05, draws=150, seed=7)

    for tag, point in zip(TAGS, found.points, strict=True):
        draws = slow_draws(dense, rungs, tag, 150, 7, zlib.crc32(tag.encode()))
        assert (point.low, point.high) == slow_interval([slow_holds(row, 0.05) for row in draws])


def test_a_rung_without_a_language_is_named():
    dense, rungs = curves(CURVES)
    del rungs[1]["hin_Deva"]

    with pytest.raises(BadRun, match="pressed model was not evaluated in hin_Deva"):
        collapse(dense, rungs, max_loss=0.05)
