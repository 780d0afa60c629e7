"""Commands whose options are settings: declared once, asked for flat, checked as a whole.

    @command(rows={"language": "canonical tag"})
    def calibrate(model: Model, *, out: Out, text: CalibrationSettings, gram: bool = False): …

gives a function with a keyword for every field of CalibrationSettings in the place of `text`. The
command line reads types, defaults and help off its signature; a call may give values of other
kinds, which given.py makes into what is asked for. Warnings of an outcome go to `warnings`; the
command line, which prints them, leaves them out there.
"""

import inspect
import types
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Parameter
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from babelpress.commands.given import taken
from babelpress.commands.outcome import Outcome
from babelpress.errors import BabelpressWarning, BadSetting
from babelpress.system.progress import Progress
from babelpress.system.settings import checked

Model = Annotated[
    str, Parameter(help="Hub id, folder or .gguf file, babel-mini, or a finished run.")
]
Out = Annotated[Path, Parameter(help="The run folder.")]
Device = Annotated[str, Parameter(help="Where the model runs.")]
Offload = Annotated[
    bool,
    Parameter(help="Let what does not fit in memory lie in the folder; the result is the same."),
]
Watched = Annotated[Progress, Parameter(parse=False)]


@dataclass(frozen=True, slots=True)
class Offers:
    """Beside the annotation of a word: what a shell completes it to. There may be others."""

    words: tuple[str, ...]


def command(
    *, rows: Mapping[str, str], settings: Mapping[str, type[BaseModel]] | None = None
) -> Callable[[Callable[..., Outcome]], Callable[..., Outcome]]:
    """Make a command of a function; `rows` says what the keys of its rows mean.

    Parameters that are settings are asked for flat; `settings` names their classes where an
    annotation cannot.
    """

    def made(function: Callable[..., Outcome]) -> Callable[..., Outcome]:
        signature = inspect.signature(function, eval_str=True)
        groups = {
            name: kind
            for name, parameter in signature.parameters.items()
            if (kind := (settings or {}).get(name, parameter.annotation)) and _is_settings(kind)
        }

        flat = _flat(signature, groups)
        takes = {name: each.annotation for name, each in signature.parameters.items()}
        for kind in groups.values():
            takes |= _fields(kind)
        blank = _blank(signature, groups)

        @wraps(function)
        def call(*args: Any, **given: Any) -> Outcome:
            bound = _bound(function.__name__, flat, blank, args, given)
            for name, value in bound.items():
                bound[name] = taken(value, takes[name], name)
                if not bound[name] and flat.parameters[name].default is inspect.Parameter.empty:
                    raise BadSetting(f"{function.__name__}: {name} is empty. It must be given.")
            known = {
                name: checked(kind, _own(bound, kind), function.__name__)
                for name, kind in groups.items()
            }
            rest = {name: value for name, value in bound.items() if name in signature.parameters}
            outcome = function(**rest, **known)
            for line in outcome.warnings:
                warnings.warn(line, BabelpressWarning, stacklevel=2)
            return outcome

        call.__signature__ = flat  # type: ignore[attr-defined]
        call.rows = dict(rows)  # type: ignore[attr-defined]
        call.takes = takes  # type: ignore[attr-defined]
        return call

    return made


def rows_of(function: Callable[..., Any]) -> dict[str, str]:
    """The keys of a command's rows, and what they mean."""
    return vars(function).get("rows", {})


def taken_by(function: Callable[..., Any]) -> dict[str, Any]:
    """What each parameter of a command takes in a library call, for given.spelled to write."""
    return vars(function)["takes"]


def with_choices(function: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """A command for a shell to read: where words are offered, they are all that there is."""

    @wraps(function)
    def call(*args: Any, **given: Any) -> Outcome:
        return function(*args, **given)

    def offered(parameter: inspect.Parameter) -> inspect.Parameter:
        marks = getattr(parameter.annotation, "__metadata__", ())
        words = next((mark.words for mark in marks if isinstance(mark, Offers)), ())
        if not words:
            return parameter
        return parameter.replace(annotation=Annotated[Literal[words], *marks])

    signature = inspect.signature(function)
    found = [offered(each) for each in signature.parameters.values()]
    call.__signature__ = signature.replace(parameters=found)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in found}  # read before it
    return call


# ---- fields as parameters ------------------------------------------------------------------


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _flat(signature: inspect.Signature, groups: Mapping[str, type[BaseModel]]) -> inspect.Signature:
    """The signature with a keyword for every field in the place of settings."""
    found: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        if name not in groups:
            found.append(parameter)
            continue
        fields = groups[name].model_fields.items()
        found += [_parameter(key, field) for key, field in fields if not _extra(field)["hidden"]]
    return signature.replace(parameters=found)


def _extra(field: FieldInfo) -> dict[str, Any]:
    """How a command line asks for a field."""
    given = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return {"flag": "", "negative": "", "hidden": False, "offers": (), **given}


def _name(key: str, field: FieldInfo) -> str:
    """The keyword of a field."""
    return str(_extra(field)["flag"] or key).replace("-", "_")


def _parameter(key: str, field: FieldInfo) -> inspect.Parameter:
    asked = _extra(field)
    annotation, default = _asked_as(field)
    negative = f"--{asked['negative']}" if asked["negative"] else None
    how = Parameter(help=field.description, negative=negative)
    offered = [Offers(tuple(asked["offers"]))] if asked["offers"] else []
    return inspect.Parameter(
        _name(key, field),
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, how, *offered],
    )


def _asked_as(field: FieldInfo) -> tuple[Any, Any]:
    """The type and default that a command line has for a field: lists as words with commas."""
    kind, default = field.annotation, field.get_default(call_default_factory=True)
    origin = get_origin(kind)
    if origin is tuple:
        return str, ",".join(default)
    if origin is dict:
        many = bool(_extra(field)["flag"])
        return (Sequence[str], ()) if many else (str, "")
    if origin is Literal or kind in (bool, int, float, str):
        return kind, default
    if origin in (Union, types.UnionType):
        rest = [each for each in get_args(kind) if each is not type(None)]
        if str in rest:
            return str, "" if default is None else str(default)
        return kind, default
    raise AssertionError(f"a field of {kind} has no option of a command line")


def _own(bound: Mapping[str, Any], kind: type[BaseModel]) -> dict[str, Any]:
    """What was given of the fields of some settings."""
    names = {key: _name(key, field) for key, field in kind.model_fields.items()}
    return {key: bound[name] for key, name in names.items() if name in bound}


def _fields(kind: type[BaseModel]) -> dict[str, Any]:
    """The annotations of settings, with all that stands beside them, by keyword."""
    return {
        _name(key, field): Annotated[field.annotation, *field.metadata, ""]
        for key, field in kind.model_fields.items()
    }


def _blank(signature: inspect.Signature, groups: Mapping[str, type[BaseModel]]) -> set[str]:
    """The keywords for which no words are nothing, as a command line says it."""
    fields = {
        _name(key, field)
        for kind in groups.values()
        for key, field in kind.model_fields.items()
        if get_origin(field.annotation) is not tuple and not isinstance(field.get_default(), str)
    }
    return fields | {name for name, each in signature.parameters.items() if each.default is None}


# ---- calls ---------------------------------------------------------------------------------


def _bound(
    name: str,
    signature: inspect.Signature,
    blank: Collection[str],
    args: Sequence[Any],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """What was given, by parameter; None has the default, and so have no words where `blank`.

    Raises TypeError for a keyword that is none, as any function does, BadSetting for nothing where
    something is needed.
    """
    for word in given:
        if word not in signature.parameters:
            near = get_close_matches(word, signature.parameters, n=1)
            maybe = f" Did you mean '{near[0]}'?" if near else ""
            raise TypeError(f"{name}() got an unexpected keyword argument '{word}'.{maybe}")
    try:
        bound = signature.bind(*args, **given).arguments
    except TypeError as error:
        raise TypeError(f"{name}(): {error}") from error
    found: dict[str, Any] = {}
    for word, value in bound.items():
        needed = signature.parameters[word].default is inspect.Parameter.empty
        if value is None and needed:
            raise BadSetting(f"{name}: {word} is None. It must be given.")
        if value is not None and not (word in blank and isinstance(value, str) and not value):
            found[word] = value
    return found
