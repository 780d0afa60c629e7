"""Settings: frozen values whose fields carry their help, their checks and how a command asks.

A setting is declared once. Command line, library function, recipe, sweep and docs read it there.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from babelpress.errors import BadSetting
from babelpress.system import plain

Kind = TypeVar("Kind", bound=BaseModel)

SHOWN = 60  # characters of a wrong value in a message


class Strict(BaseModel):
    """Values that are checked once and never change; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def setting(
    default: Any,
    help: str,
    *,
    flag: str = "",
    negative: str = "",
    hidden: bool = False,
    offers: Sequence[str] = (),
    **checks: Any,
) -> Any:
    """A field with its help. `flag` is what a command line calls it, `negative` what turns it off.

    A `hidden` one is for recipes only; `offers` are words that a shell may complete, of which there
    may be others. `checks` are those of pydantic's Field.
    """
    asked: Any = {"flag": flag, "negative": negative, "hidden": hidden, "offers": list(offers)}
    return Field(default=default, description=help, json_schema_extra=asked, **checks)


def words(value: Any) -> Any:
    """The words of a setting that takes commas; what is no text is left as it is."""
    if not isinstance(value, str):
        return value
    return tuple(word.strip() for word in value.split(",") if word.strip())


def pairs(value: Any, flag: str = "--option", example: str = "damp=0.05") -> Any:
    """NAME=VALUE pairs as a mapping, values read as YAML. Raises BadSetting for anything else.

    A mapping has braces; without them what looks like one is words, such as `query: `.

    `flag` is what a command line calls them, `example` one of them.
    """
    if isinstance(value, Mapping) or value is None:
        return dict(value or {})
    if not isinstance(value, Iterable):
        return value
    found: dict[str, Any] = {}
    for pair in [value] if isinstance(value, str) else value:
        name, equals, text = str(pair).partition("=")
        if not (equals and name):
            raise BadSetting(f"{flag} {pair} is not NAME=VALUE. Write it as {example}.")
        try:
            read = plain.load(text)
        except plain.NotPlain as error:
            raise BadSetting(
                f"{flag} {pair}: the value is no number, word or list. Write it as {example}."
            ) from error
        # words that end in a colon, as prefixes of texts do, are a mapping in YAML
        words = isinstance(read, dict) and not text.lstrip().startswith("{")
        found[name] = text if words else read
    return found


def checked(kind: type[Kind], data: Mapping[str, Any], where: str) -> Kind:
    """Settings from plain data. Raises BadSetting naming the place and what is allowed."""
    try:
        return kind.model_validate(dict(data))
    except ValidationError as error:
        raise BadSetting(f"{where}: {_first(error, kind)}") from error


def _first(error: ValidationError, kind: type[BaseModel]) -> str:
    # A wrong key is why a right one is missing, so it is the one to name.
    problems = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    problem = problems[0]
    place = ".".join(map(str, problem["loc"])) or "the whole"
    if problem["type"] == "extra_forbidden":
        return f"{place} is not a known key. Known: {', '.join(_known(kind, problem['loc']))}."
    if problem["type"] == "missing":
        return f"{place} is missing."
    return f"{place}: {problem['msg']} (it is {brief(problem['input'])})."


def brief(value: object) -> str:
    """A wrong value as a message shows it: on one line, and not for ever."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _known(kind: Any, place: tuple[int | str, ...]) -> Iterable[str]:
    """The keys that are known where an unknown one was found."""
    for name in place[:-1]:
        if not isinstance(name, int):
            kind = _model(kind.model_fields[name].annotation)
    return kind.model_fields


def _model(annotation: Any) -> Any:
    """The settings inside `X | None` or `tuple[X, ...]`."""
    return next((each for each in get_args(annotation) if _is_model(each)), annotation)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
