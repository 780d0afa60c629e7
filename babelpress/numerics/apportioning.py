"""Whole numbers in proportion to others, with an exact sum.

Tested in tests/numerics/test_apportioning.py and tests/text/test_mixtures.py.
"""

import math
from collections.abc import Mapping
from fractions import Fraction


def by_largest_remainder(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Of shares that sum to one: each is rounded down, and the largest remainders get one more."""
    exact = {name: share * total for name, share in shares.items()}
    found = {name: int(each) for name, each in exact.items()}
    by_rest = sorted(exact, key=lambda name: found[name] - exact[name])
    for name in by_rest[: total - sum(found.values())]:
        found[name] += 1
    return found


def one_at_least(values: Mapping[str, float], total: int) -> dict[str, int]:
    """Of values of any size, `total` being no fewer than there are; ties go to the first.

    A surplus is taken one by one from whatever has most at that moment; a shortfall is given by
    largest remainder.
    """
    # Fractions, because floor(N d / Σ d) must not depend on rounding.
    whole = sum(map(Fraction, values.values()))
    exact = {name: total * Fraction(value) / whole for name, value in values.items()}
    counts = {name: max(1, math.floor(quota)) for name, quota in exact.items()}
    while sum(counts.values()) > total:
        counts[max(counts, key=lambda name: (counts[name], exact[name]))] -= 1
    shortfall = total - sum(counts.values())
    for name in sorted(counts, key=lambda name: counts[name] - exact[name])[:shortfall]:
        counts[name] += 1
    return counts
