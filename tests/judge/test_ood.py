"""Losses on two corpora, against a slow bootstrap of each."""

import numpy as np
import pytest

from babelpress.judge.compare import compare
from babelpress.judge.ood import Scores, apart
from babelpress.numerics.tally import Tally


def scores(losses, *, documents, seed, prefix):
    """A dense and a pressed model on a corpus of so many documents."""
    rng = np.random.default_rng(seed)
    dense, pressed = {}, {}
    for tag, loss in losses.items():
        names = tuple(f"{prefix}/{i:02d}" for i in range(documents))
        size = rng.integers(50, 400, documents).astype(float)
        bits = size * rng.uniform(1, 3, documents)
        dense[tag] = Tally(names, bits, size)
        pressed[tag] = Tally(names, bits * (1 + loss + rng.normal(0, 0.03, documents)), size)
    return Scores(dense, pressed)


INSIDE = scores({"eng_Latn": 0.02, "swh_Latn": 0.05}, documents=11, seed=1, prefix="news")
OUTSIDE = scores(
    {"swh_Latn": 0.19, "eng_Latn": 0.02, "hin_Deva": 0.1}, documents=11, seed=2, prefix="talk"
)


def slow_losses(both, tag, draws, seed):
    rng = np.random.default_rng([seed, 0])
    size = len(both.dense[tag].documents)
    found = []
    for counts in rng.multinomial(size, [1 / size] * size, size=draws):
        sums = [0.0] * 4
        for times, i in zip(counts, range(size), strict=True):
            sums[0] += times * both.pressed[tag].numerator_D[i]
            sums[1] += times * both.pressed[tag].denominator_D[i]
            sums[2] += times * both.dense[tag].numerator_D[i]
            sums[3] += times * both.dense[tag].denominator_D[i]
        found.append((sums[0] / sums[1]) / (sums[2] / sums[3]) - 1)
    return np.array(found)


def test_every_difference_equals_a_slow_bootstrap_of_independent_samples():
    found = {each.language: each for each in apart(INSIDE, OUTSIDE, draws=160, seed=5)}

    assert list(found) == ["eng_Latn", "swh_Latn", None]
    here = {c.language: c.change for c in compare(INSIDE.dense, INSIDE.pressed).changes}
    there = {c.language: c.change for c in compare(OUTSIDE.dense, OUTSIDE.pressed).changes}
    drawn = {}
    for tag in ("eng_Latn", "swh_Latn"):
        one = found[tag]
        assert (one.inside, one.outside) == pytest.approx((here[tag], there[tag]))
        assert one.change == pytest.approx(there[tag] - here[tag])
        drawn[tag] = slow_losses(OUTSIDE, tag, 160, 6) - slow_losses(INSIDE, tag, 160, 5)
        assert (one.low, one.high) == pytest.approx(tuple(np.percentile(drawn[tag], [2.5, 97.5])))
    both = (drawn["eng_Latn"] + drawn["swh_Latn"]) / 2
    assert (found[None].low, found[None].high) == pytest.approx(
        tuple(np.percentile(both, [2.5, 97.5]))
    )
    assert found[None].outside == pytest.approx((there["eng_Latn"] + there["swh_Latn"]) / 2)


def test_what_is_lost_elsewhere_alone_is_found():
    found = {each.language: each for each in apart(INSIDE, OUTSIDE)}

    assert found["swh_Latn"].low > 0.08
    assert found["eng_Latn"].low < 0 < found["eng_Latn"].high


def test_a_language_at_chance_or_on_one_corpus_has_no_difference():
    floors = {"eng_Latn": 9.0}

    tags = [e.language for e in apart(Scores(INSIDE.dense, INSIDE.pressed, floors), OUTSIDE)]
    none = apart(INSIDE, scores({"tha_Thai": 0.1}, documents=9, seed=3, prefix="talk"))

    assert tags == ["swh_Latn", None]
    assert none == ()
