"""Steps have the mean that they should, evidence is the mixture that it should be, levels hold."""

import math
from itertools import permutations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import chi, norm, skew, t

from babelpress.numerics.sequential import Steps, drawn, log_evidence, rounds
from benchmarks.quality.until import KINDS, drawn_text, told

ALPHA = 0.05


# ---- the draw ------------------------------------------------------------------------------


def test_a_document_is_drawn_first_as_often_as_its_share_of_the_weights():
    names, weight_N = ("a", "b", "c", "none"), np.array([1.0, 2.0, 5.0, 0.0])

    orders = [drawn(names, weight_N, seed) for seed in range(2000)]

    first = np.bincount([order[0] for order in orders], minlength=4) / 2000
    assert first == pytest.approx(weight_N / 8, abs=3 * math.sqrt(0.25 / 2000))
    assert all(order[3] == 3 for order in orders)


def test_the_order_hangs_on_names_weights_and_seed_alone():
    names, weight_N = ("flores/1", "flores/2", "flores/7"), np.array([3.0, 1.0, 2.0])
    order = [names[place] for place in drawn(names, weight_N)]

    turned = drawn(names[::-1], weight_N[::-1])

    assert [names[::-1][place] for place in turned] == order
    assert len({tuple(drawn(names, weight_N, seed)) for seed in range(40)}) > 3


def test_rounds_grow_and_end_with_all():
    assert list(rounds(50)) == [12, 16, 20, 24, 28, 32, 40, 48, 50]
    assert list(rounds(12)) == [12]
    assert list(rounds(5)) == [5]


# ---- steps ---------------------------------------------------------------------------------


def slow_steps(pressed, dense, weight, bound):
    """The formula of the docstring, one draw at a time."""
    found = []
    for i in range(1, len(pressed)):
        ratio = sum(pressed[:i]) / sum(dense[:i])
        own = (pressed[i] - ratio * dense[i]) / weight[i]
        found.append(own + (ratio - bound) * sum(dense) / sum(weight[i:]))
    return found


def test_steps_are_those_of_a_loop_for_some_documents_and_many_languages():
    rng = np.random.default_rng(3)
    dense_LN, weight_LN = rng.uniform(1, 9, (2, 3, 7))
    pressed_LT = dense_LN[:, :5] * rng.uniform(0.9, 1.4, (3, 5))

    steps = Steps.of(pressed_LT, dense_LN, weight_LN)

    for language in range(3):
        pressed, dense, weight = (
            part[language].tolist() for part in (pressed_LT, dense_LN, weight_LN)
        )
        expected = slow_steps(pressed, dense, weight, 1.05)
        assert steps.at(1.05)[language].tolist() == pytest.approx(expected)


def test_given_what_came_before_a_step_has_exactly_the_mean_of_the_whole():
    rng = np.random.default_rng(5)
    dense_N, weight_N = rng.uniform(1, 9, (2, 5))
    pressed_N = dense_N * rng.uniform(0.5, 2.5, 5)
    excess = pressed_N.sum() - 1.3 * dense_N.sum()

    for past in permutations(range(5), 3):
        rest = [place for place in range(5) if place not in past]
        mean = 0.0
        for place in rest:
            order = [*past, place, *(each for each in rest if each != place)]
            steps = Steps.of(pressed_N[order][:4], dense_N[order], weight_N[order])
            mean += weight_N[place] / weight_N[rest].sum() * steps.at(1.3)[-1]
        assert mean == pytest.approx(excess / weight_N[rest].sum())


def test_a_model_that_loses_as_much_everywhere_is_known_to():
    dense_N = np.array([5.0, 1, 7, 2, 3, 9, 4, 6, 8, 5, 5, 2])
    steps = Steps.of(1.2 * dense_N[:9], dense_N, dense_N)

    assert steps.middle() == pytest.approx(1.2)
    assert steps.upper(0.025) == pytest.approx(1.2, abs=1e-6)
    assert steps.lower(0.025) == pytest.approx(1.2, abs=1e-6)


# ---- evidence ------------------------------------------------------------------------------


def slow_evidence(steps):
    """The mixture by integrals: over means of half of N(0, 1/4), and over deviations by chi."""
    size, lean = len(steps), sum(steps) / math.sqrt(sum(x * x for x in steps))

    def ratio(mean):
        def at(w):
            return math.exp(mean * lean * w - size * mean**2 / 2) * chi.pdf(w, size)

        return quad(at, 0, 30)[0]

    return quad(lambda mean: 2 * norm.pdf(mean, scale=0.5) * ratio(mean), 0, 6)[0]


@pytest.mark.parametrize("steps", [[2.0], [-0.2, 0.1, -0.3, 0.9], [1, 1, 1.5, 1]])
def test_evidence_is_the_mixture_where_skewness_does_not_speak_against(steps):
    found = log_evidence(np.array(steps, dtype=float), [len(steps)])

    assert math.exp(found[0]) == pytest.approx(slow_evidence(steps), rel=1e-4)


def test_a_long_tail_on_the_other_side_is_corrected_for_as_hall_does():
    step_T = np.array([0.5, 0.7, 0.6, 0.8, -0.9, 0.6, 0.7])
    size = len(step_T)
    lean = step_T.mean() / (step_T.std() / math.sqrt(size))
    k = skew(step_T, bias=False) / math.sqrt(size)
    corrected = lean + k * lean**2 / 3 + k**2 * lean**3 / 27 + k / 6
    share = size / (size + 4)
    c2 = corrected**2 / (size + corrected**2) * share
    tail = t.cdf(math.copysign(math.sqrt(size * c2 / (1 - c2)), corrected), size)
    expected = math.log(2 * tail) - math.log1p(size / 4) / 2 - size * math.log1p(-c2) / 2

    found = log_evidence(step_T, [3, size])

    assert k < 0
    assert found[1] == pytest.approx(expected)
    assert found[0] == pytest.approx(log_evidence(step_T[:3], [3])[0])


def test_a_long_tail_on_its_own_side_is_no_evidence_more():
    step_T = np.array([0.5, 0.7, 0.6, 0.8, 2.9, 0.6, 0.7])

    assert math.exp(log_evidence(step_T, [7])[0]) == pytest.approx(slow_evidence(step_T.tolist()))


def test_steps_that_are_all_zero_speak_for_nothing():
    assert log_evidence(np.zeros(9), [9])[0] < 0


# ---- levels --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_thousand_runs_at_the_bound_few_are_said_to_be_above_or_below(kind):
    """All 12 languages lose exactly what they may: the hardest case for each of the two words."""
    known = told(drawn_text(kind, 1000, 12, 60, 0.0, seed=11), 60)

    assert (known.broken_RL < 60).any(1).mean() <= ALPHA
    assert (known.kept_RL[:, 0] < 60).mean() <= ALPHA


def test_the_level_holds_for_31_languages_at_once():
    known = told(drawn_text("heavy", 1000, 31, 40, 0.0, seed=12), 40)

    assert (known.broken_RL < 40).any(1).mean() <= ALPHA


def test_far_from_the_bound_a_part_of_the_documents_is_enough():
    below = told(drawn_text("heavy", 100, 4, 120, -0.05, seed=13), 120)
    above = told(drawn_text("heavy", 100, 4, 120, 0.05, seed=14), 120)

    assert below.kept_RL.mean() < 120 / 4
    assert above.broken_RL.mean() < 120 / 4
    assert (below.broken_RL == 120).all()
    assert (above.kept_RL == 120).all()
