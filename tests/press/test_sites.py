"""Means that are kept serve the same shares again; where memory is short sites wait."""

import threading
import time
from copy import deepcopy

import pico
import pytest
import torch
from pressing import SHARES, dense_moments, loud

from babelpress.models.walk import Walk
from babelpress.moments import blend
from babelpress.numerics.grids import Grid
from babelpress.press import sites
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


# ---- where memory is short -----------------------------------------------------------------


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_where_memory_is_short_the_largest_site_is_solved_alone(two_threads, monkeypatch):
    """And what comes of it is the same, bit for bit."""
    walk, method = Walk(loud()), METHODS["gptq"][0]
    moments = dense_moments(walk)
    expected = pressed(walk, moments, method, SHARES)
    running, company, lock = [], {}, threading.Lock()
    plain = Quantizer.press

    def watched(self, weights, stats):
        with lock:
            running.append(stats.where)
            for place in running:
                company.setdefault(place, set()).update(running)
        time.sleep(0.03)
        found = plain(self, weights, stats)
        with lock:
            running.remove(stats.where)
        return found

    monkeypatch.setattr(Quantizer, "press", watched)
    monkeypatch.setattr(sites, "short", lambda: True)
    found = pressed(walk, moments, method, SHARES)

    largest = "model.layers.{}.mlp.gate_proj+up_proj"  # 32 inputs and 96 rows; down_proj 48 and 32
    assert all(company[where] == {where} for where in map(largest.format, range(2)))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_new_weights_wait_in_the_dtype_of_the_model():
    """In float32 they would take twice the block."""
    walk = Walk(pico.model(dtype=torch.bfloat16))
    moments, method = dense_moments(walk)[0], METHODS["gptq"][0]
    old = sites.weights_of(walk, 0, moments, method)
    look = sites.looking(walk, 0, moments, method, SHARES)

    solved = list(sites.solve_all(walk, method, old, moments, look, lambda _: sites.UNSCALED))

    assert [each.site for each in solved] == list(old)
    for each in solved:
        assert each.new is not None
        for name, codes in each.new.codes.items():
            assert torch.equal(each.new.weights[name], codes.dequantize().bfloat16())
            assert each.new.weights[name].dtype == torch.bfloat16
