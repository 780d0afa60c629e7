"""Squared differences of logits against plain floats."""

import pytest
from distilling import assert_is, mean, supervised

from babelpress.distill.logits import loss


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_it_is_the_formula_and_so_is_its_slope(alpha):
    def slow(student, teacher):
        apart = mean(
            (a - b) ** 2
            for row, other in zip(student, teacher, strict=True)
            for a, b in zip(row, other, strict=True)
        )
        return alpha * supervised(student) + (1 - alpha) * apart

    assert_is(lambda *given: loss(*given, alpha=alpha), slow)
