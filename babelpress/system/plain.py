"""YAML as plain data: words, numbers, lists and mappings, and nothing that grows when it is read.

Of truth values only `true` and `false` are read, as YAML 1.2 has them: `no` is Norwegian, and `on`
the key that evaluations have.

Aliases are refused, because ten lines of them stand for a billion values; tags, because a recipe is
not code; deep nesting and numbers of thousands of digits, because nobody means them.
"""

import re
from typing import Any

import yaml

DEPTH = 32  # lists and mappings inside one another
BITS = 64  # of a whole number
LONGEST = 50_000  # characters; reading takes some ten seconds for a million of them


class _Loader(yaml.SafeLoader):
    """The safe loader of the library without the other words for truth values."""


_TRUTH = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, known) for tag, known in resolvers if tag != _TRUTH]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_TRUTH, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")


class NotPlain(ValueError):
    """Text that is not YAML, or not plain; the message is a part of a line."""


def load(text: str) -> Any:
    """The value that YAML stands for. Raises NotPlain with the line where there is one."""
    if len(text) > LONGEST:
        raise NotPlain(f"it has {len(text):,} characters, and {LONGEST:,} are the most")
    try:
        _check(text)
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise NotPlain(_where(error)) from error
    except NotPlain:
        raise
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        # What the library lets through for a date or a number that is none.
        raise NotPlain(f"a date or a number in it is none ({_first_line(error)})") from error
    if _has_large_number(value):
        raise NotPlain(f"a number in it has more than {BITS} bits")
    return value


def _check(text: str) -> None:
    """Raise NotPlain for what is not read, before anything is made of it."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise NotPlain(f"line {line} has an alias (*{event.anchor}): write the value out")
        if getattr(event, "tag", None) is not None:
            raise NotPlain(f"line {line} has a tag ({event.tag}): only plain values are read")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            raise NotPlain(f"line {line} is nested more than {DEPTH} deep")


def _has_large_number(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_large_number(each) for pair in value.items() for each in pair)
    if isinstance(value, list):
        return any(map(_has_large_number, value))
    return isinstance(value, int) and value.bit_length() > BITS


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f" in line {mark.line + 1}" if mark else ""
    return f"{getattr(error, 'problem', None) or _first_line(error)}{place}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
