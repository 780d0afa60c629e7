"""Means that are kept serve the same shares again, and nothing else."""

from copy import deepcopy

import pico
import pytest
import torch
from pressing import SHARES, dense_moments, loud

from babelpress.models.walk import Walk
from babelpress.moments import blend
from babelpress.numerics.grids import Grid
from babelpress.press.blocks import press_dense
from babelpress.press.method import Pruner, Quantizer
from babelpress.press.sites import Means

METHODS = {
    "sparsegpt": (Pruner.of("sparsegpt", "0.5"), Pruner.of("sparsegpt", "0.25")),
    "gptq": (Quantizer.of("gptq", Grid(4, 4)), Quantizer.of("gptq", Grid(3, 4))),
}


@pytest.fixture
def factored(monkeypatch):
    """Places of which factors were computed."""
    places = []
    plain = blend.inverse_factor

    def counted(*arguments, where, **named):
        places.append(where)
        return plain(*arguments, where=where, **named)

    monkeypatch.setattr(blend, "inverse_factor", counted)
    return places


@torch.no_grad()
def pressed(walk, moments, method, shares, means=None):
    other = deepcopy(walk.model)
    press_dense(Walk(other), moments.__getitem__, method, shares, means=means)
    return other.state_dict()


@pytest.mark.parametrize("methods", METHODS.values(), ids=METHODS.keys())
def test_a_further_configuration_takes_the_factors_over_and_comes_to_the_same(methods, factored):
    walk = Walk(loud())
    moments, means = dense_moments(walk), Means()
    first, further = methods
    expected = pressed(walk, moments, further, SHARES)
    of_one = len(factored)

    pressed(walk, moments, first, SHARES, means)
    assert len(factored) == 2 * of_one
    found = pressed(walk, moments, further, SHARES, means)

    assert len(factored) == 2 * of_one
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("means", [None, Means()], ids=["none", "kept"])
def test_other_shares_and_another_damp_have_factors_of_their_own(means, factored):
    walk = Walk(loud())
    moments = dense_moments(walk)
    sparsegpt = METHODS["sparsegpt"][0]
    damped = Pruner.of("sparsegpt", "0.5", {"damp": 0.2})

    pressed(walk, moments, sparsegpt, SHARES, means)
    of_one = len(factored)
    pressed(walk, moments, sparsegpt, {"eng_Latn": 1.0}, means)
    pressed(walk, moments, damped, SHARES, means)

    assert len(factored) == 3 * of_one


@pytest.mark.parametrize("family", sorted(pico.EXPERTS)[:1])
def test_means_of_experts_are_made_for_every_method_anew(family):
    """Whether an expert saw enough is for the method to say."""
    walk = Walk(loud(family))
    moments, means = dense_moments(walk), Means()
    all_of_them, none = (Pruner.of("wanda", "0.5", min_tokens=n) for n in (1, 10**6))

    pressed(walk, moments, all_of_them, SHARES, means)

    found = pressed(walk, moments, none, SHARES, means)
    expected = pressed(walk, moments, none, SHARES)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
