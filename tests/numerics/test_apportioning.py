"""Whole numbers that sum up: against all others that do."""

from itertools import product

import numpy as np
import pytest

from babelpress.numerics.apportioning import by_largest_remainder, one_at_least


def test_shares_become_whole_numbers():
    assert by_largest_remainder({"a": 0.5, "b": 0.3, "c": 0.2}, 9) == {"a": 4, "b": 3, "c": 2}
    assert by_largest_remainder({"a": 1.0, "b": 0.0}, 5) == {"a": 5, "b": 0}


@pytest.mark.parametrize("seed", range(8))
def test_no_other_whole_numbers_are_nearer_to_the_shares(seed):
    shares = np.random.default_rng(seed).dirichlet([1.0, 1.0, 1.0])
    found = by_largest_remainder(dict(zip("abc", shares.tolist(), strict=True)), 7)

    def off(counts):
        return sum((count - 7 * share) ** 2 for count, share in zip(counts, shares, strict=True))

    others = [each for each in product(range(8), repeat=3) if sum(each) == 7]
    assert sum(found.values()) == 7
    assert off(found.values()) == pytest.approx(min(map(off, others)))


def test_each_has_one_at_least():
    assert one_at_least({"a": 1000.0, "b": 1.0, "c": 1.0}, 5) == {"a": 3, "b": 1, "c": 1}
