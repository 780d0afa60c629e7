"""A folder of modules as a registry."""

import sys
from pathlib import Path

import pytest

from babelpress.errors import BadSetting, UnknownName
from babelpress.registry import Registry, options, taken


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with two entries and a helper, importable as `methods_here`."""
    folder = tmp_path / "methods_here"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "two_words.py").write_text(
        '"""Two words.\n\nMore of them."""\n\nVALUE = 2\nNAMES = ("a", "b")\nMADE = len(NAMES)\n'
        'ONLY_WITH = {"damp": {"order": ("up", "down")}}\n\n'
        "def do(x, *, damp=0.25, order='none', must):\n    return x\n\n"
        "def scale(x, *, steps=3, stride=None, place=''):\n    return x\n"
    )
    (folder / "broken.py").write_text("raise ZeroDivisionError\n")
    (folder / "_helper.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield [str(folder)]
    for name in [name for name in sys.modules if name.startswith("methods_here")]:
        del sys.modules[name]


def test_every_file_is_an_entry_but_those_with_an_underscore_in_front(package):
    assert Registry("methods_here", package, "method").names() == ["broken", "two_words"]


def test_an_entry_is_imported_when_it_is_asked_for_and_not_before(package):
    found = Registry("methods_here", package, "method")

    assert found.module("two_words").VALUE == 2
    assert "methods_here.broken" not in sys.modules
    with pytest.raises(ZeroDivisionError):
        found.module("broken")


def test_words_of_a_name_may_have_something_else_between_them(package):
    found = Registry("methods_here", package, "method", between="-")

    assert found.names() == ["broken", "two-words"]
    assert found.module("two-words").VALUE == 2


def test_an_unknown_entry_is_an_error_with_near_misses(package):
    with pytest.raises(UnknownName, match=r"no method is called 'two_word'\. Did you mean 'two_"):
        Registry("methods_here", package, "method").module("two_word")


def test_options_are_the_keyword_only_arguments():
    def method(weight, stats, *, damp=0.25, order="none"):
        raise AssertionError((weight, stats, damp, order))

    assert options(method) == {"damp": 0.25, "order": "none"}


def test_what_an_entry_declares_is_read_without_importing_it(package):
    found = Registry("methods_here", package, "method")

    assert found.facts("two_words") == {
        "VALUE": 2,
        "NAMES": ("a", "b"),
        "ONLY_WITH": {"damp": {"order": ("up", "down")}},
    }
    assert found.about("two_words") == "Two words.\n\nMore of them."
    assert found.facts("broken") == {} and found.about("broken") == ""
    assert not {name for name in sys.modules if name.startswith("methods_here.")}


def test_an_entry_has_one_function_and_perhaps_others(package):
    found = Registry("methods_here", package, "method", ("do", "scale"))

    assert found.get("two_words")(7, must=1) == 7
    scale = found.optional("two_words", "scale")
    assert scale is not None
    assert scale(8) == 8
    assert found.optional("two_words", "none") is None
    own = {"steps": 3, "stride": None, "place": ""}
    assert found.options("two_words") == {"damp": 0.25, "order": "none", **own}


def test_an_option_that_is_not_known_is_refused_with_those_that_are(package):
    found = Registry("methods_here", package, "method", ("do",))

    found.check_options("two_words", {"order": "none"})
    words = r"two_words has no option clip, dump\. It accepts damp=0\.25, order=none"
    with pytest.raises(BadSetting, match=words):
        found.check_options("two_words", {"dump": 1, "clip": 2})
    with pytest.raises(BadSetting, match=r"two_words has no option damp\. It accepts no options"):
        Registry("methods_here", package, "method").check_options("two_words", {"damp": 1})


def test_an_option_without_effect_beside_another_is_refused(package):
    found = Registry("methods_here", package, "method", ("do",))

    for order in ("up", "down"):
        found.check_options("two_words", {"damp": 1, "order": order})
    for given in ({"damp": 0.25}, {"damp": 1, "order": "none"}):
        with pytest.raises(BadSetting) as caught:
            found.check_options("two_words", given)
        assert str(caught.value) == (
            "two_words's damp is for order=up, not for none. Leave it out, or take order=up."
        )


def test_what_is_given_is_no_option_and_asks_for_no_import(package):
    (Path(package[0]) / "watched.py").write_text(
        "from elsewhere import silent\n\n\n"
        "def do(x, *, damp=0.5, progress=silent):\n    return x, damp, progress\n"
    )
    given = frozenset({"progress"})

    found = Registry("methods_here", package, "method", ("do",), given=given)

    assert found.options("watched") == {"damp": 0.5}
    assert "methods_here.watched" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        Registry("methods_here", package, "method", ("do",)).options("watched")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"damp": "much"}, "damp must be of the type float, as 0.25; it is 'much'."),
        ({"damp": float("inf")}, "damp must be a finite number; it is inf."),
        ({"order": 3}, "order must be of the type str, as none; it is 3."),
        ({"steps": True}, "steps must be of the type int, as 3; it is True."),
        ({"stride": "wide"}, "stride must be of the type int; it is 'wide'."),
        ({"place": 5}, "place must be of the type str; it is 5."),
    ],
)
def test_a_value_of_another_kind_than_the_default_is_refused(package, given, words):
    found = Registry("methods_here", package, "method", ("do", "scale"))

    found.check_values("two_words", {"damp": 1, "steps": 2, "stride": 8, "lost": []})
    with pytest.raises(BadSetting) as caught:
        found.check_values("two_words", given)
    assert str(caught.value) == f"two_words's option {words}"


def test_options_of_a_function_are_taken_from_many():
    def scale(x, *, steps=3):
        raise AssertionError((x, steps))

    assert taken(scale, {"steps": 5, "damp": 1}) == {"steps": 5}
