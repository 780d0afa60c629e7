"""What a caller gives, made what a parameter takes; what cannot be made of it is one line.

    asked for            taken
    a path, a word       text or a path
    several of them      a list, or one text with commas between
    a number             the number (numpy's too) or its text
    yes or no            True, False or their text
    options              a mapping, or NAME=VALUE once or several times

Settings check the rest themselves (system/settings.py): what is too large, what has no such name.
"""

import json
import math
import os
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from babelpress.errors import BadSetting
from babelpress.system.settings import brief, pairs

MAPPING = "or what is in it"  # beside the annotation of a YAML file that may be a mapping
COMMAS = "words with commas"  # beside the annotation of a word that may be a list


@dataclass(frozen=True, slots=True)
class Pairs:
    """Beside the annotation of NAME=VALUE pairs, which may be a mapping; how an error says them."""

    flag: str = "--option"
    example: str = "damp=0.05"


_PATH = ("str", "PathLike[str]")
_WORDS = ("str", "Iterable[str]")
_SPELLED: dict[Any, tuple[str, ...]] = {
    str: _PATH,
    Path: _PATH,
    int: ("int", "str"),
    float: ("float", "str"),
    bool: ("bool",),
    dict: ("Mapping[Any, Any]", *_PATH, "Iterable[str]"),
}


def taken(value: Any, annotation: Any, name: str) -> Any:
    """A value as its parameter has it. Raises BadSetting for a value of another kind."""
    kinds, marks = _parts(annotation)
    if said := _pairs_in(marks):
        found = pairs(value, said.flag, said.example)
        if isinstance(found, Mapping):
            return found
        raise _wrong(name, value, f"a mapping, or NAME=VALUE as in {said.example}")
    if MAPPING in marks and isinstance(value, Mapping):
        return value
    if COMMAS in marks:
        return ",".join(_words(value, name))
    for kind in kinds:
        origin = get_origin(kind)
        if origin in (list, tuple, Sequence):
            return _several(value, get_args(kind)[0], name)
        if origin in (dict, Mapping):
            if not isinstance(value, Iterable | os.PathLike) or isinstance(value, bytes):
                raise _wrong(name, value, "a mapping, or NAME=VALUE")
            return str(value) if isinstance(value, os.PathLike) else value  # settings read the rest
        if origin is Callable and not callable(value):
            raise _wrong(name, value, "a function of what, done and total")
    checked = any(isinstance(mark, BeforeValidator) for mark in marks)
    if str in kinds and isinstance(value, Real) and (checked or len(kinds) > 1):
        return value  # what the setting makes of a number is its own business
    return _one(value, kinds[0] if len(kinds) == 1 else str, name)


def optional(annotation: Any) -> bool:
    """Whether nothing may be given."""
    return type(None) in _members(annotation)


def spelled(annotation: Any) -> str:
    """What a parameter takes, as a type checker reads it."""
    kinds, marks = _parts(annotation)
    if _pairs_in(marks):
        found = _SPELLED[dict]
    elif COMMAS in marks:
        found = _WORDS
    else:
        found = tuple(each for kind in kinds for each in _spelled(kind))
        if MAPPING in marks:
            found += ("Mapping[str, Any]",)
        if str in kinds and any(isinstance(mark, BeforeValidator) for mark in marks):
            found += ("float",)
    return " | ".join(dict.fromkeys((*found, *(("None",) * optional(annotation)))))


def _spelled(kind: Any) -> tuple[str, ...]:
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return (f"Literal[{', '.join(map(json.dumps, inside))}]",)
    if origin in (list, tuple, Sequence):
        return (*_PATH, "Iterable[str | PathLike[str]]") if Path in inside else _WORDS
    if origin is Callable:
        return ("Progress",)
    return _SPELLED[origin or kind]


def _parts(annotation: Any) -> tuple[list[Any], tuple[Any, ...]]:
    """The kinds of a parameter, None left out, and what stands beside them."""
    marks = annotation.__metadata__ if get_origin(annotation) is Annotated else ()
    return [kind for kind in _members(annotation) if kind is not type(None)], marks


def _members(annotation: Any) -> tuple[Any, ...]:
    kind = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _pairs_in(marks: tuple[Any, ...]) -> Pairs | None:
    return next((mark for mark in marks if isinstance(mark, Pairs)), None)


# ---- kinds of values -----------------------------------------------------------------------


def _one(value: Any, kind: Any, name: str) -> Any:
    """A single value of a kind."""
    if kind is Path:
        if isinstance(value, str | os.PathLike) and str(value):
            return Path(value)
        raise _wrong(name, value, "a path")
    if kind is str:
        if isinstance(value, str | os.PathLike):
            return str(value)
        raise _wrong(name, value, "one word")
    if kind in (int, float, bool):
        return _scalar(value, kind, name)
    return value  # a choice of words, which the setting checks


def _scalar(value: Any, kind: Any, name: str) -> Any:
    what = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
    if callable(item := getattr(value, "item", None)) and getattr(value, "size", 1) == 1:
        value = item()  # of numpy
    if kind is not bool and (isinstance(value, bool) or not isinstance(value, Real | str)):
        raise _wrong(name, value, what)
    plain = int(value) if isinstance(value, Integral) and kind is int else value
    try:
        found = TypeAdapter(kind).validate_python(plain)
    except ValidationError as error:
        raise _wrong(name, value, what) from error
    if math.isnan(found):
        raise _wrong(name, value, what)
    return found


def _several(value: Any, inside: Any, name: str) -> list[Any]:
    """Several values; one text with commas is several, unless there is a path of that name."""
    if isinstance(value, str | os.PathLike):
        text = str(value)
        whole = isinstance(value, os.PathLike) or (inside is Path and Path(text).exists())
        parts = (part.strip() for part in text.split(","))
        several: list[Any] = [value] if whole else [part for part in parts if part]
    elif isinstance(value, Iterable) and not isinstance(value, Mapping | bytes):
        several = list(value)
    else:
        raise _wrong(name, value, "a list, or one text with commas between")
    return [_one(each, inside, name) for each in several]


def _words(value: Any, name: str) -> list[str]:
    return [value] if isinstance(value, str) else _several(value, str, name)


def _wrong(name: str, value: Any, what: str) -> BadSetting:
    return BadSetting(f"{name} is {brief(value)}. It must be {what}.")
