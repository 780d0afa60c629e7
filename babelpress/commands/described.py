"""Help as plain values, which `--help --json` prints: commands, their options, keys of their rows.

Tested in tests/test_cli.py.
"""

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Parameter

from babelpress.commands.declared import Offers, rows_of

EXAMPLE = "Example: "
KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "path"}


def every(commands: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
    """All commands, each with the first sentence of its help."""
    found = [{"command": name, "help": _help(each)[0]} for name, each in commands.items()]
    return {"command": None, "commands": found}


def one(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """A command: what it does, an example, its options in order, what keys of its rows mean."""
    first, rest, example = _help(function)
    found = [_option(each) for each in inspect.signature(function).parameters.values()]
    return {
        "command": name,
        "help": f"{first}\n\n{rest}" if rest else first,
        "example": example,
        "options": [each for each in found if each],
        "rows": rows_of(function),
    }


def _help(function: Callable[..., Any]) -> tuple[str, str, str]:
    """The first line of a docstring, what follows, and its example."""
    about, _, example = (inspect.getdoc(function) or "").partition(EXAMPLE)
    first, _, rest = about.strip().partition("\n\n")
    return " ".join(first.split()), rest.strip(), example.strip()


def _option(parameter: inspect.Parameter) -> dict[str, Any]:
    """How a parameter is asked for; nothing of what a command line does not ask for."""
    kind, *marks = get_args(parameter.annotation)
    asked = next(each for each in marks if isinstance(each, Parameter))
    if asked.parse is False:
        return {}
    names, negatives = _several(asked.name), _several(asked.negative)
    needed = parameter.default is inspect.Parameter.empty
    found = {
        "name": names[0] if names else f"--{parameter.name.replace('_', '-')}",
        "positional": parameter.kind is not inspect.Parameter.KEYWORD_ONLY,
        "required": needed,
        "type": _kind(kind),
        "default": None if needed else _plain(parameter.default),
        "help": asked.help or "",
    }
    if kind is bool:
        found["negative"] = (*negatives, f"--no-{found['name'].removeprefix('--')}")[0]
    words = [word for each in marks if isinstance(each, Offers) for word in each.words]
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    return {
        **found,
        **({"choices": list(choices)} if choices else {}),
        **({"offers": words} if words else {}),
    }


def _several(words: Any) -> list[str]:
    """Words that may be one, or none."""
    return [words] if isinstance(words, str) else [*(words or ())]


def _kind(annotation: Any) -> str:
    """What a value is: several of them are a list."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return _kind(next(each for each in get_args(annotation) if each is not type(None)))
    if origin is Literal:
        return "string"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"list of {_kind(get_args(annotation)[0])}"
    return KINDS[annotation]


def _plain(value: Any) -> Any:
    """A default as JSON has it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
