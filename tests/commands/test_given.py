"""What a caller gives becomes what a parameter takes, or one line says what was wrong."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import BeforeValidator

from babelpress.commands.given import COMMAS, MAPPING, Pairs, spelled, taken
from babelpress.errors import BadSetting

PAIRED = Annotated[Sequence[str], "help", Pairs("--set", "a.b=3")]
TALLY = Callable[[str], None]


@pytest.mark.parametrize(
    ("annotation", "value", "becomes"),
    [
        (Path, "runs/a", Path("runs/a")),
        (Path, Path("runs/a"), Path("runs/a")),
        (Path | None, "runs/a", Path("runs/a")),
        (str, Path("owner") / "name", "owner/name"),
        (Annotated[str, "help"], "owner/name", "owner/name"),
        (Sequence[Path], "one", [Path("one")]),
        (Sequence[Path], Path("one,two"), [Path("one,two")]),
        (Sequence[Path], "one, two", [Path("one"), Path("two")]),
        (Sequence[Path], ("one", Path("two")), [Path("one"), Path("two")]),
        (Sequence[Path], (name for name in ("one", "two")), [Path("one"), Path("two")]),
        (Annotated[str, COMMAS], ["sw", "yo"], "sw,yo"),
        (Annotated[str, COMMAS], "sw,yo", "sw,yo"),
        (Annotated[str, COMMAS], {"sw"}, "sw"),
        (tuple[str, ...], "sw,yo", ["sw", "yo"]),
        (tuple[str, ...], "", []),
        (tuple[str, ...], {"sw"}, ["sw"]),
        (int, "512", 512),
        (int, 512.0, 512),
        (int, np.int64(512), 512),
        (int | None, "7", 7),
        (float, "0.05", 0.05),
        (float, 2, 2.0),
        (float | None, np.float32(0.25), 0.25),
        (bool, True, True),
        (bool, "false", False),
        (bool, np.bool_(True), True),
        (int | str, 64, 64),
        (int | str, "channel", "channel"),
        (Annotated[str, BeforeValidator(str)], 0.5, 0.5),
        (Literal["dense", "8bit"], "8bit", "8bit"),
        (PAIRED, {"a.b": 4}, {"a.b": 4}),
        (PAIRED, ["a.b=4", "c=[1, x]"], {"a.b": 4, "c": [1, "x"]}),
        (PAIRED, "a.b=4", {"a.b": 4}),
        (dict[str, Any], {"damp": 0.05}, {"damp": 0.05}),
        (dict[int, int], Path("bits.yaml"), "bits.yaml"),
        (Annotated[Path, MAPPING], {"steps": []}, {"steps": []}),
        (Annotated[Path, MAPPING], "recipe.yaml", Path("recipe.yaml")),
        (TALLY, print, print),
    ],
)
def test_what_is_near_enough_becomes_what_is_asked_for(annotation, value, becomes):
    found = taken(value, annotation, "x")

    assert found == becomes
    assert type(found) is type(becomes)


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (Path, 3, "x is 3. It must be a path."),
        (Path, "", "x is ''. It must be a path."),
        (Path, {"a": 1}, "x is {'a': 1}. It must be a path."),
        (Path, b"runs", "x is b'runs'. It must be a path."),
        (str, 3, "x is 3. It must be one word."),
        (str, ["a", "b"], "x is ['a', 'b']. It must be one word."),
        (Sequence[Path], 5, "x is 5. It must be a list, or one text with commas between."),
        (Sequence[Path], [None], "x is None. It must be a path."),
        (Sequence[Path], {"a": 1}, "x is {'a': 1}. It must be a list, or one text with"),
        (Annotated[str, COMMAS], 5, "x is 5. It must be a list, or one text with commas between."),
        (tuple[str, ...], ["sw", 3], "x is 3. It must be one word."),
        (int, 2.5, "x is 2.5. It must be a whole number."),
        (int, True, "x is True. It must be a whole number."),
        (int, "many", "x is 'many'. It must be a whole number."),
        (int, [1], "x is [1]. It must be a whole number."),
        (float, "nan", "x is 'nan'. It must be a number."),
        (float, float("nan"), "x is nan. It must be a number."),
        (float, [1], "x is [1]. It must be a number."),
        (bool, "perhaps", "x is 'perhaps'. It must be true or false."),
        (PAIRED, 5, "x is 5. It must be a mapping, or NAME=VALUE as in a.b=3."),
        (PAIRED, "a", "--set a is not NAME=VALUE. Write it as a.b=3."),
        (dict[str, Any], 5, "x is 5. It must be a mapping, or NAME=VALUE."),
        (TALLY, True, "x is True. It must be a function of what, done and total."),
        (Path, ["x" * 200], f"x is ['{'x' * 58}…. It must be a path."),
    ],
)
def test_what_is_not_is_one_line(annotation, value, said):
    with pytest.raises(BadSetting) as caught:
        taken(value, annotation, "x")

    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_path_with_a_comma_that_is_there_is_one_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("one,two").mkdir()

    assert taken("one,two", Sequence[Path], "runs") == [Path("one,two")]
    assert taken("one,three", Sequence[Path], "runs") == [Path("one"), Path("three")]


@pytest.mark.parametrize(
    ("annotation", "written"),
    [
        (Path, "str | PathLike[str]"),
        (Path | None, "str | PathLike[str] | None"),
        (Annotated[str, COMMAS], "str | Iterable[str]"),
        (Sequence[Path], "str | PathLike[str] | Iterable[str | PathLike[str]]"),
        (Annotated[str, BeforeValidator(str)], "str | PathLike[str] | float"),
        (float, "float | str"),
        (bool, "bool"),
        (Literal["a", "b"], 'Literal["a", "b"]'),
        (PAIRED, "Mapping[Any, Any] | str | PathLike[str] | Iterable[str]"),
        (Annotated[Path, MAPPING], "str | PathLike[str] | Mapping[str, Any]"),
        (TALLY, "Progress"),
    ],
)
def test_a_type_checker_reads_what_is_taken(annotation, written):
    assert spelled(annotation) == written
