"""A run as data: YAML to frozen, checked values and back.

    model: babel-mini
    calibration: {corpus: embedded, tokens: 16384, seed: 0}
    steps:
      - prune: {method: wanda, pattern: "0.5", mixture: uniform}
      - quantize: {method: gptq, bits: 4, group: 128, mixture: uniform}

Unknown keys are refused with the known ones. A recipe is not code: no class paths, no imports.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, create_model, field_validator, model_serializer, model_validator

from babelpress.errors import BadSetting
from babelpress.steps import KINDS
from babelpress.steps._kind import StepSettings
from babelpress.steps._pressing import LookingSettings, check_weighed
from babelpress.system import plain
from babelpress.system.plain import NotPlain
from babelpress.system.settings import Strict, checked, pairs
from babelpress.text.settings import CalibrationSettings


class Step(Strict):
    """One step: exactly one kind, by its name."""

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
    def work(self) -> Any:
        """The settings of the step itself, of its kind."""
        return getattr(self, self.kind)

    def but(self, **changes: Any) -> "Step":
        """The same step with other settings."""
        return type(self)(**{self.kind: self.work.model_copy(update=changes)})

    @model_serializer(mode="plain")
    def _only(self) -> dict[str, Any]:
        return {self.kind: self.work.model_dump(mode="json")}


def _any_step() -> type[Step]:
    """A step with a field for every kind there is."""
    kinds: dict[str, Any] = {
        name: (KINDS.module(name).Settings | None, None) for name in KINDS.names()
    }
    return create_model("AnyStep", __base__=Step, **kinds)


# Settings that name what was made of a model's old tokens, or of its old shapes.
OF_TOKENS = ("moments", "against", "student")
OF_SHAPES = ("moments", "against")


def _check_tokens(step: Step, later: Sequence[Step], why: str) -> None:
    """Raise ValueError for a step that cannot come after one that changes the tokens."""
    for each in later:
        if each.kind == step.kind:
            raise ValueError(
                f"{step.kind} stands twice, and {why}: do it once, for the languages of both"
            )
    _check_named(step, later, why, OF_TOKENS)


def _check_named(step: Step, later: Sequence[Step], why: str, made_before: Sequence[str]) -> None:
    """Raise ValueError for a later step that names what was made of the model before.

    Not for one that holds the model against a dense one: it makes that read the new tokens, or says
    itself where other shapes do not fit.
    """
    for each in later:
        fits = ["against"] if KINDS.facts(each.kind).get("DENSE") else []
        asked = [key for key in made_before if key not in fits]
        named = [key for key in asked if getattr(each.work, key, None)]
        if named:
            raise ValueError(
                f"{each.kind} cannot have {named[0]} after {step.kind}, for {why}: put {step.kind} "
                f"behind it, or leave {named[0]} out"
            )


class Recipe(Strict):
    """A whole run."""

    model: str
    calibration: CalibrationSettings = CalibrationSettings()
    steps: tuple[_any_step(), ...] = Field(min_length=1)  # type: ignore[valid-type]

    @field_validator("steps", mode="after")
    @classmethod
    def _in_parts(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """Every step, or those that it is short for."""
        found: list[Step] = []
        for step in steps:
            parts = KINDS.optional(step.kind, "parts")
            several = parts(step.work) if parts is not None else []
            found += [type(step)(**{kind: work}) for kind, work in several] or [step]
        return tuple(found)

    @model_validator(mode="after")
    def _order(self) -> "Recipe":
        for place, step in enumerate(self.steps):
            later = [each.kind for each in self.steps[place + 1 :]]
            goes_on = all(KINDS.facts(kind).get("GOES_ON") for kind in later)
            if not goes_on and (why := KINDS.facts(step.kind).get("LAST")):
                raise ValueError(f"{step.kind} must be the last step: {why}")
        for place, step in enumerate(self.steps):
            facts, later = KINDS.facts(step.kind), self.steps[place + 1 :]
            if why := facts.get("NEW_TOKENS"):
                _check_tokens(step, later, why)
            if why := facts.get("NEW_SHAPES"):
                _check_named(step, later, why, OF_SHAPES)
            if (follows := KINDS.optional(step.kind, "follows")) is not None:
                follows(step.work, [(each.kind, each.work) for each in self.steps[:place]])
        return self

    @model_validator(mode="after")
    def _weighed(self) -> "Recipe":
        """What looks at text whose tokens are weighed by the loss can do so."""
        for step in self.steps:
            if isinstance(step.work, LookingSettings) and not step.work.moments:
                check_weighed(self.calibration, step.work)
        return self

    def first_but(self, **changes: Any) -> "Recipe":
        """The same recipe whose first step has other settings."""
        return self.model_copy(update={"steps": (self.steps[0].but(**changes), *self.steps[1:])})


def load(
    path: Path | Mapping[str, Any],
    *,
    model: str | None = None,
    changes: Sequence[str] | Mapping[str, Any] = (),
) -> Recipe:
    """Read a recipe, a file or what would be in one; `model` and `--set a.b=c` changes win over it.

    Raises BadSetting for a file that cannot be read and for any value that is not accepted.
    """
    where = "the recipe" if isinstance(path, Mapping) else f"the recipe {path}"
    data = deepcopy(dict(path)) if isinstance(path, Mapping) else _read(path, where)
    if not isinstance(data, dict):
        raise BadSetting(f"{where} must be a mapping with model, calibration and steps.")
    if model is not None:
        data["model"] = model
    for place, value in pairs(changes, "--set", "calibration.tokens=4096").items():
        if not put(data, place, value):
            raise BadSetting(f"--set {place}: there is no such place in the recipe.")
    return of(data, where="the recipe" if isinstance(path, Mapping) else str(path))


def _read(path: Path, where: str) -> Any:
    try:
        return plain.load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, NotPlain) as error:
        first = str(error).split("\n")[0]
        raise BadSetting(f"{where} cannot be read: {first}.") from error


def of(data: Mapping[str, Any], *, where: str = "the recipe") -> Recipe:
    """A checked recipe from plain data. Raises BadSetting naming the place and what is allowed."""
    return checked(Recipe, data, where)


def single(
    model: str, kind: str, settings: StepSettings, calibration: CalibrationSettings
) -> Recipe:
    """The recipe of one step."""
    data = {
        "model": model,
        "calibration": calibration.model_dump(),
        "steps": [{kind: settings.model_dump(mode="json")}],
    }
    return of(data, where=kind)


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, every default written out (but `weigh`, where tokens count evenly)."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def put(data: Any, place: str, value: Any) -> bool:
    """Set the value at a place such as steps.0.prune.method; False where there is no such place."""
    *parents, last = place.split(".")
    here = data
    try:
        for name in parents:
            here = here[int(name)] if isinstance(here, list) else here.setdefault(name, {})
        here[int(last) if isinstance(here, list) else last] = value
    except (ValueError, IndexError, TypeError, AttributeError):
        return False
    return True
