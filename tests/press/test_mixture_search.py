"""The rounds of a searched mixture where languages may gain; more in tests/press/test_blocks.py."""

import math

import pytest

from babelpress.press.mixture_search import Round, best, search

TAGS = ["eng_Latn", "swh_Latn", "hin_Deva"]


def slow(lost_of, tags, rounds, rate):
    """The formula, literally; whoever gained lost nothing when shares are moved."""
    p = [1 / len(tags)] * len(tags)
    trace = []
    for _ in range(rounds):
        found = lost_of(dict(zip(tags, p, strict=True)))
        x = [found[tag] for tag in tags]
        trace.append((p, x))
        lost = [each if each > 0 else 0.0 for each in x]
        mean = sum(lost) / len(lost)
        if mean:
            p = [p_l * math.exp(rate * (x_l / mean - 1)) for p_l, x_l in zip(p, lost, strict=True)]
            p = [p_l / sum(p) for p_l in p]
    return trace


def some_gain(shares):
    """Losses that fall with the share, below zero for a language that has much."""
    return {
        tag: 0.25 * need / shares[tag] - 0.3
        for tag, need in zip(TAGS, (0.2, 0.5, 1.7), strict=True)
    }


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_it_is_the_formula_where_languages_gain_too(rate):
    trace = list(search(some_gain, TAGS, rounds=6, rate=rate))

    assert min(trace[0].lost.values()) < 0 < trace[0].worst
    for each, (p, x) in zip(trace, slow(some_gain, TAGS, 6, rate), strict=True):
        assert list(each.shares.values()) == pytest.approx(p, rel=1e-12)
        assert list(each.lost.values()) == pytest.approx(x, rel=1e-12)
        assert each.mean == pytest.approx(sum(x) / 3)
    assert best(trace).worst < trace[0].worst


def test_where_all_gain_the_shares_stay():
    trace = list(search(lambda _: dict.fromkeys(TAGS, -0.25), TAGS, rounds=3, rate=1.0))

    assert [each.shares for each in trace] == 3 * [dict.fromkeys(TAGS, 1 / 3)]


@pytest.mark.parametrize("number", [0, 1, 3, 5])
def test_rounds_that_are_done_are_not_tried_again_and_decide_as_if_they_were(number):
    whole = list(search(some_gain, TAGS, rounds=5, rate=1.0))
    tried = []

    def lost_of(shares):
        tried.append(shares)
        return some_gain(shares)

    assert list(search(lost_of, TAGS, rounds=5, rate=1.0, done=whole[:number])) == whole
    assert len(tried) == 5 - number


def test_more_rounds_than_are_asked_for_are_not_told():
    done = [Round(dict.fromkeys(TAGS, 1 / 3), dict.fromkeys(TAGS, 0.1))] * 4

    assert len(list(search(some_gain, TAGS, rounds=2, rate=1.0, done=done))) == 2
