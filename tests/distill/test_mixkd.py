"""MixKD's losses against plain floats, and the pairs that it draws."""

import numpy as np
import pytest
from distilling import assert_is, kl, mean, supervised

from babelpress.distill.mixkd import loss, mixed_loss, pairing

LANGUAGES = ["swh_Latn"] * 5 + ["yor_Latn"] * 3


def test_of_plain_text_it_is_the_cross_entropy():
    assert_is(loss, lambda student, _: supervised(student))


@pytest.mark.parametrize("distance", ["mse", "kl"])
def test_of_mixed_text_it_is_the_formula_and_so_is_its_slope(distance):
    def apart(row, other):
        if distance == "kl":
            return kl(other, row)
        return mean((a - b) ** 2 for a, b in zip(row, other, strict=True))

    def slow(student, teacher):
        taught = mean(apart(s, t) for s, t in zip(student, teacher, strict=True))
        return 0.3 * supervised(student) + 2.0 * taught

    assert_is(lambda *given: mixed_loss(*given, a_sm=0.3, a_tm=2.0, distance=distance), slow)


def test_pairs_are_of_two_languages_or_of_one():
    met = {True: set(), False: set()}
    for across in met:
        for seed in range(20):
            found = pairing(LANGUAGES, np.random.default_rng(seed), across=across)
            assert sorted(found.partner_B) == list(range(len(LANGUAGES)))
            met[across] |= {
                (LANGUAGES[b], LANGUAGES[other]) for b, other in enumerate(found.partner_B)
            }

    assert len(met[True]) == 4
    assert met[False] == {("swh_Latn", "swh_Latn"), ("yor_Latn", "yor_Latn")}


def test_shares_are_of_a_beta_distribution():
    draw = np.random.default_rng(0)
    shares = pairing(LANGUAGES * 2000, draw, concentration=0.4).share_B

    assert shares.min() >= 0
    assert shares.max() <= 1
    assert shares.mean() == pytest.approx(0.5, abs=0.01)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.03)
    same = pairing(LANGUAGES, np.random.default_rng(3)).share_B
    assert np.array_equal(same, pairing(LANGUAGES, np.random.default_rng(3)).share_B)
