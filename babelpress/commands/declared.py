"""Commands whose options are settings: declared once, asked for flat, checked as a whole.

    @command(rows={"language": "canonical tag"})
    def calibrate(model: Model, *, out: Out, text: CalibrationSettings, gram: bool = False): …

gives a function with a keyword for every field of CalibrationSettings in the place of `text`. The
command line reads types, defaults and help off its signature; a call with values of other kinds
(a Path or its text, a list or words with commas between, a number or its text) is understood.
"""

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from cyclopts import Parameter
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from babelpress.commands.outcome import Outcome
from babelpress.errors import BadSetting
from babelpress.system.progress import Progress
from babelpress.system.settings import checked

Model = Annotated[str, Parameter(help="Hub id or folder, babel-mini, or a finished run.")]
Out = Annotated[Path, Parameter(help="The run folder.")]
Device = Annotated[str, Parameter(help="Where the model runs.")]
Offload = Annotated[
    bool,
    Parameter(help="Let what does not fit in memory lie in the folder; the result is the same."),
]
COMMAS = "words with commas"  # beside the annotation of a word that may be a list
Watched = Annotated[Progress, Parameter(parse=False)]

Made = TypeVar("Made", bound=Callable[..., Outcome])


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

        @wraps(function)
        def call(*args: Any, **given: Any) -> Outcome:
            bound = _flat(signature, groups).bind(*args, **given).arguments
            inside = {name: _own(bound, kind) for name, kind in groups.items()}
            known = {
                name: checked(groups[name], values, "the command line")
                for name, values in inside.items()
            }
            rest = {
                name: _plain(value, signature.parameters[name].annotation, name)
                for name, value in bound.items()
                if name in signature.parameters
            }
            return function(**rest, **known)

        call.__signature__ = _flat(signature, groups)  # type: ignore[attr-defined]
        call.rows = dict(rows)  # type: ignore[attr-defined]
        return call

    return made


def rows_of(function: Callable[..., Any]) -> dict[str, str]:
    """The keys of a command's rows, and what they mean."""
    return vars(function).get("rows", {})


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
    return {"flag": "", "negative": "", "hidden": False, **given}


def _name(key: str, field: FieldInfo) -> str:
    """The keyword of a field."""
    return str(_extra(field)["flag"] or key).replace("-", "_")


def _parameter(key: str, field: FieldInfo) -> inspect.Parameter:
    asked = _extra(field)
    annotation, default = _asked_as(field)
    negative = f"--{asked['negative']}" if asked["negative"] else None
    how = Parameter(help=field.description, negative=negative)
    return inspect.Parameter(
        _name(key, field),
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, how],
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
    """What was given of the fields of some settings, as they take it."""
    found: dict[str, Any] = {}
    for key, field in kind.model_fields.items():
        name = _name(key, field)
        if name in bound and not _extra(field)["hidden"]:
            value = bound[name]
            empty = value == "" and get_origin(field.annotation) is not tuple
            nothing = empty and not isinstance(field.get_default(), str)
            if not nothing:
                found[key] = _plain(value, field.annotation, name)
    return found


# ---- values --------------------------------------------------------------------------------


def _plain(value: Any, annotation: Any, name: str) -> Any:
    """A value as its parameter has it, where it was given as something near."""
    kind = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    kinds = (kind, *get_args(kind))
    if get_origin(kind) in (list, tuple, Sequence) and Path in kinds:
        several = [value] if isinstance(value, str | Path) else value
        return [Path(each) for each in several]
    if isinstance(value, str) and Path in kinds and str not in kinds:
        return Path(value)
    if isinstance(value, Path) and Path not in kinds:
        return str(value)
    if isinstance(value, list | tuple) and COMMAS in get_args(annotation):
        return ",".join(map(str, value))
    if isinstance(value, list) and str in kinds and get_origin(kind) is None:
        raise BadSetting(f"{name} is {value!r}. It must be one word.")
    if isinstance(value, str) and kind in (int, float, bool):
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            wanted = kind.__name__
            raise BadSetting(f"{name} is {value!r}. It must be of the type {wanted}.") from error
    return value
