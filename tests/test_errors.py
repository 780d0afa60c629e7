"""Every error is one readable line."""

import pytest

from babelpress import errors
from babelpress.errors import (
    AmbiguousName,
    BabelpressError,
    MissingPackage,
    UnknownName,
)


def test_an_unknown_name_comes_with_its_near_miss_and_what_is_known():
    message = str(UnknownName("pruning method", "wnada", ["wanda", "magnitude"], "prune/"))

    assert message == (
        "no pruning method is called 'wnada'. Did you mean 'wanda'? "
        "Known: magnitude, wanda. Add one in prune/."
    )


def test_near_misses_are_found_in_any_case():
    assert "Did you mean 'swh_Latn'?" in str(UnknownName("language", "SWH_LATN", ["swh_Latn"], "x"))


def test_a_name_like_no_other_gets_no_suggestion():
    assert "Did you mean" not in str(UnknownName("method", "qqq", ["wanda"], "prune/"))


def test_at_most_twelve_of_many_names_are_listed():
    message = str(UnknownName("language", "qqq", [f"x{i:04}" for i in range(2000)], "data/"))

    assert "x0011 and 1988 more" in message
    assert "x0012" not in message


def test_no_known_name_is_said():
    assert "Known: none." in str(UnknownName("method", "a", [], "prune/"))


def test_an_ambiguous_name_lists_what_it_can_mean():
    message = str(AmbiguousName("language", "Norwegian", ["nob_Latn", "nno_Latn"]))

    assert message == (
        "'Norwegian' can mean more than one language: nno_Latn, nob_Latn. Write one of these."
    )


def test_a_missing_package_says_how_to_install_it():
    message = str(MissingPackage("gguf", "gguf"))

    assert "gguf" in message
    assert message.endswith("pip install 'babelpress[gguf]'")


EVERY_ERROR = [
    thing
    for thing in vars(errors).values()
    if isinstance(thing, type) and issubclass(thing, BabelpressError)
]


@pytest.mark.parametrize("error", EVERY_ERROR)
def test_every_error_is_drawn_in_the_tree_and_has_an_exit_code(error):
    assert error.__name__ in (errors.__doc__ or "")
    assert error.exit_code == 2
