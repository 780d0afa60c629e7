"""What is kept of written text: each reason by hand, and that the first that holds is named."""

import pytest

from babelpress.text.synthetic import REASONS, sift, variety

GOOD = "mvua inanyesha leo asubuhi mjini"
TEXTS = [
    GOOD,
    "fupi",
    "la la la la la la la la la la la la",
    "this is not in the language at all",
    "  mvua  inanyesha leo asubuhi mjini ",
    "watoto wanacheza mpira uwanjani sasa",
    "",
    "mti mkubwa ulianguka barabarani jana",
]


def instead(text):
    return "eng" if text.startswith("this") else ""


def test_every_reason_is_counted_and_the_rest_stays_in_order():
    found = sift(TEXTS, least=10, instead=instead, apart={"watoto wanacheza mpira uwanjani sasa"})

    assert found.kept == [GOOD, TEXTS[-1]]
    assert found.dropped == {"short": 2, "repeats": 1, "foreign": 1, "duplicate": 1, "known": 1}
    assert tuple(found.dropped) == REASONS
    assert len(found.kept) + sum(found.dropped.values()) == len(TEXTS)


def test_nothing_is_dropped_of_text_that_has_nothing_wrong_with_it():
    found = sift(TEXTS[:1], least=0, instead=lambda _: "")

    assert found.kept == [GOOD]
    assert set(found.dropped.values()) == {0}


@pytest.mark.parametrize(
    ("text", "runs", "distinct"),
    [("abcabc", 4, 3), ("aaaaaaaa", 6, 1), ("abcdef", 4, 4), ("สวัสดีค่ะ", 7, 7)],
)
def test_variety_is_a_share_of_runs(text, runs, distinct):
    assert variety(text) == pytest.approx(distinct / runs)


def test_text_too_short_to_repeat_does_not():
    assert variety("ab") == variety("") == 1.0
