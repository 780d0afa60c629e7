"""What holds for every rule of allocation; a new file in allocate/ is tested here unasked.

Rules that go by a table of losses have laws of their own: test_minimax.py, steps/test_choosing.py.
"""

import random

import pytest
import torch

from babelpress.allocate import RULES, _exact, by_table
from babelpress.errors import BadSetting, UnknownName
from babelpress.numerics.patterns import parse
from babelpress.registry import taken

every_rule = pytest.mark.parametrize("rule", [name for name in RULES.names() if not by_table(name)])
every_pattern = pytest.mark.parametrize(
    "text", ["0.5", "0.29", "0.5/layer", "0.29/layer", "0.5/128", "0.29/7", "2of4", "1of4"]
)
MEASURED = {
    "equal": [0.3] * 6,
    "none": [0.0] * 6,
    "extreme": [1e-30, 1e30, 0.0, 1e30, 1.0, 2.0],
    "random": [random.Random(0).random() for _ in range(6)],
    "one alone": [0.2],
}


def spread_of(rule, measured, density, **given):
    """The densities of a rule, with those options that it has."""
    function = RULES.optional(rule, "densities")
    assert function is not None
    return function(measured, density, **taken(function, given))


@every_rule
@every_pattern
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", MEASURED)
def test_over_all_blocks_every_linear_loses_exactly_what_the_plain_pattern_asks(
    rule, text, wide, name
):
    plain, measured = parse(text), MEASURED[name]
    options = {"spread": 0.5} if wide else {}
    shapes = [{"q": (7, 24), "k": (3, 24), "down": (24, 32)}] * len(measured)

    densities = spread_of(rule, measured, _exact.density(plain), **options)

    found = _exact.patterns(plain, shapes, densities)
    for linear, (rows, columns) in shapes[0].items():
        score_OI = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
        gone = sum(int((~block[linear].keep(score_OI)).sum()) for block in found)
        assert gone == len(measured) * plain.count(rows, columns)


@every_rule
@every_pattern
@pytest.mark.parametrize("name", ["equal", "none", "one alone"])
def test_blocks_that_show_the_same_lose_what_they_lose_without_a_rule(rule, text, name):
    plain, measured = parse(text), MEASURED[name]
    score_OI = torch.randn(8, 24, generator=torch.Generator().manual_seed(0))

    densities = spread_of(rule, measured, _exact.density(plain))

    for block in _exact.patterns(plain, [{"up": (8, 24)}] * len(measured), densities):
        assert torch.equal(plain.keep(score_OI), block["up"].keep(score_OI))


@every_rule
@pytest.mark.parametrize("name", MEASURED)
def test_the_mean_of_densities_is_the_one_asked_for(rule, name):
    found = spread_of(rule, MEASURED[name], 0.71)

    assert len(found) == len(MEASURED[name])
    assert sum(found) / len(found) == pytest.approx(0.71, abs=1e-12)


@every_rule
def test_what_a_block_shows_does_not_depend_on_the_scale_of_others_nor_changes_anything(
    rule, blocks, means
):
    measure = RULES.get(rule)
    weights, inputs = blocks[2]
    before = {name: each.clone() for name, each in weights.items()}
    stats = means(inputs)
    squares = {name: each.mean_square_I.clone() for name, each in stats.items()}

    first, second = measure(weights, stats), measure(weights, stats)

    assert first == second
    assert isinstance(first, float)
    assert all(torch.equal(before[name], each) for name, each in weights.items())
    assert all(torch.equal(squares[name], each.mean_square_I) for name, each in stats.items())


@every_rule
def test_scaling_all_inputs_changes_no_density(rule, blocks, means):
    measure = RULES.get(rule)
    found = []
    for scale in (1, 4):
        measured = []
        for weights, inputs in blocks:
            scaled = {n: {tag: scale * x for tag, x in own.items()} for n, own in inputs.items()}
            measured.append(measure(weights, means(scaled)))
        found.append(spread_of(rule, measured, 0.5))

    assert found[0] == found[1]


@every_rule
def test_a_rule_explains_itself(rule):
    assert RULES.about(rule)
    assert all(type(default) is float for default in RULES.options(rule).values())


def test_every_rule_of_the_first_release_is_there_with_its_options():
    assert {name: RULES.options(name) for name in ("dlp", "owl", "uniform")} == {
        "dlp": {"spread": 0.15},
        "owl": {"threshold": 5.0, "spread": 0.08},
        "uniform": {},
    }


def test_a_wrong_name_says_the_right_ones():
    with pytest.raises(UnknownName, match=r"no rule of allocation is called 'owk'\. Did you mean"):
        RULES.get("owk")


def test_an_option_of_another_rule_is_refused():
    with pytest.raises(BadSetting) as caught:
        RULES.check_options("dlp", {"threshold": 3.0})

    assert str(caught.value) == "dlp has no option threshold. It accepts spread=0.15."
