"""How many draws and documents a comparison takes, by the number of languages."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binomtest

from babelpress.errors import BadSetting
from babelpress.judge.compare import NO_DIFFERENCE, compare, untold
from babelpress.judge.evidence import ALPHA, DRAWS, draws_for, mcnemar, needed_documents
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


# ---- documents -----------------------------------------------------------------------------


def of_sizes(*sizes, factor=1.0, apart=False):
    """Scores in a language for each size, on so many documents, each of them `factor` times."""
    found = {}
    for number, (known, size) in enumerate(zip(all_languages(), sizes, strict=False)):
        names = tuple(f"{number if apart else 0}/{i}" for i in range(size))
        bits_D = np.random.default_rng(number).uniform(100, 400, size)
        found[known.tag] = Tally(names, bits_D * factor, np.full(size, 200.0))
    return found


def findings(*sizes, **how):
    """What is said of every language where all documents of all of them got worse alike."""
    found = compare(of_sizes(*sizes, **how), of_sizes(*sizes, factor=1.2, **how))
    return [change.finding for change in found.changes]


def slow_needed(place, sizes):
    """The least number of documents with which a language is found to be worse.

    Those that have no more than it get as many.
    """
    for size in range(1, 40):
        tried = [size if there <= sizes[place] else there for there in sizes]
        if findings(*tried, apart=True)[place] == "worse":
            return size
    raise AssertionError


@pytest.mark.parametrize("languages", [1, 2, 3, 7, 31, 50])
def test_so_many_documents_are_needed_as_it_takes_to_find_what_all_agree_on(languages):
    needed = next(n for n in range(1, 40) if "worse" in findings(*[n] * languages))

    for size in (1, 4, needed - 1, needed, needed + 1, 40):
        found = compare(of_sizes(*[size] * languages), of_sizes(*[size] * languages, factor=1.2))
        assert {change.needed for change in found.changes} == {needed}
        assert {change.documents for change in found.changes} == {size}
        words = (
            "worse" if size >= needed else f"too few documents to tell ({size}; at least {needed})"
        )
        assert {change.verdict for change in found.changes} == {words}


@pytest.mark.parametrize("sizes", [(4, 30), (5, 4, 40), (6, 6, 6, 40), (7, 5, 9, 3, 60)])
def test_languages_of_different_sizes_need_what_holm_leaves_them(sizes):
    found = compare(of_sizes(*sizes, apart=True), of_sizes(*sizes, factor=1.2, apart=True))

    assert [c.needed for c in found.changes] == [slow_needed(n, sizes) for n in range(len(sizes))]
    for change, size in zip(found.changes, sizes, strict=True):
        assert change.too_few == (size < change.needed) == (change.verdict != "worse")


def test_more_languages_need_more_documents_and_draws_are_never_what_lacks():
    for number in range(1, 200, 7):
        draws = draws_for(number)
        needed = needed_documents([3] * number, draws)

        assert needed == [next(n for n in range(1, 40) if number * 2.0 ** (1 - n) < ALPHA)] * number


def test_documents_enough_that_do_not_agree_are_no_difference_and_not_too_few():
    mixed = {
        tag: Tally(each.documents, each.numerator_D * np.tile([0.8, 1.25], 6), each.denominator_D)
        for tag, each in of_sizes(12, 12).items()
    }

    found = compare(of_sizes(12, 12), mixed)

    assert [change.verdict for change in found.changes] == [NO_DIFFERENCE] * 2


def test_several_languages_are_spoken_of_together():
    found = compare(
        of_sizes(3, 5, 40, apart=True), of_sizes(3, 5, 40, factor=1.2, apart=True)
    ).changes

    assert untold(found[:2]) == "too few documents to tell (3 to 5; at least 7)"
    assert untold(found[:1]) == found[0].verdict == "too few documents to tell (3; at least 7)"


def test_mcnemars_exact_test_is_the_binomial_one_for_all_small_tables():
    for lost in range(26):
        for gained in range(26):
            expected = binomtest(lost, lost + gained, 0.5).pvalue if lost + gained else 1.0
            assert mcnemar(lost, gained) == pytest.approx(expected, rel=1e-12)


def test_mcnemars_exact_test_holds_for_thousands_of_documents():
    assert mcnemar(2600, 2400) == pytest.approx(binomtest(2400, 5000, 0.5).pvalue, rel=1e-9)
    assert mcnemar(5000, 0) == 0.0
