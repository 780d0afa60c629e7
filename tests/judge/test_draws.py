"""How many draws a comparison takes: enough for Holm's correction, by the number of languages."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from babelpress.errors import BadSetting
from babelpress.judge.compare import ALPHA, DRAWS, compare, draws_for
from babelpress.numerics.tally import Tally
from babelpress.text.languages import all_languages

LEVEL = Fraction(str(ALPHA))


def tallies(number, factor=1.0):
    """Scores in so many languages on the same 40 documents; every document is `factor` times."""
    tags = [each.tag for each in all_languages()][:number]
    bits_D = np.random.default_rng(0).uniform(100, 400, 40)
    names = tuple(f"doc/{i}" for i in range(40))
    return {tag: Tally(names, bits_D * factor, np.full(40, 200.0)) for tag in tags}


def test_draws_are_the_usual_ones_until_languages_need_more():
    assert draws_for(1) == draws_for(50) == DRAWS == 2000
    assert draws_for(51) == 2040
    assert draws_for(200) == 8000


def test_the_draws_that_are_needed_leave_room_for_a_difference_and_one_less_does_not():
    """The least p-value is 2 / (draws + 1), times the number of languages after Holm."""
    for number in range(1, 300):
        needed = next(n for n in itertools.count(1) if Fraction(2 * number, n + 1) < LEVEL)

        assert draws_for(number, needed) == needed
        assert draws_for(number) == max(DRAWS, needed)
        with pytest.raises(BadSetting, match=f"at least {needed} with --draws"):
            draws_for(number, needed - 1 or -1)


def test_what_is_asked_for_is_taken_where_it_is_enough():
    assert draws_for(4, 160) == 160
    assert draws_for(4, 10_000) == 10_000
    assert draws_for(60, 2400) == 2400


def test_too_few_are_refused_with_what_would_do():
    with pytest.raises(BadSetting) as caught:
        draws_for(60, 2000)

    assert str(caught.value) == (
        "2000 draws cannot show a difference in 60 languages after Holm's correction. "
        "Give at least 2400 with --draws."
    )


@pytest.mark.parametrize("number", [50, 51, 90])
def test_comparing_many_languages_finds_a_clear_difference_in_each(number):
    found = compare(tallies(number), tallies(number, 1.2))

    assert len(found.changes) == number
    assert found.draws == max(DRAWS, 40 * number)
    assert all(change.verdict == "worse" for change in found.changes)
