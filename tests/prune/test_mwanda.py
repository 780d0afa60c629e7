"""M-Wanda against its formula, as plain loops over the inputs of every language."""

import math
from typing import Any

import pytest
import torch

from babelpress.errors import BadMoments, BadSetting
from babelpress.moments.accumulator import Accumulator
from babelpress.moments.blend import blend
from babelpress.numerics.patterns import KeepOf, PerRow
from babelpress.prune import PRUNERS, wanda
from babelpress.prune.mwanda import prune

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"variance": 0.0},
    {"variance": 5.0},
    {"firing": True},
    {"variance": 5.0, "firing": True},
)


def slow_need(inputs, shares, variance=1.0, firing=False):
    """What every input counts for, one number at a time, in Python floats."""
    columns = range(len(next(iter(inputs.values()))[0]))
    norms, fires = {}, {}
    for lang, xs in inputs.items():
        norms[lang] = [math.sqrt(sum(x[j] ** 2 for x in xs) / len(xs)) for j in columns]
        fires[lang] = [sum(x[j] > 0 for x in xs) / len(xs) for j in columns]
    level = sum(share * sum(norms[lang]) for lang, share in shares.items()) / len(columns)
    found = []
    for j in columns:
        own = {lang: norms[lang][j] / level for lang in shares}
        mean = sum(shares[lang] * each for lang, each in own.items())
        spread = sum(shares[lang] * (each - mean) ** 2 for lang, each in own.items())
        chance = sum(shares[lang] * fires[lang][j] for lang in shares)
        found.append((mean + variance * spread) * (chance if firing else 1))
    return found


def slow_mwanda(weight, need, drop):
    pruned = [row[:] for row in weight]
    for row in pruned:
        score = [abs(w) * n for w, n in zip(row, need, strict=True)]
        for j in sorted(range(len(row)), key=score.__getitem__)[:drop]:
            row[j] = 0.0
    return pruned


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("fraction", "drop"), [(0.25, 6), (0.7, 16)])
def test_matches_the_definition(weight_OI, inputs, shares, stats, fraction, drop, options):
    lists = {language: x_TI.tolist() for language, x_TI in inputs.items()}
    expected = slow_mwanda(weight_OI.tolist(), slow_need(lists, shares, **options), drop)

    pruned_OI = prune(weight_OI, stats, PerRow(fraction), **options)

    assert torch.equal(torch.tensor(expected), pruned_OI)


def test_every_option_shows_here(weight_OI, stats):
    """Else the oracle above would not tell them apart."""
    found = [prune(weight_OI, stats, PerRow(0.5), **options) for options in OPTIONS]
    plain = wanda.prune(weight_OI, stats, PerRow(0.5))

    masks = {tuple((each == 0).flatten().tolist()) for each in [*found, plain]}
    assert len(masks) == len(OPTIONS) + 1


def test_one_language_alone_is_wanda(weight_OI, saw, inputs):
    stats = saw({"hin_Deva": inputs["hin_Deva"]}, {"hin_Deva": 1.0})

    for pattern in (PerRow(0.29), KeepOf(1, 4)):
        expected = wanda.prune(weight_OI, stats, pattern)

        assert torch.equal(expected, prune(weight_OI, stats, pattern, variance=7.0))


def test_an_input_that_languages_differ_on_stays_where_variance_counts(saw):
    """Norms are 3 and 3, and 5 and 0, less than 3 in the mean; divided by 2.75 the means are 1.09
    and 0.91, the variances 0 and (2.5/2.75)² = 0.83."""
    inputs = {"eng_Latn": torch.tensor([[3.0, 5.0]]), "yor_Latn": torch.tensor([[3.0, 0.0]])}
    stats = saw(inputs, {"eng_Latn": 0.5, "yor_Latn": 0.5})

    def kept(variance):
        weight_OI = torch.ones(1, 2)
        return prune(weight_OI, stats, PerRow(0.5), variance=variance).tolist()

    assert kept(0.0) == kept(0.21) == [[1.0, 0.0]]
    assert kept(0.23) == kept(1.0) == [[0.0, 1.0]]


def test_an_input_that_seldom_fires_goes_first_where_that_is_asked_for(saw):
    inputs = {"eng_Latn": torch.tensor([[2.0, 3.0], [2.0, -3.0], [2.0, -3.0]])}
    stats = saw(inputs, {"eng_Latn": 1.0})

    assert prune(torch.ones(1, 2), stats, PerRow(0.5), firing=True).tolist() == [[1.0, 0.0]]
    assert prune(torch.ones(1, 2), stats, PerRow(0.5)).tolist() == [[0.0, 1.0]]


def test_inputs_that_are_always_zero_are_no_error(weight_OI, saw):
    stats = saw({"swh_Latn": torch.zeros(3, 24)}, {"swh_Latn": 1.0})

    assert (prune(weight_OI, stats, PerRow(0.25)) == 0).sum(1).eq(6).all()


def test_moments_without_the_count_of_what_fires_are_refused(weight_OI, inputs):
    seen = {
        tag: Accumulator(24, gram=False, vectors=()).add(x).finish() for tag, x in inputs.items()
    }
    stats = blend(seen, {"swh_Latn": 0.5, "hin_Deva": 0.5}, "blocks.0.mlp.up", apart=True)

    with pytest.raises(BadMoments, match=r'blocks\.0\.mlp\.up hold no count of x > 0.*"positive"'):
        prune(weight_OI, stats, PerRow(0.5), firing=True)
    assert prune(weight_OI, stats, PerRow(0.5)).any()


def test_what_it_reads_is_declared_and_that_the_formula_is_from_memory():
    facts = PRUNERS.facts("mwanda")

    assert facts["READS"] == ("languages", "positive")
    assert any("from memory" in line for line in facts["DIFFERS"])


@pytest.mark.parametrize("variance", [-0.1, math.nan, math.inf])
def test_a_variance_below_zero_is_refused(weight_OI, stats, variance):
    with pytest.raises(BadSetting) as caught:
        prune(weight_OI, stats, PerRow(0.5), variance=variance)

    assert str(caught.value) == f"mwanda's variance must be zero or more, not {variance}."
