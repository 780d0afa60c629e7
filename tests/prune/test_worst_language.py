"""Worst language against its definition, as plain loops over the inputs of every language."""

import math
from typing import Any

import pytest
import torch

from babelpress.errors import BadMoments, BadSetting
from babelpress.moments.accumulator import Accumulator
from babelpress.moments.blend import blend
from babelpress.numerics.patterns import KeepOf, PerRow
from babelpress.prune import wanda
from babelpress.prune.worst_language import prune
from babelpress.steps import prune as prune_settings
from babelpress.system.settings import checked

WAYS: tuple[dict[str, Any], ...] = (
    {"over": "max"},
    {"over": "pnorm", "p": 1.0},
    {"over": "pnorm", "p": 2.5},
    {"over": "pnorm", "p": 4.0},
    {"over": "pnorm", "p": 8},
    {"over": "softmax", "temperature": 0.3},
    {"over": "softmax", "temperature": 2.0},
)
every_way = pytest.mark.parametrize("way", WAYS, ids=str)


def scaled_scores(weight, xs):
    """|w|·rms(x) of one language, divided by the mean over the whole linear."""
    rms = [math.sqrt(sum(x[j] ** 2 for x in xs) / len(xs)) for j in range(len(weight[0]))]
    scores = [[abs(w) * r for w, r in zip(row, rms, strict=True)] for row in weight]
    mean = sum(map(sum, scores)) / (len(scores) * len(rms))
    return [[score / mean for score in row] for row in scores]


def slow_combined(own, shares, over, p=4.0, temperature=0.1):
    """One score of the scores of all languages."""
    top = max(own.values())
    if over == "max":
        return top
    if over == "pnorm":  # divided by the largest, no power is too large for a float
        return top * sum(shares[lang] * (s / top) ** p for lang, s in own.items()) ** (1 / p)
    weights = {lang: shares[lang] * math.exp((s - top) / temperature) for lang, s in own.items()}
    return sum(weights[lang] * s for lang, s in own.items()) / sum(weights.values())


def slow_worst_language(weight, inputs, shares, drop, **way):
    """The definition, one weight at a time, in Python floats."""
    scores = {lang: scaled_scores(weight, xs) for lang, xs in inputs.items() if shares[lang]}
    pruned = [row[:] for row in weight]
    for i, row in enumerate(pruned):
        combined = []
        for j in range(len(row)):
            own = {lang: score[i][j] for lang, score in scores.items()}
            combined.append(slow_combined(own, shares, **way))
        for j in sorted(range(len(row)), key=combined.__getitem__)[:drop]:
            row[j] = 0.0
    return pruned


def lists(inputs):
    return {language: x_TI.tolist() for language, x_TI in inputs.items()}


@pytest.fixture
def inputs(inputs):
    """A third language, whose inputs are large throughout."""
    generator = torch.Generator().manual_seed(5)
    return inputs | {"tha_Thai": 50 * torch.randn(40, 24, generator=generator).cumsum(1)}


@pytest.fixture
def shares():
    return {"swh_Latn": 0.6, "hin_Deva": 0.3, "tha_Thai": 0.1}


@every_way
@pytest.mark.parametrize(("fraction", "drop"), [(0.25, 6), (0.29, 6), (0.7, 16)])
def test_matches_the_definition(weight_OI, inputs, shares, stats, fraction, drop, way):
    expected = slow_worst_language(weight_OI.tolist(), lists(inputs), shares, drop, **way)

    pruned_OI = prune(weight_OI, stats, PerRow(fraction), **way)

    assert torch.equal(torch.tensor(expected), pruned_OI)


def test_the_ways_are_not_all_the_same_here(weight_OI, stats):
    """Else the oracle above would not tell them apart."""
    found = [prune(weight_OI, stats, PerRow(0.5), **way) for way in WAYS]
    plain = wanda.prune(weight_OI, stats, PerRow(0.5))

    assert len({tuple(each.flatten().tolist()) for each in [*found, plain]}) == len(WAYS) + 1


def test_what_is_taken_where_nothing_is_said(weight_OI, stats):
    pattern = PerRow(0.5)
    said: tuple[dict[str, Any], ...] = (
        {"over": "max"},
        {"over": "pnorm", "p": 4.0},
        {"over": "softmax", "temperature": 0.1},
    )

    for way in said:
        options = {} if way["over"] == "max" else {"over": way["over"]}
        expected = prune(weight_OI, stats, pattern, **way)

        assert torch.equal(expected, prune(weight_OI, stats, pattern, **options))


def test_a_weight_stays_for_the_one_language_that_needs_it(saw):
    """Scores on one scale are 1.6 and 0.4 in English, 0 and 2 in Yoruba: 0.01·2ᵖ > 0.99·1.6ᵖ
    from p = 21 on, ln 99 / ln 1.25 = 20.6."""
    inputs = {"eng_Latn": torch.tensor([[4.0, 1.0]]), "yor_Latn": torch.tensor([[0.0, 3.0]])}
    stats = saw(inputs, {"eng_Latn": 0.99, "yor_Latn": 0.01})

    def kept(**options):
        return prune(torch.ones(1, 2), stats, PerRow(0.5), **options).tolist()

    assert wanda.prune(torch.ones(1, 2), stats, PerRow(0.5)).tolist() == [[1.0, 0.0]]
    assert kept(over="max") == [[0.0, 1.0]]
    assert kept(over="pnorm", p=1.0) == kept(over="pnorm", p=20.0) == [[1.0, 0.0]]
    assert kept(over="pnorm", p=21.0) == [[0.0, 1.0]]


@every_way
@pytest.mark.parametrize("pattern", [PerRow(0.29), KeepOf(1, 4)])
def test_one_language_alone_is_wanda(weight_OI, saw, inputs, way, pattern):
    stats = saw({"tha_Thai": inputs["tha_Thai"]}, {"tha_Thai": 1.0})

    expected = wanda.prune(weight_OI, stats, pattern)

    assert torch.equal(expected, prune(weight_OI, stats, pattern, **way))


@every_way
def test_scaling_the_inputs_of_one_language_changes_nothing(
    weight_OI, saw, inputs, shares, stats, way
):
    louder = inputs | {"hin_Deva": inputs["hin_Deva"] * 64}

    pruned_OI = prune(weight_OI, saw(louder, shares), PerRow(0.5), **way)

    assert torch.equal(prune(weight_OI, stats, PerRow(0.5), **way), pruned_OI)


@every_way
def test_a_language_without_a_share_counts_not(weight_OI, saw, inputs, way):
    both = {"swh_Latn": 0.7, "hin_Deva": 0.3}
    two = {language: inputs[language] for language in both}

    expected = prune(weight_OI, saw(two, both), PerRow(0.5), **way)

    of_three = saw(inputs, both | {"tha_Thai": 0.0})
    assert torch.equal(expected, prune(weight_OI, of_three, PerRow(0.5), **way))


def test_of_the_maximum_the_shares_decide_nothing_as_long_as_there_are_some(
    weight_OI, saw, inputs, stats
):
    others = saw(inputs, {"swh_Latn": 0.001, "hin_Deva": 0.009, "tha_Thai": 0.99})

    assert torch.equal(prune(weight_OI, stats, PerRow(0.5)), prune(weight_OI, others, PerRow(0.5)))


@every_way
def test_a_language_that_saw_only_zeros_has_no_say(weight_OI, saw, inputs, way):
    x_TI = inputs["swh_Latn"]
    stats = saw({"swh_Latn": x_TI, "hin_Deva": x_TI * 0}, {"swh_Latn": 0.5, "hin_Deva": 0.5})

    expected = wanda.prune(weight_OI, saw({"swh_Latn": x_TI}, {"swh_Latn": 1.0}), PerRow(0.29))

    assert torch.equal(expected, prune(weight_OI, stats, PerRow(0.29), **way))


@pytest.mark.parametrize("p", [32.0, 64.0, 300.0])
def test_a_high_order_matches_the_definition_whose_powers_no_float_holds(
    weight_OI, inputs, shares, stats, p
):
    expected = slow_worst_language(weight_OI.tolist(), lists(inputs), shares, 12, over="pnorm", p=p)

    assert torch.equal(
        torch.tensor(expected), prune(weight_OI, stats, PerRow(0.5), over="pnorm", p=p)
    )


def test_the_norm_of_a_very_high_order_is_the_maximum(weight_OI, stats):
    expected = prune(weight_OI, stats, PerRow(0.5), over="max")

    assert torch.equal(expected, prune(weight_OI, stats, PerRow(0.5), over="pnorm", p=1e5))


def test_the_name_that_the_norm_had_in_earlier_recipes_still_means_it(weight_OI, stats):
    expected = prune(weight_OI, stats, PerRow(0.5), over="pnorm", p=2.5)

    assert torch.equal(expected, prune(weight_OI, stats, PerRow(0.5), over="norm", p=2.5))


@pytest.mark.parametrize("temperature", [1e-4, 1e-300])
def test_the_softmax_of_a_temperature_near_zero_is_the_maximum(weight_OI, stats, temperature):
    expected = prune(weight_OI, stats, PerRow(0.5), over="max")

    found = prune(weight_OI, stats, PerRow(0.5), over="softmax", temperature=temperature)

    assert torch.equal(expected, found)


def test_a_high_temperature_and_an_order_of_one_are_both_the_mean(weight_OI, stats):
    expected = prune(weight_OI, stats, PerRow(0.5), over="pnorm", p=1.0)

    found = prune(weight_OI, stats, PerRow(0.5), over="softmax", temperature=1e6)

    assert torch.equal(expected, found)


def test_a_way_that_is_none_is_refused_with_those_that_are(weight_OI, stats):
    with pytest.raises(BadSetting) as caught:
        prune(weight_OI, stats, PerRow(0.5), over="mean")

    assert (
        str(caught.value) == "worst_language's over is 'mean'. Choose one of max, pnorm, softmax."
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"p": 8.0}, "p is for over=pnorm, not for max. Leave it out, or take over=pnorm."),
        ({"over": "max", "p": 4.0}, "p is for over=pnorm, not for max."),
        ({"over": "softmax", "p": 8.0}, "p is for over=pnorm, not for softmax."),
        ({"temperature": 0.3}, "temperature is for over=softmax, not for max."),
        ({"over": "pnorm", "temperature": 0.3, "p": 2.0}, "temperature is for over=softmax, not"),
    ],
)
def test_an_option_that_its_way_does_not_use_is_refused_at_the_start(options, words):
    with pytest.raises(BadSetting) as caught:
        checked(prune_settings.Settings, {"method": "worst_language", "options": options}, "prune")

    assert f"worst_language's {words}" in str(caught.value)


@every_way
def test_an_option_that_its_way_uses_is_none_without_effect(way):
    asked = {"method": "worst_language", "options": way}

    assert checked(prune_settings.Settings, asked, "prune").options == way
    asked["options"] = {"over": "norm", "p": 2.0}  # told by what it is called, not by its p
    assert checked(prune_settings.Settings, asked, "prune").options == asked["options"]


@pytest.mark.parametrize("p", [0.99, 0.0, -2.0, math.inf, math.nan])
@pytest.mark.parametrize("over", ["max", "pnorm", "softmax"])
def test_an_order_that_is_no_norm_is_refused(weight_OI, stats, over, p):
    with pytest.raises(BadSetting) as caught:
        prune(weight_OI, stats, PerRow(0.5), over=over, p=p)

    assert str(caught.value) == f"worst_language's p must be 1 or more, not {p}."


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_not_above_zero_is_refused(weight_OI, stats, temperature):
    with pytest.raises(BadSetting) as caught:
        prune(weight_OI, stats, PerRow(0.5), over="softmax", temperature=temperature)

    assert str(caught.value) == (
        f"worst_language's temperature must be above 0, not {temperature}."
    )


def test_means_of_a_mixture_only_are_refused_with_what_the_module_must_say(weight_OI, inputs):
    x_TI = inputs["swh_Latn"]
    seen = Accumulator(x_TI.shape[1], gram=False).add(x_TI).finish()
    mixed = blend({"swh_Latn": seen}, {"swh_Latn": 1.0}, "blocks.0.mlp.up")

    with pytest.raises(BadMoments) as caught:
        prune(weight_OI, mixed, PerRow(0.5))

    assert str(caught.value) == (
        "the means of blocks.0.mlp.up are those of a mixture only, and this method needs every "
        'language\'s own. Its module has to say so: READS = ("languages",).'
    )
