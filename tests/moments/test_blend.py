"""Blends of languages that are held apart: each as if it had been alone, made when asked for."""

from dataclasses import fields

import pytest
import torch

from babelpress.errors import BadMoments
from babelpress.moments import blend as module
from babelpress.moments.accumulator import Accumulator
from babelpress.moments.blend import blend

SHARES = {"swh_Latn": 0.7, "hin_Deva": 0.3, "tha_Thai": 0.0}
WHERE = "blocks.1.mlp.up"


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    return {
        tag: torch.randn(30 + 25 * at, 8, generator=generator) * (1 + at) + at
        for at, tag in enumerate(SHARES)
    }


@pytest.fixture
def moments(inputs):
    return {tag: Accumulator(8, gram=True).add(x_TI).finish() for tag, x_TI in inputs.items()}


def parts(one):
    """What a blend says, by name: all but what it keeps to itself."""
    return {each.name: getattr(one, each.name) for each in fields(one) if each.name[0] != "_"}


def same(one, other):
    left, right = parts(one), parts(other)
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name])
        if torch.is_tensor(left[name])
        else left[name] == right[name]
        for name in left
    )


def test_every_language_with_a_share_has_the_means_of_that_language_alone(moments, inputs):
    found = blend(moments, SHARES, WHERE, apart=True).by_language()

    assert list(found) == ["swh_Latn", "hin_Deva"]
    for tag, own in found.items():
        assert same(own, blend({tag: moments[tag]}, {tag: 1.0}, WHERE))
        assert (own.tokens, own.where, own.shares) == (len(inputs[tag]), WHERE, {tag: 1.0})


def test_the_means_of_a_language_are_those_of_a_loop(moments, inputs):
    own = blend(moments, SHARES, WHERE, apart=True).by_language()["hin_Deva"]

    rows = inputs["hin_Deva"].double().tolist()
    for j in range(8):
        column = [row[j] for row in rows]
        n = len(column)
        assert own.mean_square_I[j].item() == pytest.approx(
            sum(x * x for x in column) / n, rel=1e-6
        )
        assert own.require_mean_abs()[j].item() == pytest.approx(
            sum(map(abs, column)) / n, rel=1e-6
        )
        assert own.absmax_I[j].item() == max(map(abs, column))


def test_the_shares_of_means_of_languages_make_the_means_of_the_mixture(moments):
    mixed = blend(moments, SHARES, WHERE, apart=True)

    own = mixed.by_language()
    for name in ("mean_square_I", "mean_abs_I", "mean_I", "firing_I", "gram_II"):
        total = sum(SHARES[tag] * getattr(each, name) for tag, each in own.items())
        torch.testing.assert_close(total, getattr(mixed, name))


def test_the_means_of_a_mixture_are_the_same_held_apart_or_not(moments):
    assert same(blend(moments, SHARES, WHERE, apart=True), blend(moments, SHARES, WHERE))


def test_means_of_languages_are_made_when_they_are_asked_for(moments, monkeypatch):
    made = []
    real = module.blend
    monkeypatch.setattr(module, "blend", lambda *a, **k: made.append(a) or real(*a, **k))

    mixed = real(moments, SHARES, WHERE, apart=True)
    assert made == []
    mixed.by_language()

    assert [list(shares) for _, shares, _ in made] == [["swh_Latn"], ["hin_Deva"]]


def test_nothing_is_copied_to_hold_languages_apart(moments):
    mixed = blend(moments, SHARES, WHERE, apart=True)

    held = mixed._apart
    assert held is not None
    assert held == moments  # those without a share too, which protection may ask for
    assert all(held[tag] is moments[tag] for tag in held)
    assert "_apart" not in repr(mixed)


@pytest.mark.parametrize("options", [{}, {"apart": False}])
def test_languages_that_were_not_held_apart_are_refused(moments, options):
    mixed = blend(moments, SHARES, WHERE, **options)

    with pytest.raises(BadMoments) as caught:
        mixed.by_language()

    assert str(caught.value) == (
        f"the means of {WHERE} are those of a mixture only, and this method needs every "
        'language\'s own. Its module has to say so: READS = ("languages",).'
    )


def test_the_means_of_a_language_are_of_that_one_and_not_apart_again(moments):
    own = blend(moments, SHARES, WHERE, apart=True).by_language()["swh_Latn"]

    with pytest.raises(BadMoments, match="those of a mixture only"):
        own.by_language()
