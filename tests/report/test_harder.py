"""Tables of easy and hard documents, and of text from elsewhere."""

from dataclasses import replace

import pytest

from babelpress.judge.buckets import NAMES, Bucket
from babelpress.judge.ood import Apart
from babelpress.report import harder
from babelpress.report.page import render

THIRDS = tuple(
    Bucket(name, tag, at / 10 + more, at / 10 - 0.01 + more, at / 10 + 0.02 + more, 5 - at)
    for tag, more in (("tha_Thai", 0.5), ("eng_Latn", 0.0), (None, 0.25))
    for at, name in enumerate(NAMES)
)
ELSEWHERE = (
    Apart("eng_Latn", 0.02, 0.05, 0.03, 0.01, 0.06),
    Apart(None, 0.02, 0.05, 0.03, 0.01, 0.06),
)


@pytest.fixture
def given(sample):
    """Three models, of which the first has thirds and the second a second corpus."""
    first, second, third = sample.pressed
    pressed = (replace(first, thirds=THIRDS), replace(second, elsewhere=ELSEWHERE), third)
    return replace(sample, pressed=pressed, ood="talk")


def test_thirds_have_a_line_for_each_model_and_one_for_each_language(given):
    found = harder.thirds(given)

    assert found is not None
    assert found.columns == ("easy", "middle", "hard")
    ((name, means),) = found.means
    assert name == "english"
    assert means[2] == ("+45.0\u202f%", "+44.0\u202f% to +47.0\u202f%")
    ((_, lines),) = found.models
    languages = [name for name, _ in lines]
    assert languages[0] == harder.MEAN
    assert set(languages[1:]) == {"Thai", "English"}
    assert dict(lines)["Thai"][0][0] == "+50.0\u202f%"


def test_a_third_that_a_language_lacks_is_a_dash(given):
    first, *others = given.pressed
    short = replace(first, thirds=THIRDS[1:])

    found = harder.thirds(replace(given, pressed=(short, *others)))

    assert found is not None
    assert dict(found.models[0][1])["Thai"][0] == ("\u2013", "")


def test_a_second_corpus_stands_beside_the_first_with_the_difference(given):
    found = harder.elsewhere(given)

    assert found is not None
    assert found.means == (
        (
            "proportional",
            (
                ("+2.0\u202f%", ""),
                ("+5.0\u202f%", ""),
                ("+3.0\u202f%", "+1.0\u202f% to +6.0\u202f%"),
            ),
        ),
    )


def test_without_either_there_is_no_such_table(sample):
    assert harder.thirds(sample) is None
    assert harder.elsewhere(sample) is None


def test_numbers_are_unrounded(given):
    assert [row["change"] for row in harder.numbers(given)] == [each.change for each in THIRDS]
    assert [row["more"] for row in harder.numbers_elsewhere(given)] == [0.03, 0.03]


def test_the_page_has_both_tables_and_names_the_corpus(given):
    page = render(given)

    assert 'id="thirds"' in page
    assert 'id="elsewhere"' in page
    assert '<bdi dir="auto">talk</bdi>' in page
    assert 'download="thirds.csv"' in page
    assert 'download="elsewhere.csv"' in page
