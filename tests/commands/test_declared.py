"""Commands made of settings: a keyword for every field, and values as they are near enough."""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BeforeValidator

import babelpress as bp
from babelpress import cli, commands
from babelpress.commands.declared import command, rows_of, taken_by
from babelpress.commands.given import COMMAS, taken
from babelpress.commands.outcome import Outcome
from babelpress.errors import BadSetting
from babelpress.system.settings import Strict, pairs, setting, words


class Wishes(Strict):
    """Settings with a field of every kind."""

    method: str = setting("wanda", "The method.")
    tokens: int = setting(7, "How many.", gt=0)
    sizes: Annotated[tuple[str, ...], BeforeValidator(words)] = setting(("s", "m"), "Which.")
    most: int | None = setting(None, "At most.")
    bits: int | str = setting(4, "A number or a word.")
    options: Annotated[dict[str, Any], BeforeValidator(pairs)] = setting(
        {}, "Pairs.", flag="an-option"
    )
    loop: int = setting(3, "For recipes only.", hidden=True)


@command(rows={"tag": "canonical tag"})
def wish(
    model: str,
    *others: Path,
    asked: Wishes,
    out: Path | None = None,
    folders: Sequence[Path] = (),
    tongues: Annotated[str, COMMAS] = "",
    draws: Annotated[int, "how many"] = 0,
) -> Outcome:
    """Do nothing."""
    return Outcome(
        [
            {
                "model": model,
                "others": others,
                "asked": asked,
                "out": out,
                "folders": folders,
                "tongues": tongues,
                "draws": draws,
            }
        ]
    )


def given(*args, **options):
    """What the function got."""
    return wish(*args, **options).rows[0]


def test_every_field_is_a_keyword_but_those_for_recipes_only():
    signature = inspect.signature(wish).parameters

    assert list(signature) == [
        *("model", "others", "method", "tokens", "sizes", "most", "bits", "an_option"),
        *("out", "folders", "tongues", "draws"),
    ]
    defaults = {name: signature[name].default for name in ("method", "tokens", "sizes", "most")}
    assert defaults == {"method": "wanda", "tokens": 7, "sizes": "s,m", "most": None}
    assert signature["bits"].default == "4"
    assert rows_of(wish) == {"tag": "canonical tag"}
    assert rows_of(given) == {}


def test_what_nobody_says_has_the_defaults_of_the_settings():
    assert given("m")["asked"] == Wishes()


@pytest.mark.parametrize("sizes", ["l,xl", "l, xl", ["l", "xl"], ("l", "xl")])
def test_a_list_may_be_words_with_commas(sizes):
    assert given("m", sizes=sizes)["asked"].sizes == ("l", "xl")


def test_an_empty_list_is_one_and_not_the_default():
    assert given("m", sizes="")["asked"].sizes == ()


@pytest.mark.parametrize("tokens", [9, "9"])
def test_a_number_may_be_its_text(tokens):
    assert given("m", tokens=tokens)["asked"].tokens == 9


@pytest.mark.parametrize("option", [["damp=0.5", "on=true"], {"damp": 0.5, "on": True}])
def test_pairs_may_be_a_mapping(option):
    assert given("m", an_option=option)["asked"].options == {"damp": 0.5, "on": True}


def test_paths_and_their_text_are_one():
    found = given(Path("m"), method=Path("a") / "b", out="runs/x", folders="one")

    assert found["model"] == "m"
    assert found["asked"].method == "a/b"
    assert found["out"] == Path("runs/x")
    assert found["folders"] == [Path("one")]
    assert given("m", folders=["one", Path("two")])["folders"] == [Path("one"), Path("two")]


def test_nothing_said_in_words_is_nothing():
    """As a command line says it."""
    assert given("m", bits="")["asked"].bits == 4
    assert given("m", most=None)["asked"].most is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tokens": 0}, "wish: tokens: Input should be greater than 0 (it is 0)."),
        ({"an_option": "damp"}, "--option damp is not NAME=VALUE. Write it as damp=0.05."),
    ],
)
def test_a_wrong_value_is_named_with_its_place(options, said):
    with pytest.raises(BadSetting) as caught:
        wish("m", **options)

    assert str(caught.value) == said


def test_several_words_where_one_is_asked_for_are_refused():
    with pytest.raises(BadSetting, match=r"method is \['a', 'b'\]\. It must be one word\."):
        wish("m", method=["a", "b"])


@pytest.mark.parametrize("name", ["loop", "options", "colour"])
def test_a_keyword_that_is_none_is_a_type_error_as_of_any_function(name):
    with pytest.raises(TypeError, match=name):
        wish("m", **{name: 1})


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_takes_what_its_neighbours_take(name):
    """What is a path, languages, options or a folder is so wherever it is asked for."""
    given = {
        **dict.fromkeys(("model", "out", "dense", "against", "moments"), Path("x") / "y"),
        **{key: ["sw", "yo"] for key in ("languages", "only")},
        **{key: {"damp": 0.05} for key in ("option", "allocate_option", "change")},
        **{key: {"steps": []} for key in ("recipe_file", "sweep_file")},
        "runs": ["one", Path("two")],
        "pattern": 0.5,
        "tokens": "512",
        "max_loss": "0.05",
    }
    takes = taken_by(commands.COMMANDS[name])

    for key, value in given.items():
        if key in takes:
            assert taken(value, takes[key], key) not in (None, "", [])


def test_a_call_and_a_command_line_with_the_same_words_do_the_same(capsys):
    found = bp.mixture("only:sw", languages=["sw", "en"], tokens="512")

    assert (
        cli.main(["mixture", "only:sw", "--languages", "sw,en", "--tokens", "512", "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["results"] == found.rows


@pytest.mark.parametrize("tongues", ["sw,yo", ["sw", "yo"], ("sw", "yo")])
def test_outside_of_settings_words_with_commas_may_be_a_list_too(tongues):
    assert given("m", tongues=tongues)["tongues"] == "sw,yo"


def test_outside_of_settings_a_number_may_be_its_text_and_nothing_else():
    assert given("m", draws="2000")["draws"] == 2000
    with pytest.raises(BadSetting, match="draws is 'many'"):
        wish("m", draws="many")
