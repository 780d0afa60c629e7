"""Differences of two models in their worst languages, against plain loops over the same draws."""

import numpy as np
import pytest

from babelpress.judge.compare import compare
from babelpress.judge.contest import difference, difference_of_means, entrant
from babelpress.judge.pairs import counts
from babelpress.numerics.tally import Tally

DOCUMENTS = 12
DRAWS = 400


def tallies(seed, factor=1.0, languages=("swh_Latn", "hin_Deva", "tha_Thai")):
    """Scores of the same documents: nats that grow by a factor, over bytes."""
    rng = np.random.default_rng(0)
    base = rng.gamma(4.0, 25.0, (len(languages), DOCUMENTS))
    sizes = rng.integers(50, 400, (len(languages), DOCUMENTS)).astype(float)
    noise = 1 + 0.03 * np.random.default_rng(seed).standard_normal(base.shape)
    names = tuple(f"d{number}" for number in range(DOCUMENTS))
    grown = base * noise * factor if seed else base
    return {tag: Tally(names, grown[row], sizes[row]) for row, tag in enumerate(languages)}


DENSE = tallies(0)


def losses(pressed, counts_D):
    """The loss of every language in one draw, document by document."""
    found = []
    for tag, dense in DENSE.items():
        sums = [0.0, 0.0]
        for place, many in enumerate(counts_D):
            sums[0] += many * pressed[tag].numerator_D[place]
            sums[1] += many * dense.numerator_D[place]
        found.append(sums[0] / sums[1] - 1)
    return found


def sorted_ids(draws):
    """Draws of documents, which pairs keep in the order of their ids."""
    names = [f"d{number}" for number in range(DOCUMENTS)]
    order = sorted(range(DOCUMENTS), key=names.__getitem__)
    back = np.argsort(order)
    return counts(DOCUMENTS, draws, 0, "")[:, back]


def test_an_entrant_loses_what_a_comparison_says():
    pressed = tallies(1, 1.1)

    found = entrant(DENSE, pressed, draws=DRAWS)

    known = {each.name: each for each in compare(DENSE, pressed, draws=DRAWS).summaries}
    assert (found.worst, found.language) == (known["worst"].value, known["worst"].language)
    assert found.mean == pytest.approx(known["mean"].value)
    assert found.interval == pytest.approx((known["worst"].low, known["worst"].high))
    assert found.documents == DOCUMENTS


@pytest.mark.parametrize(("factor", "other"), [(1.1, 1.1), (1.12, 1.1), (1.1, 1.3)])
def test_a_difference_is_that_of_worst_losses_in_the_same_draws(factor, other):
    one, two = tallies(1, factor), tallies(2, other)

    found = difference(entrant(DENSE, one, draws=DRAWS), entrant(DENSE, two, draws=DRAWS))

    drawn = [max(losses(one, d)) - max(losses(two, d)) for d in sorted_ids(DRAWS)]
    value = max(losses(one, np.ones(DOCUMENTS))) - max(losses(two, np.ones(DOCUMENTS)))
    assert found.value == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    beyond = sum(each <= 0 if value > 0 else each >= 0 for each in drawn)
    assert found.p == pytest.approx(min(1.0, max(2 * (beyond + 1) / (DRAWS + 1), 2**-11)))
    assert found.known == ((found.low > 0 or found.high < 0) and found.p < 0.05)


def test_a_difference_of_means_is_that_of_mean_losses():
    one, two = tallies(1, 1.2), tallies(2, 1.1)

    found = difference_of_means(entrant(DENSE, one, draws=DRAWS), entrant(DENSE, two, draws=DRAWS))

    drawn = [np.mean(losses(one, d)) - np.mean(losses(two, d)) for d in sorted_ids(DRAWS)]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    assert found.known and found.value > 0


def test_a_model_differs_in_nothing_from_itself():
    one = entrant(DENSE, tallies(1, 1.1), draws=DRAWS)

    found = difference(one, one)

    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)
    assert not found.known


def test_what_is_equally_hard_for_both_does_not_widen_a_difference():
    """Documents lose unlike shares, the same ones in both models; one is worse by little."""
    rng = np.random.default_rng(5)
    share_D = 1 + rng.uniform(0, 0.6, DOCUMENTS)

    def pressed(more):
        return {
            tag: Tally(each.documents, each.numerator_D * share_D * more, each.denominator_D)
            for tag, each in DENSE.items()
        }

    one, two = entrant(DENSE, pressed(1.01)), entrant(DENSE, pressed(1.0))
    found = difference(one, two)

    assert found.known
    assert found.high - found.low < 0.2 * (one.interval[1] - one.interval[0])


def test_in_few_documents_no_difference_is_known_whatever_the_draws_say():
    """Five documents that all agree have p = 2^-4."""
    few = slice(0, 5)

    def first(tallies):
        return {
            tag: Tally(each.documents[few], each.numerator_D[few], each.denominator_D[few])
            for tag, each in tallies.items()
        }

    one, two = (entrant(first(DENSE), first(tallies(1, factor))) for factor in (1.5, 1.1))
    found = difference(one, two)

    assert found.low > 0 and found.p == 2**-4
    assert not found.known
