"""YAML as plain data: what it says, and one reason where it is not plain."""

import pytest

from babelpress.system import plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        (
            "a: 1\nb: [x, 2.5, true]\nc: {d: null}",
            {"a": 1, "b": ["x", 2.5, True], "c": {"d": None}},
        ),
        ("a: 0.05", {"a": 0.05}),
        ("2of4", "2of4"),
        ("a: &unused 1", {"a": 1}),
        (f"a: {2**63}", {"a": 2**63}),
    ],
)
def test_plain_values_are_read(text, value):
    assert plain.load(text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &a [x]\nb: *a", "line 2 has an alias (*a)"),
        ("a: &a [*a]", "line 1 has an alias (*a)"),
        ("a: !!str x", "line 1 has a tag"),
        ("\na: !x {}", "line 2 has a tag (!x)"),
        ("[" * 33 + "]" * 33, "line 1 is nested more than 32 deep"),
        (f"[[-{2**65}]]", "a number in it has more than 64 bits"),
        (f"{{{2**65}: 1}}", "a number in it has more than 64 bits"),
        ("a: 9" + "9" * 5000, "a date or a number in it is none"),
        ("a: 2001-13-01", "a date or a number in it is none"),
        ("a: 0b_", "a date or a number in it is none"),
        ("a: [", "in line 1"),
        ("? [a]\n: b", "unhashable"),
        ("a: \x07", "special characters are not allowed"),
        ("---\n---\n", "in line 2"),
        ("#" * 50_001, "50,000 are the most"),
    ],
)
def test_what_is_not_plain_is_refused_with_the_reason(text, why):
    with pytest.raises(plain.NotPlain, match=r"^[^\n]+$") as caught:
        plain.load(text)

    assert why in str(caught.value)


def test_nesting_that_is_allowed_is_read():
    assert str(plain.load("[" * 32 + "]" * 32)) == "[" * 32 + "]" * 32


def test_only_true_and_false_are_truth_values():
    words = "languages: [en, no]\non: [y, n, yes, Off]\nkept: true\nleft: FALSE"

    assert plain.load(words) == {
        "languages": ["en", "no"],
        "on": ["y", "n", "yes", "Off"],
        "kept": True,
        "left": False,
    }
