"""What is known of languages by their first documents, from tallies made by hand."""

import numpy as np
import pytest

from babelpress.errors import BadRun
from babelpress.judge.compare import compare
from babelpress.judge.evidence import holm
from babelpress.judge.kept import Draw
from babelpress.judge.known import BROKEN, KEPT, OPEN, First, rightly
from babelpress.numerics.sequential import LEAST, Steps, log_evidence
from babelpress.numerics.tally import Tally

N = 40


def tally(loss=0.0, seed=0, noise=0.02, extra=()):
    """A text of N documents and those of `extra`, which weigh nothing."""
    rng = np.random.default_rng(7)
    bytes_D = np.round(rng.lognormal(6, 0.7, N))
    bits_D = bytes_D * rng.uniform(1.1, 1.9, N)
    own_D = noise * np.random.default_rng(seed).standard_normal(N) if loss else np.zeros(N)
    names = (*(f"doc-{i:02}" for i in range(N)), *extra)
    nothing = np.zeros(len(extra))
    lost_D = bits_D * (1 + loss + own_D)
    return Tally(names, np.append(lost_D, nothing), np.append(bytes_D, nothing))


def first(loss, size, *, dense=None, **options):
    dense = dense or tally()
    pressed = tally(loss, **options)
    return First.of(
        "swh_Latn",
        dense,
        pressed.among(Draw.of(dense).order[:size]),
        lower_is_better=True,
    )


@pytest.mark.parametrize(("loss", "word"), [(0.001, KEPT), (0.12, BROKEN)])
def test_an_answer_comes_with_the_number_of_documents_that_it_took(loss, word):
    answers = [first(loss, size).answer(0.05, 12) for size in (12, 16, 20, 24, 28, 32)]

    assert answers[-1].word == word
    size = answers[-1].documents
    assert 12 <= size < 32
    known = [answer.word == word for answer in answers]
    assert known == [each >= size for each in (12, 16, 20, 24, 28, 32)]


def test_near_the_bound_nothing_is_known_until_all_is_scored_and_then_it_is_exact():
    truth = tally(0.05, noise=0.1)
    lost = truth.value / tally().value - 1

    assert first(0.05, 24, noise=0.1).answer(0.05, 1).word == OPEN
    whole = first(0.05, N, noise=0.1)
    assert whole.loss() == pytest.approx(lost)
    assert whole.answer(lost + 1e-9, 12) == (KEPT, N)
    assert whole.answer(lost - 1e-9, 12) == (BROKEN, N)


def test_more_languages_ask_for_more_before_one_is_said_to_lose():
    answers = [first(0.06, 32).answer(0.05, number) for number in (1, 12, 1000)]

    assert [answer.word for answer in answers] == [BROKEN] * 3
    one, some, many = (answer.documents for answer in answers)
    assert one < some < many


def test_limits_are_where_the_evidence_reaches_the_level():
    found = first(0.1, 20)
    low, high = found.limits()

    assert low < found.loss() < high
    for loss, sign in ((low, 1), (high, -1)):
        steps = Steps.of(found.pressed_T, found.dense_N, found.weight_N)
        step_T = sign * steps.at(1 + loss)
        assert log_evidence(step_T, [19])[0] == pytest.approx(np.log(2 / 0.05), abs=1e-3)
    assert found.p() < 0.05


def test_a_score_where_higher_is_better_loses_the_other_way_round():
    dense, pressed = tally(), tally(-0.12)
    order = Draw.of(dense).order[:24]

    found = First.of("x", dense, pressed.among(order), lower_is_better=False)

    assert found.loss() == pytest.approx(0.12, abs=0.02)
    assert found.limits()[0] < 0.12 < found.limits()[1]
    assert found.answer(0.05, 3).word == BROKEN
    assert found.answer(0.2, 3).word == KEPT


def test_documents_that_weigh_nothing_come_last_and_change_nothing():
    dense = tally(extra=("empty-1", "empty-2"))
    pressed = tally(0.01, extra=("empty-1", "empty-2"))
    order = Draw.of(dense).order

    assert {*order[-2:]} == {"empty-1", "empty-2"}
    assert Draw.of(dense).rounds() == [12, 16, 20, 24, 28, 32, 42]
    assert First.of("x", dense, pressed, lower_is_better=True).is_whole
    some = First.of("x", dense, pressed.among(order[:12]), lower_is_better=True)
    plain = first(0.01, 12)
    assert some.answer(0.05, 2) == plain.answer(0.05, 2)


def test_what_is_not_drawn_first_or_weighs_otherwise_is_refused():
    dense = tally()
    order = Draw.of(dense).order
    with pytest.raises(BadRun, match="not the first 12 that are drawn"):
        First.of("sw", dense, tally(0.1).among(order[1:13]), lower_is_better=True)
    other = tally(0.1).among(order[:12])
    other = Tally(other.documents, other.numerator_D, other.denominator_D + 1)
    with pytest.raises(BadRun, match="do not count the same"):
        First.of("sw", dense, other, lower_is_better=True)


def test_a_comparison_has_the_limits_and_p_values_of_the_sequence_in_such_languages():
    dense = {"swh_Latn": tally(), "eng_Latn": tally()}
    some = Draw.of(dense["swh_Latn"]).order[:LEAST]
    pressed = {"swh_Latn": tally(0.1).among(some), "eng_Latn": tally(0.02, seed=3)}
    part = first(0.1, LEAST)
    there = {"swh_Latn": dense["swh_Latn"].among(some), "eng_Latn": dense["eng_Latn"]}
    found = compare(there, pressed)

    read = rightly(found, {"swh_Latn": part})

    swahili, english = read.changes
    assert (swahili.low, swahili.high) == part.limits()
    assert swahili.p == part.p()
    assert english.low == found.changes[1].low
    assert [each.p_holm for each in read.changes] == holm([part.p(), english.p])
    assert swahili.documents == LEAST
    assert rightly(found, {}) is found
