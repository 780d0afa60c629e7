"""Settings: lists and pairs from words, and one line for what is wrong with them."""

from typing import Annotated, Any

import pytest
from pydantic import BeforeValidator, Field
from running import refusal

from babelpress.errors import BadSetting
from babelpress.system.settings import Strict, checked, pairs, setting, words


class Inner(Strict):
    depth: int = 1


class Outer(Strict):
    name: str
    size: int = setting(3, "How many.", gt=0)
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    perhaps: Inner | None = None
    options: Annotated[dict[str, Any], BeforeValidator(pairs)] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a,b", ("a", "b")), (" a , ,b, ", ("a", "b")), ("", ()), (["a,b"], ["a,b"]), (None, None)],
)
def test_words_are_cut_at_commas_and_what_is_no_text_is_left_alone(value, expected):
    assert words(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("damp=0.05", {"damp": 0.05}),
        (["damp=1", "way=max", "on=true"], {"damp": 1, "way": "max", "on": True}),
        (["a=[1, 2]", "b="], {"a": [1, 2], "b": None}),
        (["a=b=c"], {"a": "b=c"}),
        (["a=1", "a=2"], {"a": 2}),
        ({"a": 1}, {"a": 1}),
        (None, {}),
        ([], {}),
    ],
)
def test_pairs_are_read_as_yaml(value, expected):
    assert pairs(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("prefix=query: ", "query: "),
        ("prefix=query:", "query:"),
        ("prefix=a: b", "a: b"),
        ("prefix='query: '", "query: "),
        ("mixture={sw: 0.5, de: 0.5}", {"sw": 0.5, "de": 0.5}),
    ],
)
def test_words_with_a_colon_are_words_and_a_mapping_has_braces(value, expected):
    (found,) = pairs(value).values()

    assert found == expected


@pytest.mark.parametrize("value", ["damp", "=3", ["a=1", "b"], ""])
def test_what_is_no_pair_is_refused(value):
    assert refusal(BadSetting, pairs, value).endswith("is not NAME=VALUE. Write it as damp=0.05.")


@pytest.mark.parametrize("value", ["a=[1", "a=!!python/name:os.system x"])
def test_a_value_that_is_no_plain_data_is_refused(value):
    assert "is no number, word or list" in refusal(BadSetting, pairs, value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "name is missing."),
        ({"name": "x", "size": 0}, "size: Input should be greater than 0 (it is 0)."),
        (
            {"nmae": "x"},
            "nmae is not a known key. Known: name, size, inner, many, perhaps, options.",
        ),
        ({"name": "x", "inner": {"deep": 1}}, "inner.deep is not a known key. Known: depth."),
        ({"name": "x", "many": [{}, {"deep": 1}]}, "many.1.deep is not a known key. Known: depth."),
        ({"name": "x", "perhaps": {"deep": 1}}, "perhaps.deep is not a known key. Known: depth."),
    ],
)
def test_the_first_thing_that_is_wrong_is_named_with_its_place(data, said):
    assert refusal(BadSetting, checked, Outer, data, "here") == f"here: {said}"


def test_a_long_wrong_value_is_cut():
    words_said = refusal(BadSetting, checked, Outer, {"name": "x", "size": "y" * 500}, "here")

    assert words_said.endswith(
        "(it is 'yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy…)."
    )


def test_what_is_right_comes_back_and_cannot_be_changed():
    found = checked(Outer, {"name": "x", "options": ["damp=1"]}, "here")

    assert found == Outer(name="x", options={"damp": 1})
    with pytest.raises(ValueError, match="frozen"):
        found.name = "y"  # type: ignore[misc]


@pytest.mark.parametrize("value", [5, True, 0.1])
def test_what_cannot_be_pairs_is_left_for_the_field_to_refuse(value):
    assert pairs(value) is value
