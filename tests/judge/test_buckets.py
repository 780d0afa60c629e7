"""Thirds of documents against a slow parting of made-up ones."""

import numpy as np
import pytest

from babelpress.judge.buckets import EASY, HARD, MIDDLE, NAMES, buckets
from babelpress.numerics.tally import Tally

SIZES = {"eng_Latn": 13, "yor_Latn": 13, "hin_Deva": 13}


def pair(sizes=SIZES, seed=2, prefix=lambda _tag: "doc"):
    """Two models whose losses grow with how hard a document is to the first."""
    rng = np.random.default_rng(seed)
    dense, pressed = {}, {}
    for tag, count in sizes.items():
        names = tuple(f"{prefix(tag)}/{i:02d}" for i in rng.permutation(count))
        size = rng.integers(40, 300, count).astype(float)
        hard = rng.uniform(1, 3, count)
        dense[tag] = Tally(names, size * hard, size)
        pressed[tag] = Tally(names, size * hard * (0.9 + 0.1 * hard), size)
    return dense, pressed


def slow_thirds(dense, *, lower=True):
    """Ids of each third, the longer ones first."""
    scores = {
        name: (n / d if lower else -n / d)
        for name, n, d in zip(dense.documents, dense.numerator_D, dense.denominator_D, strict=True)
        if d > 0
    }
    order = sorted(scores, key=lambda name: (scores[name], name))
    size, more = divmod(len(order), 3)
    ends = [0]
    for place in range(3):
        ends.append(ends[-1] + size + (place < more))
    return {name: order[ends[i] : ends[i + 1]] for i, name in enumerate(NAMES)}


def slow_loss(dense, pressed, times, *, lower=True):
    """The loss of documents taken so many times each."""
    sums = [0.0] * 4
    for name, count in times.items():
        i, j = dense.documents.index(name), pressed.documents.index(name)
        sums[0] += count * pressed.numerator_D[j]
        sums[1] += count * pressed.denominator_D[j]
        sums[2] += count * dense.numerator_D[i]
        sums[3] += count * dense.denominator_D[i]
    ratio = (sums[0] / sums[1]) / (sums[2] / sums[3])
    return ratio - 1 if lower else 1 - ratio


@pytest.mark.parametrize("lower", [True, False])
def test_every_third_equals_a_slow_count_on_the_same_draws(lower):
    dense, pressed = pair()

    found = buckets(dense, pressed, lower_is_better=lower, draws=130, seed=6)

    rng = np.random.default_rng([6, 0])  # 0 is the checksum of the stream without a name
    drawn = rng.multinomial(13, [1 / 13] * 13, size=130)
    ids = sorted(dense["eng_Latn"].documents)
    by_name = {(each.name, each.language): each for each in found}
    assert len(found) == len(by_name) == 3 * 4
    mean_R = {name: np.zeros(130) for name in NAMES}
    for tag in SIZES:
        parts = slow_thirds(dense[tag], lower=lower)
        assert [len(part) for part in parts.values()] == [5, 4, 4]
        for name, part in parts.items():
            one = by_name[name, tag]
            loss = slow_loss(dense[tag], pressed[tag], dict.fromkeys(part, 1), lower=lower)
            assert one.change == pytest.approx(loss)
            assert one.documents == len(part)
            losses = []
            for counts in drawn:
                times = {n: c for n, c in zip(ids, counts, strict=True) if n in part and c}
                known = times and slow_loss(dense[tag], pressed[tag], times, lower=lower)
                losses.append(known if times else np.nan)
            low, high = np.nanpercentile(losses, [2.5, 97.5])
            assert (one.low, one.high) == pytest.approx((low, high))
            mean_R[name] += np.array(losses) / 3
    for name in NAMES:
        mean = by_name[name, None]
        own = [by_name[name, tag] for tag in SIZES]
        assert mean.change == pytest.approx(sum(each.change for each in own) / 3)
        assert mean.documents == sum(each.documents for each in own)
        assert (mean.low, mean.high) == pytest.approx(
            tuple(np.nanpercentile(mean_R[name], [2.5, 97.5]))
        )


def test_what_is_hard_to_the_dense_model_loses_more_where_it_is_made_so():
    found = {each.name: each for each in buckets(*pair()) if each.language is None}

    assert found[EASY].high < found[MIDDLE].change < found[HARD].low


def test_where_higher_is_better_the_best_documents_are_easy():
    names = tuple("abcdefghi")
    dense = {"eng_Latn": Tally(names, np.arange(1.0, 10.0), np.full(9, 10.0))}
    lost = np.arange(1.0, 10.0)
    lost[:3] /= 2

    found = buckets(
        dense, {"eng_Latn": Tally(names, lost, np.full(9, 10.0))}, lower_is_better=False
    )

    changes = {each.name: each.change for each in found if each.language}
    assert changes == pytest.approx({EASY: 0.0, MIDDLE: 0.0, HARD: 0.5})


@pytest.mark.parametrize("size", [8, 9])
def test_few_documents_have_no_thirds(size):
    found = buckets(*pair({"eng_Latn": size}))

    assert bool(found) == (size == 9)


def test_documents_that_are_right_or_wrong_have_no_thirds_and_others_have():
    dense, pressed = pair({"eng_Latn": 12, "yor_Latn": 12})
    names = dense["yor_Latn"].documents
    binary = Tally(names, np.array([1.0, 0.0] * 6), np.ones(12))
    dense["yor_Latn"] = pressed["yor_Latn"] = binary

    found = buckets(dense, pressed)

    assert {each.language for each in found} == {"eng_Latn", None}


def test_documents_that_count_nothing_are_in_no_third():
    names = tuple(f"{i:02d}" for i in range(12))
    size = np.array([0.0, 0.0] + [10.0] * 10)
    bits = np.array([0.0, 0.0, *np.arange(10.0, 20.0)])
    one = Tally(names, bits, size)

    found = buckets({"eng_Latn": one}, {"eng_Latn": one})

    assert [each.documents for each in found if each.language] == [4, 3, 3]
