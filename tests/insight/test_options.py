"""Options of analyses: names, kinds and limits, which are known before anything is opened."""

import pytest

from babelpress.errors import BadSetting
from babelpress.insight import ANALYSES, WITHIN, check_languages, facts, options_of
from babelpress.insight._settings import InsightSettings

ALLOWED = [
    ("neurons", "rate", 1),
    ("neurons", "rate", 1e-9),
    ("neurons", "bar", 0.999),
    ("features", "ratio", 0.5),
    ("subspace", "rank", 0),
    ("subspace", "rank", 500),  # until it is known how many languages there are
    ("similarity", "site", "mlp.down_proj"),
]
REFUSED = [
    ("neurons", "rate", 0, r"option rate must be over 0 and at most 1; it is 0\."),
    ("neurons", "rate", 1.001, "must be over 0 and at most 1"),
    ("neurons", "rate", "high", "must be of the type float, as 0.01; it is 'high'"),
    ("neurons", "rate", float("nan"), "must be a finite number"),
    ("neurons", "bar", 1, "option bar must be over 0 and below 1; it is 1"),
    ("neurons", "bar", 0, "must be over 0"),
    ("features", "ratio", 0.51, r"at most 0\.5; it is 0\.51\. Write another, .* ratio=0\.1, which"),
    ("features", "ratio", 0.0, "must be over 0"),
    ("subspace", "rank", -1, "subspace's option rank must be at least 0; it is -1"),
    ("subspace", "rank", 2.5, "must be of the type int"),
    ("similarity", "site", 3, "must be of the type str"),
    ("damage", "ratio", 0.1, "has an option ratio: damage has no options"),
]


@pytest.mark.parametrize(("name", "key", "value"), ALLOWED)
def test_what_is_within_the_limits_is_taken(name, key, value):
    asked = InsightSettings.model_validate({"on": name, "options": {key: value}})

    assert options_of(asked.on, asked.options) == {name: {key: value}}


@pytest.mark.parametrize(("name", "key", "value", "words"), REFUSED)
def test_what_is_beyond_the_limits_is_refused_by_the_settings(name, key, value, words):
    with pytest.raises(BadSetting, match=words):
        InsightSettings.model_validate({"on": ("damage", name), "options": {key: value}})


def test_limits_of_the_number_of_languages_are_told_once_that_is_known():
    check_languages(["subspace", "damage"], {"subspace": {"rank": 2}, "damage": {}}, 3)

    with pytest.raises(BadSetting, match=r"at least 0 and below 3, the number of lang.*; it is 3"):
        check_languages(["subspace"], {"subspace": {"rank": 3}}, 3)
    for name in ("neurons", "subspace"):
        with pytest.raises(BadSetting, match=f"{name} tells languages apart and needs 2 .* not 1"):
            check_languages([name], {name: {}}, 1)


def test_limits_are_of_options_that_there_are_and_defaults_are_within_them():
    for name in ANALYSES.names():
        options = ANALYSES.options(name)
        limits = facts(name).limits

        assert set(limits) <= set(options)
        assert {how for each in limits.values() for how in each} <= set(WITHIN)
        assert options_of([name], options) == {name: options}
