"""A sweep as data: one base recipe, what varies in it, and how every result is scored.

    model: babel-mini
    calibration: {corpus: embedded, tokens: 4096}
    steps:
      - prune: {method: wanda, pattern: "0.5", propagate: dense}
    vary:
      steps.0.prune.method: [wanda, sparsegpt]
      steps.0.prune.mixture: [english, uniform]
      calibration.seed: [0, 1, 2]
    evaluate: {corpus: embedded, on: [bits_per_byte]}

Without `on` a model is scored on what its head predicts: bits_per_byte, of an encoder masked, of an
encoder-decoder translation_loss.

`vary` takes every value of a place with every value of the others. `recipes`, a list of changes
written as `place: value`, is taken with all of these too. `evaluate` may be a list, for scores on
several corpora. `evaluate.languages` (of a list `evaluate.0.languages`) is such a place too, so
that a recipe can be scored in languages of its own; the dense model is scored in all of them. A
recipe goes by the fingerprint of all its values and of its evaluation, so that a result is known
again wherever the sweep is read.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, JsonValue

from babelpress.errors import BadSetting
from babelpress.judge.settings import EvaluationSettings, usual_for
from babelpress.runs import recipe
from babelpress.runs.recipe import Recipe
from babelpress.steps import KINDS
from babelpress.steps._pressing import LookingSettings
from babelpress.system import plain
from babelpress.system.files import fingerprint
from babelpress.system.plain import NotPlain
from babelpress.system.settings import Strict, checked, pairs
from babelpress.text.settings import CalibrationSettings

MOST = 10_000  # recipes of a sweep; more is a slip of the pen
SCORED = re.compile(r"evaluate\.(\d+\.)?languages")  # all of an evaluation that recipes may vary
DIGITS = 16  # of a fingerprint: for 10,000 recipes a clash has odds of 1 in 10^11

Places = dict[str, JsonValue]
T = TypeVar("T", bound=BaseModel)


class _File(Strict):
    """The keys of a sweep; those of the base recipe are checked with every recipe."""

    model: JsonValue = None
    calibration: JsonValue = Field(default_factory=dict)
    steps: JsonValue = None
    vary: dict[str, tuple[JsonValue, ...]] = Field(default_factory=dict)
    recipes: tuple[Places, ...] = ()
    evaluate: JsonValue = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One recipe of a sweep, how it is scored, what it has at the places that vary, and the
    fingerprint of both.
    """

    recipe: Recipe
    evaluate: tuple[EvaluationSettings, ...]
    places: Places
    fingerprint: str

    @property
    def label(self) -> str:
        """The varied places in words."""
        return ", ".join(f"{place}={value}" for place, value in self.places.items()) or "as it is"


@dataclass(frozen=True, slots=True)
class Sweep:
    """All recipes in order, no two the same."""

    entries: tuple[Entry, ...]


def in_all(asked: Sequence[Sequence[EvaluationSettings]]) -> tuple[EvaluationSettings, ...]:
    """The evaluations of several recipes, each in the languages of all of them."""
    return tuple(map(_in_all, zip(*asked, strict=True)))


def _in_all(asked: Sequence[EvaluationSettings]) -> EvaluationSettings:
    """One evaluation in the languages of all recipes."""
    every = dict.fromkeys(tag for each in asked for tag in each.languages)
    some = all(each.languages for each in asked)  # one without names means all of the corpus
    return asked[0].model_copy(update={"languages": tuple(every) if some else ()})


def load(
    path: Path | Mapping[str, Any], *, changes: Sequence[str] | Mapping[str, Any] = ()
) -> Sweep:
    """Read a sweep, a file or what would be in one; `--set a.b=c` changes win over it.

    Raises BadSetting naming the recipe, the place and what is allowed.
    """
    where = "the sweep" if isinstance(path, Mapping) else str(path)
    data = deepcopy(dict(path)) if isinstance(path, Mapping) else _read(path)
    for place, value in pairs(changes, "--set", "calibration.tokens=4096").items():
        varied = place.removeprefix("vary.")  # itself a place, which is a key of `vary`
        if varied != place and isinstance(data, dict):
            data["vary"] = {**(data.get("vary") or {}), varied: value}
        elif not recipe.put(data, place, value):
            raise BadSetting(f"--set {place}: there is no such place in the sweep.")
    return of(data, where=where)


def _read(path: Path) -> Any:
    try:
        return plain.load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, NotPlain) as error:
        first = str(error).split("\n")[0]
        raise BadSetting(f"the sweep {path} cannot be read: {first}.") from error


def of(data: Any, *, where: str = "the sweep") -> Sweep:
    """A checked sweep from plain data. Raises BadSetting."""
    asked = _mapping(_File, data, where)
    _evaluations(asked.evaluate, where)
    number = max(1, len(asked.recipes)) * math.prod(map(len, asked.vary.values()))
    if not 0 < number <= MOST:
        raise BadSetting(f"{where} has {number:,} recipes. It must have 1 to {MOST:,}: see vary.")
    keys = ("model", "calibration", "steps", "evaluate")
    base = {key: getattr(asked, key) for key in keys}
    found: dict[str, Entry] = {}
    for places in _all_places(asked):
        entry = _entry(base, places, where)
        if entry.fingerprint in found:
            twin = found[entry.fingerprint].label
            raise BadSetting(
                f"{where} has one recipe twice: {entry.label}, which is {twin}. Drop one of them."
            )
        found[entry.fingerprint] = entry
    return Sweep(tuple(found.values()))


def _all_places(asked: _File) -> Iterator[Places]:
    names = list(asked.vary)
    for partial in asked.recipes or ({},):
        for values in product(*asked.vary.values()):
            yield {**partial, **dict(zip(names, values, strict=True))}


def _entry(base: Mapping[str, Any], places: Places, where: str) -> Entry:
    data = deepcopy(dict(base))
    for place, value in places.items():
        if place.startswith("evaluate.") and not SCORED.fullmatch(place):
            raise BadSetting(
                f"{where}: {place} may not vary, as all recipes are held against the same dense "
                "scores. Of an evaluation only its languages may: evaluate.languages, or of a list "
                "evaluate.0.languages. Several evaluations may stand in a list, for every recipe."
            )
        if not recipe.put(data, place, deepcopy(value)):
            raise BadSetting(f"{where}: there is no place {place} in the recipe to vary.")
    words = ", ".join(f"{place}={value}" for place, value in places.items())
    at = f"{where} ({words})" if words else where
    evaluate = _evaluations(data.pop("evaluate"), at)
    plan = recipe.of(data, where=at)
    evaluate = tuple(_with_usual(each, plan, at) for each in evaluate)
    _check_once(evaluate, at)
    whole = {"recipe": plan.model_dump(mode="json"), "evaluate": dumped(evaluate)}
    return Entry(plan, evaluate, places, short(whole))


def _with_usual(asked: EvaluationSettings, plan: Recipe, where: str) -> EvaluationSettings:
    """An evaluation of what a model's head predicts, where nobody says which.

    Raises BadSetting where a step puts the head of a task on it.
    """
    if "on" in asked.model_fields_set:
        return asked
    if gets_head(plan):
        raise BadSetting(
            f"{where}: what is fine-tuned is scored on its task. Name it and labelled text, as in "
            "evaluate: {on: [ner], corpus: FOLDER}."
        )
    return asked.model_copy(update={"on": (usual_for(plan.model),)})


def _evaluations(data: Any, where: str) -> tuple[EvaluationSettings, ...]:
    """One evaluation or a list of some."""
    if not isinstance(data, list | tuple):
        return (_mapping(EvaluationSettings, data, f"{where}, evaluate"),)
    found = tuple(
        _mapping(EvaluationSettings, each, f"{where}, evaluate.{number}")
        for number, each in enumerate(data)
    )
    if not found:
        raise BadSetting(
            f"{where}: evaluate is an empty list. Name an evaluation, or leave it out."
        )
    return found


def _check_once(asked: Sequence[EvaluationSettings], where: str) -> None:
    """Raise BadSetting where two would score the same."""
    seen: set[tuple[str, str]] = set()
    for each in asked:
        for pair in ((name, each.corpus) for name in each.on):
            if pair in seen:
                raise BadSetting(
                    f"{where}: evaluate has {pair[0]} on {pair[1]} twice, and a run has one such "
                    "score of a language. Leave one out, or write a sweep for each."
                )
            seen.add(pair)


def dumped(asked: Sequence[EvaluationSettings]) -> JsonValue:
    """Evaluations as plain data: one as a mapping, as it is mostly written, several as a list."""
    found: list[JsonValue] = [each.model_dump(mode="json") for each in asked]
    return found[0] if len(found) == 1 else found


def shares_moments(plan: Recipe) -> bool:
    """Whether the first step reads moments of the dense model that others may read too."""
    return plan.steps[0].work.shares_moments


def gets_head(plan: Recipe) -> bool:
    """Whether a step puts another head on the model, so that it is scored as something else."""
    return any(KINDS.facts(step.kind).get("HEADS") for step in plan.steps)


def begun(plan: Recipe) -> Recipe | None:
    """The first steps of a recipe up to the last that trains and that others follow."""
    ends = [n for n, step in enumerate(plan.steps, 1) if _trains(step.kind)]
    ends = [n for n in ends if n < len(plan.steps)]
    return _first(plan, ends[-1]) if ends else None


def with_head(plan: Recipe) -> Recipe | None:
    """The first steps of a recipe up to the last that gives the model its head; None if none."""
    ends = [n for n, step in enumerate(plan.steps, 1) if KINDS.facts(step.kind).get("HEADS")]
    return _first(plan, ends[-1]) if ends else None


def head_of(plan: Recipe) -> str:
    """What the class of the model ends in by the last step that puts a head on it, if one does."""
    first = with_head(plan)
    return first.steps[-1].work.head if first else ""


def as_begun(plan: Recipe) -> Recipe:
    """A whole recipe as others have it that begin with all of its steps."""
    return _first(plan, len(plan.steps))


def going_on(plan: Recipe, first: Recipe, folder: Path) -> Recipe:
    """A recipe without its first steps, whose run is in a folder."""
    steps = plan.steps[len(first.steps) :]
    return plan.model_copy(update={"model": str(folder), "steps": steps})


def _trains(kind: str) -> bool:
    facts = KINDS.facts(kind)
    return bool(facts.get("RESUMES") or facts.get("HEADS"))


def _first(plan: Recipe, number: int) -> Recipe:
    """So many steps of a recipe, and the text that they look at."""
    steps = plan.steps[:number]
    own = all(KINDS.facts(step.kind).get("OWN_TEXT") for step in steps)
    calibration = CalibrationSettings() if own else plan.calibration
    return plan.model_copy(update={"steps": steps, "calibration": calibration})


def presses(plan: Recipe) -> bool:
    """Whether the first step presses sites, and so sees text of a calibration first."""
    return isinstance(plan.steps[0].work, LookingSettings)


def needs_gram(plan: Recipe) -> bool:
    """Whether the first step's method needs Gram matrices."""
    return plan.steps[0].work.needs_gram


def with_moments(plan: Recipe, folder: Path) -> Recipe:
    """The recipe, its first step reading a folder of moments."""
    return plan.first_but(moments=str(folder))


def single(plan: Recipe, language: str) -> Recipe:
    """The first step of a recipe in one language: as large as it is to see that language."""
    first = plan.steps[0].but(mixture="uniform", propagate="dense", moments=None)
    calibration = plan.calibration.model_copy(update={"languages": (language,)})
    return plan.model_copy(update={"calibration": calibration, "steps": (first,)})


def short(value: Any) -> str:
    """The fingerprint of a value, as long as names of folders need."""
    return fingerprint(value)[:DIGITS]


def _mapping(kind: type[T], data: Any, where: str) -> T:
    if not isinstance(data, dict):
        raise BadSetting(f"{where} must be a mapping with {', '.join(kind.model_fields)}.")
    return checked(kind, data, where)
