"""Damage of layers: sums over what is one layer, means over what a language reached."""

import pytest

from babelpress.moments.damage import Damage, by_layer, mean_damage


def test_numerators_and_denominators_are_summed_over_a_layer():
    sites = [
        ("experts", {"eng_Latn": Damage(1.0, 10.0), "swh_Latn": Damage(3.0, 4.0)}),
        ("attention", {"eng_Latn": Damage(2.0, 8.0), "swh_Latn": Damage(1.0, 5.0)}),
        ("experts", {"eng_Latn": Damage(5.0, 20.0)}),
    ]

    assert by_layer(sites) == [
        {"eng_Latn": Damage(6.0, 30.0), "swh_Latn": Damage(3.0, 4.0)},
        {"eng_Latn": Damage(2.0, 8.0), "swh_Latn": Damage(1.0, 5.0)},
    ]


def test_the_mean_is_over_the_layers_that_a_language_reached():
    layers = [
        {"eng_Latn": Damage(1.0, 4.0), "swh_Latn": Damage(0.0, 0.0)},
        {"eng_Latn": Damage(1.0, 10.0)},
        {"eng_Latn": Damage(1.0, 2.0), "swh_Latn": Damage(3.0, 10.0)},
    ]

    found = mean_damage(layers)

    assert found == {
        "eng_Latn": pytest.approx((0.25 + 0.1 + 0.5) / 3),
        "swh_Latn": pytest.approx(0.15),
    }
    assert mean_damage([]) == {}
