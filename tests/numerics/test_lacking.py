"""Shares that follow what lacks: sum, floor, radius, and the η that a search over all finds."""

import numpy as np
import pytest

from babelpress.numerics.lacking import FLOOR, shares_by_lack

BASE = {"a": 0.5, "b": 0.3, "c": 0.15, "d": 0.05}
LACKS = {"a": 0.02, "b": 0.1, "c": -0.01, "d": 0.07}


def distance(q, p):
    return 0.5 * sum(p[tag] * (q[tag] / p[tag] - 1) ** 2 for tag in p if p[tag] > 0)


def slow(base, lacks, radius):
    """The shares of whichever η of a fine grid comes nearest to the radius."""
    span = max(lacks.values()) - min(lacks.values())
    best, nearest = None, np.inf
    for eta in np.linspace(min(lacks.values()) - 20 * span, max(lacks.values()), 200_001)[:-1]:
        over = {tag: base[tag] * max(0.0, lacks[tag] - eta) for tag in base}
        total = sum(over.values())
        q = {tag: FLOOR * base[tag] + (1 - FLOOR) * over[tag] / total for tag in base}
        off = abs(distance(q, base) - radius)
        if off < nearest:
            best, nearest = q, off
    return best


@pytest.mark.parametrize("radius", [0.01, 0.1, 0.3])
def test_shares_are_those_of_a_search_over_all_thresholds(radius):
    found = shares_by_lack(BASE, LACKS, radius)

    assert found == pytest.approx(slow(BASE, LACKS, radius), abs=2e-4)
    assert distance(found, BASE) == pytest.approx(radius, rel=1e-6)


def test_shares_sum_to_one_keep_their_floor_and_do_not_hang_on_the_unit():
    found = shares_by_lack(BASE, LACKS, 0.1)
    other = shares_by_lack(BASE, {tag: 1000 * lack + 3 for tag, lack in LACKS.items()}, 0.1)

    assert sum(found.values()) == pytest.approx(1)
    assert all(found[tag] >= FLOOR * BASE[tag] - 1e-12 for tag in BASE)
    assert found["b"] > BASE["b"]
    assert found["c"] < BASE["c"]
    assert other == pytest.approx(found)


def test_what_lacks_most_gets_all_but_the_floor_where_no_threshold_reaches_the_radius():
    base, lacks = {"a": 0.5, "b": 0.25, "c": 0.25}, {"a": 0.1, "b": 0.1, "c": 0.0}

    found = shares_by_lack(base, lacks, 50.0)

    assert found == pytest.approx({"a": 0.95 * 2 / 3, "b": 0.95 / 3, "c": 0.05})


def test_nothing_changes_where_all_lack_the_same_or_there_is_one():
    assert shares_by_lack(BASE, dict.fromkeys(BASE, 0.2)) == BASE
    assert shares_by_lack({"a": 1.0}, {"a": 0.3}) == {"a": 1.0}


def test_a_language_without_a_share_gets_none():
    found = shares_by_lack({"a": 0.5, "b": 0.0, "c": 0.5}, {"a": 0.1, "b": 9.0, "c": 0.0})

    assert found["b"] == 0
    assert sum(found.values()) == pytest.approx(1)
