"""A run as data: YAML to frozen, checked values and back.

    model: babel-mini
    calibration: {corpus: embedded, tokens: 16384, seed: 0}
    steps:
      - prune: {method: wanda, pattern: "0.5", mixture: minimax}
      - quantize: {method: gptq, bits: 4, group: 128, mixture: minimax}

Unknown keys are refused with the known ones. A recipe is not code: no class paths, no imports.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from babelpress import plain, prune, quantize
from babelpress.errors import BadSetting
from babelpress.grids import Grid
from babelpress.plain import NotPlain
from babelpress.sparsity import parse

TOKENS = 16384
SHOWN = 60  # characters of a wrong value in a message
LENGTH = 2048  # tokens in a block at most; a model with fewer positions gets those


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Calibration(_Strict):
    """Which text a run looks at, in which languages; `languages` empty means all of the corpus."""

    corpus: str = "embedded"
    languages: tuple[str, ...] = ()
    tokens: int = Field(default=TOKENS, gt=0)
    length: int = Field(default=LENGTH, gt=1)
    seed: int = 0
    evaluation: str | None = None
    count_special: bool = False

    @field_validator("languages", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        return tuple(word.strip() for word in value.split(",")) if isinstance(value, str) else value


class Minimax(_Strict):
    """The loop that finds the mixture (design, section 2)."""

    rounds: int = Field(default=20, gt=0)
    rate: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class _Pressing(_Strict):
    """What all steps have. With `moments` it reads them; else it reads the calibration text.

    An expert that saw fewer than `min_tokens` tokens is left as it is; by default the method
    decides.
    """

    method: str
    mixture: str = "uniform"
    propagate: Literal["dense", "compressed"] = "compressed"
    skip: tuple[str, ...] = ()
    options: dict[str, Any] = Field(default_factory=dict)
    minimax: Minimax = Minimax()
    moments: str | None = None
    min_tokens: int | None = Field(default=None, gt=0)


class Prune(_Pressing):
    """One pruning step."""

    method: str = "wanda"
    pattern: str = "0.5"

    @field_validator("pattern", mode="before")
    @classmethod
    def _text(cls, value: Any) -> str:
        return str(parse(str(value)))

    @model_validator(mode="after")
    def _options(self) -> "Prune":
        prune.check_options(self.method, self.options)
        _check_options(self.method, prune.options(self.method), self.options)
        return self


class Quantize(_Pressing):
    """One quantization step: the last one of a recipe.

    `embeddings` is `dense` or `8bit`: embedding and head at eight bits, a scale for every row.
    """

    method: str = "gptq"
    bits: int = 4
    group: int | str = 128
    symmetric: bool = True
    clip: str = "mse"
    keep_zeros: bool = True
    embeddings: Literal["dense", "8bit"] = "dense"

    @model_validator(mode="after")
    def _options(self) -> "Quantize":
        quantize.check_options(self.method, self.options)
        _check_options(self.method, quantize.options(self.method), self.options)
        _ = self.grid
        return self

    @property
    def grid(self) -> Grid:
        """The grid of the linears. Raises BadSetting."""
        return Grid(self.bits, self.group, self.symmetric, self.clip)


class Step(_Strict):
    """One step: exactly one kind."""

    prune: Prune | None = None
    quantize: Quantize | None = None

    @model_validator(mode="after")
    def _one(self) -> "Step":
        if len(self.model_fields_set) != 1 or self.work is None:
            raise ValueError(f"a step is one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def kind(self) -> str:
        """Which kind it is."""
        return next(iter(self.model_fields_set))

    @property
    def work(self) -> Prune | Quantize:
        """The step itself."""
        return getattr(self, self.kind)

    @model_serializer(mode="plain")
    def _only(self) -> dict[str, Any]:
        return {self.kind: self.work.model_dump(mode="json")}


class Recipe(_Strict):
    """A whole run."""

    model: str
    calibration: Calibration = Calibration()
    steps: tuple[Step, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _order(self) -> "Recipe":
        if any(step.kind == "quantize" for step in self.steps[:-1]):
            raise ValueError("quantize must be the last step: codes cannot be pressed again")
        return self


def load(path: Path, *, model: str | None = None, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe file; `model` and `--set a.b=c` changes win over it.

    Raises BadSetting for a file that cannot be read and for any value that is not accepted.
    """
    try:
        data = plain.load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, NotPlain) as error:
        first = str(error).split("\n")[0]
        raise BadSetting(f"the recipe {path} cannot be read: {first}.") from error
    if not isinstance(data, dict):
        raise BadSetting(f"the recipe {path} must be a mapping with model, calibration and steps.")
    if model is not None:
        data["model"] = model
    for change in changes:
        _set(data, change)
    return of(data, where=str(path))


def of(data: Mapping[str, Any], *, where: str = "the recipe") -> Recipe:
    """A checked recipe from plain data. Raises BadSetting naming the place and what is allowed."""
    try:
        return Recipe.model_validate(dict(data))
    except ValidationError as error:
        raise BadSetting(f"{where}: {_first(error)}") from error


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, every default written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _check_options(method: str, known: Mapping[str, object], given: Mapping[str, object]) -> None:
    for name, default in known.items():
        _check_option(method, name, default, given.get(name, default))


def _check_option(method: str, name: str, default: object, value: object) -> None:
    try:
        TypeAdapter(type(default)).validate_python(value, strict=True)
    except ValidationError as error:
        wanted = type(default).__name__
        raise BadSetting(
            f"{method}'s option {name} must be of the type {wanted}, as {default}; it is {value!r}."
        ) from error
    if isinstance(value, float) and not math.isfinite(value):
        raise BadSetting(f"{method}'s option {name} must be a finite number; it is {value}.")


def _first(error: ValidationError) -> str:
    # A wrong key is why a right one is missing, so it is the one to name.
    problems = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    problem = problems[0]
    place = ".".join(map(str, problem["loc"])) or "the whole"
    if problem["type"] == "extra_forbidden":
        return f"{place} is not a known key. {_known_keys(problem['loc'])}"
    if problem["type"] == "missing":
        return f"{place} is missing."
    return f"{place}: {problem['msg']} (it is {_brief(problem['input'])})."


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _known_keys(place: tuple[int | str, ...]) -> str:
    model: Any = Recipe
    for name in place[:-1]:
        if isinstance(name, int):
            continue
        kind = model.model_fields[name].annotation
        model = Step if name == "steps" else (get_args(kind) or (kind,))[0]
    return f"Known: {', '.join(model.model_fields)}."


def _set(data: Any, change: str) -> None:
    path, equals, text = change.partition("=")
    if not equals:
        raise BadSetting(f"--set {change} has no '='. Write it as calibration.tokens=4096.")
    *parents, last = path.split(".")
    here = data
    try:
        value = plain.load(text)
    except NotPlain as error:
        raise BadSetting(f"--set {change}: the value is no plain YAML: {error}.") from error
    try:
        for name in parents:
            here = here[int(name)] if isinstance(here, list) else here.setdefault(name, {})
        if isinstance(here, list):
            here[int(last)] = value
        else:
            here[last] = value
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise BadSetting(f"--set {change}: there is no such place in the recipe.") from error
