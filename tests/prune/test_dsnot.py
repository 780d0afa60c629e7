"""DSnoT against its definition, as plain loops over rows, cycles and weights."""

import math

import pytest
import torch

from babelpress.errors import BadMoments, BadSetting
from babelpress.moments.accumulator import Accumulator
from babelpress.moments.blend import blend
from babelpress.numerics.patterns import KeepOf, PerGroup, PerLayer, PerRow, Spared
from babelpress.prune import PRUNERS, magnitude, ria, wanda
from babelpress.prune.dsnot import prune

OTHERS = {"wanda": wanda.prune, "ria": ria.prune, "magnitude": magnitude.prune}
PATTERNS = (
    (PerRow(0.29), 24),
    (PerRow(0.7), 24),
    (PerLayer(0.5), 24),
    (PerGroup(0.5, 7), 7),
    (KeepOf(2, 4), 4),
    (KeepOf(5, 8), 8),
)
every_pattern = pytest.mark.parametrize(("pattern", "width"), PATTERNS, ids=str)


def means_of(inputs, shares):
    """The mean and the variance of every input, and its root mean square, in Python floats."""
    mean, square = [], []
    for j in range(24):
        of = {tag: [x[j] for x in x_TI.tolist()] for tag, x_TI in inputs.items()}
        mean.append(sum(shares[tag] * sum(xs) / len(xs) for tag, xs in of.items()))
        square.append(sum(shares[tag] * sum(x * x for x in xs) / len(xs) for tag, xs in of.items()))
    variance = [s - m * m for s, m in zip(square, mean, strict=True)]
    return mean, variance, [math.sqrt(s) for s in square]


def slow_row(row, kept, means, width, cycles=50, threshold=0.1, power=1.0, held=()):
    """The weights that stay of one row, and how often it was changed."""
    mean, variance, rms = means
    value = [w * m for w, m in zip(row, mean, strict=True)]
    kept, moved, done = list(kept), set(), 0
    first = error = sum(v for v, stays in zip(value, kept, strict=True) if not stays)
    sign = (error > 0) - (error < 0)
    while done < cycles and abs(error) > threshold * abs(first):
        back = [j for j in range(len(row)) if not kept[j] and j not in moved]
        back = [j for j in back if sign * value[j] > 0]
        if not back:
            break
        got = max(back, key=lambda j: sign * value[j] / variance[j] ** power)
        group = range(got // width * width, min(got // width * width + width, len(row)))
        give = [j for j in group if kept[j] and j not in moved and sign * value[j] < 0]
        give = [j for j in give if j not in held]
        if not give:
            break
        given = min(give, key=lambda j: abs(row[j]) * rms[j])
        after = error + value[given] - value[got]
        if abs(after) >= abs(error):
            break
        kept[got], kept[given], error = True, False, after
        moved |= {got, given}
        done += 1
        if error * sign <= 0:
            break
    return kept, done


def slow_dsnot(weight_OI, start_OI, means, width, **options):
    rows = zip(weight_OI.tolist(), (start_OI != 0).tolist(), strict=True)
    found = [slow_row(row, kept, means, width, **options) for row, kept in rows]
    keep_OI = torch.tensor([kept for kept, _ in found])
    return weight_OI * keep_OI, [done for _, done in found]


def errors_of(weight_OI, pruned_OI, mean):
    lost_OI = weight_OI.double().masked_fill(pruned_OI != 0, 0)
    return (lost_OI @ torch.tensor(mean, dtype=torch.float64)).abs()


@pytest.fixture
def inputs(inputs):
    """Inputs whose means are not zero, of either sign."""
    shift_I = torch.linspace(-3, 4, 24)
    return {tag: x_TI + shift_I for tag, x_TI in inputs.items()}


@pytest.fixture
def weight_OI():
    return torch.randn(40, 24, generator=torch.Generator().manual_seed(1))


@every_pattern
@pytest.mark.parametrize("start", OTHERS)
def test_matches_the_definition(weight_OI, inputs, shares, stats, pattern, width, start):
    means, start_OI = means_of(inputs, shares), OTHERS[start](weight_OI, stats, pattern)
    expected, done = slow_dsnot(weight_OI, start_OI, means, width)

    pruned_OI = prune(weight_OI, stats, pattern, start=start)

    assert torch.equal(expected, pruned_OI)
    assert sum(done) > 10


@pytest.mark.parametrize(
    "options",
    [
        {"cycles": 0},
        {"cycles": 1},
        {"threshold": 0.3},
        {"threshold": 0.6},
        {"power": 0.0},
        {"power": 0.7},
    ],
    ids=str,
)
def test_options_are_those_of_the_definition(weight_OI, inputs, shares, stats, options):
    means, start_OI = means_of(inputs, shares), wanda.prune(weight_OI, stats, PerRow(0.5))
    plain, _ = slow_dsnot(weight_OI, start_OI, means, 24)
    expected, done = slow_dsnot(weight_OI, start_OI, means, 24, **options)

    pruned_OI = prune(weight_OI, stats, PerRow(0.5), **options)

    assert torch.equal(expected, pruned_OI)
    assert not torch.equal(plain, expected)
    assert max(done) <= options.get("cycles", 50)


@every_pattern
def test_no_row_errs_more_than_with_the_start_mask_and_counts_are_the_same(
    weight_OI, inputs, shares, stats, pattern, width
):
    mean, _, _ = means_of(inputs, shares)
    start_OI = wanda.prune(weight_OI, stats, pattern)

    pruned_OI = prune(weight_OI, stats, pattern)

    before_O, after_O = (errors_of(weight_OI, each, mean) for each in (start_OI, pruned_OI))
    assert (after_O <= before_O + 1e-12).all()
    assert after_O.sum() < 0.8 * before_O.sum()
    assert torch.equal((start_OI == 0).sum(1), (pruned_OI == 0).sum(1))
    groups = range(0, 24, width)
    assert all(
        torch.equal(
            (start_OI == 0)[:, g : g + width].sum(1), (pruned_OI == 0)[:, g : g + width].sum(1)
        )
        for g in groups
    )


def test_what_is_protected_is_never_given(weight_OI, inputs, shares, stats):
    held = frozenset({0, 5, 9, 17})
    pattern = Spared(PerRow(0.5), frozenset({2}), held)
    means, start_OI = means_of(inputs, shares), wanda.prune(weight_OI, stats, pattern)
    expected, done = slow_dsnot(weight_OI, start_OI, means, 24, held=held)

    pruned_OI = prune(weight_OI, stats, pattern)

    assert torch.equal(expected, pruned_OI)
    assert pruned_OI[2].all()
    assert pruned_OI[:, sorted(held)].all()
    assert sum(done) > 10


def test_rows_by_hand():
    """Means are 1 and variances equal, so that a row lacks the sum of what went.

    Of 1, 2, −2.5, 5 it lacks 3: 2 comes back for −2.5, and −1.5 is less. Of 1, 2, −4.5, 5 it would
    lack −3.5, which is more. Of 1, 2, 4, 5 nothing that stays would lower it.
    """
    x_TI = torch.tensor([[0.0] * 4, [2.0] * 4])
    seen = {"eng_Latn": Accumulator(4, gram=False).add(x_TI).finish()}
    stats = blend(seen, {"eng_Latn": 1.0}, "here")

    def pruned(*row):
        return prune(torch.tensor([row]), stats, PerRow(0.5), start="magnitude").tolist()[0]

    assert pruned(1.0, 2.0, -2.5, 5.0) == [0.0, 2.0, 0.0, 5.0]
    assert pruned(1.0, 2.0, -4.5, 5.0) == [0.0, 0.0, -4.5, 5.0]
    assert pruned(1.0, 2.0, 4.0, 5.0) == [0.0, 0.0, 4.0, 5.0]
    assert pruned(-1.0, -2.0, 2.5, -5.0) == [0.0, -2.0, 0.0, -5.0]


def test_inputs_that_never_vary_or_are_always_zero_are_no_error(weight_OI, saw):
    x_TI = torch.randn(30, 24, generator=torch.Generator().manual_seed(3))
    x_TI[:, 3], x_TI[:, 8] = 1.5, 0.0
    stats = saw({"swh_Latn": x_TI}, {"swh_Latn": 1.0})

    assert (prune(weight_OI, stats, PerRow(0.25)) == 0).sum(1).eq(6).all()


def test_moments_without_the_sum_are_refused(weight_OI, inputs):
    seen = {
        tag: Accumulator(24, False, vectors=()).add(x_TI).finish() for tag, x_TI in inputs.items()
    }
    stats = blend(seen, {"swh_Latn": 0.5, "hin_Deva": 0.5}, "blocks.0.mlp.up")

    with pytest.raises(BadMoments, match=r'blocks\.0\.mlp\.up hold no sum of x, .*"sum"'):
        prune(weight_OI, stats, PerRow(0.5))
    assert PRUNERS.facts("dsnot")["READS"] == ("sum",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": "random"}, "start is 'random'. Choose one of wanda, ria, magnitude."),
        ({"cycles": -1}, "cycles must be zero or more, not -1."),
        ({"threshold": -0.1}, "threshold must be zero or more, not -0.1."),
        ({"threshold": math.nan}, "threshold must be zero or more, not nan."),
        ({"power": math.inf}, "power must be zero or more, not inf."),
    ],
)
def test_options_out_of_range_are_refused(weight_OI, stats, options, words):
    with pytest.raises(BadSetting) as caught:
        prune(weight_OI, stats, PerRow(0.5), **options)

    assert str(caught.value) == f"dsnot's {words}"
