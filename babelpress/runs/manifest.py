"""The manifest of a run: what is needed to do it again, what was done, and its cost.

Read and written here and nowhere else. A run that began with a finished run knows what was done to
that one too: its chain goes back to the model that everything began with.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, ValidationError

from babelpress.errors import BadRun
from babelpress.runs.recipe import Recipe
from babelpress.steps import KINDS, report_of
from babelpress.steps._kind import MixtureRow, ModelRow, StepReport
from babelpress.system import plain
from babelpress.system.files import read_json, write_sealed
from babelpress.system.plain import NotPlain

CONFIG = "config.json"  # of a model folder
FILE = "manifest.json"  # of a run; written last, so that its run is finished
RECIPE = "recipe.yaml"
T = TypeVar("T")
APART = {"cost", "files"}  # what the manifest has once, not for every step


def _report(row: Any) -> Any:
    return report_of(row) if isinstance(row, dict) else row


Report = Annotated[SerializeAsAny[StepReport], BeforeValidator(_report)]


class Manifest(BaseModel):
    """A finished run.

    `before` are the steps of the run that it began with and `earlier` the recipes that they are of,
    `files` the hashes of what came with it,
    `prediction` how predicted damage ranks languages beside the measured change, by evaluation and
    corpus.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    recipe: dict[str, Any] = Field(default_factory=dict)
    earlier: tuple[dict[str, Any], ...] = ()
    before: tuple[Report, ...] = ()
    steps: tuple[Report, ...] = Field(min_length=1)
    ledger: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    cost: dict[str, Any] = Field(default_factory=dict)
    surroundings: dict[str, Any] = Field(default_factory=dict)
    prediction: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @property
    def chain(self) -> tuple[StepReport, ...]:
        """All steps back to the model that everything began with."""
        return (*self.before, *self.steps)

    @property
    def costs(self) -> list[dict[str, float]]:
        """What each step of the whole chain took, in its order; none where it is not known of all.

        Of a run that was made while none kept what those before it took, nothing is known.
        """
        if self.before and "before" not in self.cost:
            return []
        return [*self.cost.get("before", ()), *self.cost.get("steps", ())]

    @property
    def recipes(self) -> tuple[dict[str, Any], ...]:
        """The recipes of the whole chain, the last one that of this run."""
        return (*self.earlier, self.recipe)

    @property
    def origin(self) -> ModelRow:
        """The model that everything began with."""
        return self.chain[0].model

    @property
    def dense(self) -> ModelRow | None:
        """What its scores are held against: the model that got its head, or that it began with.

        None where the last step gave the head: no model before it was scored as that is.
        """
        heads = [n for n, each in enumerate(self.chain) if KINDS.facts(each.kind).get("HEADS")]
        since = self.chain[heads[-1] + 1 if heads else 0 :]
        return since[0].model if since else None

    @property
    def shares(self) -> dict[str, float]:
        """The shares of languages in the last step that has any."""
        return self.mixture.shares

    @property
    def mixture(self) -> MixtureRow:
        """The mixture of the last step that has one."""
        mixtures = (step.mixture for step in reversed(self.chain))
        return next((each for each in mixtures if each.policy or each.shares), MixtureRow())

    @property
    def carried(self) -> list[str]:
        """The tensors that were carried over because the model's class does not know them."""
        return self.steps[-1].carried

    @property
    def tokenizer(self) -> str:
        """The class of the tokenizer that the files no longer name, empty where they all do."""
        return next((step.tokenizer for step in self.chain if step.tokenizer), "")

    @property
    def calibration(self) -> dict[str, Any]:
        """The text that the last step looked at which looked at any."""
        return next((step.calibration for step in reversed(self.chain) if step.calibration), {})

    def written(self) -> dict[str, Any]:
        """As it is written: costs and hashes once, not for every step."""
        whole = self.model_dump(mode="json", exclude_unset=True)
        for part in {"before", "steps"} & set(whole):
            whole[part] = [{k: v for k, v in row.items() if k not in APART} for row in whole[part]]
        return whole


def is_run(folder: Path) -> bool:
    """Whether a folder is a run, finished or not: by a manifest or a recipe that is ours.

    Other programs have files of these names too, beside a config.json that no run has there.
    """
    if (folder / CONFIG).exists():
        return False
    return _is_manifest(folder / FILE) or _is_recipe(folder / RECIPE)


def is_finished(folder: Path) -> bool:
    """Whether a folder has the manifest of a run; a damaged one of a run counts."""
    return (folder / FILE).exists() and is_run(folder)


def _is_manifest(path: Path) -> bool:
    """Whether a file tells of steps, each done to a model, as every manifest of a run."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False  # or damaged: then the recipe beside it decides
    steps = found.get("steps") if isinstance(found, dict) else None
    return isinstance(steps, list) and bool(steps) and all(map(_is_step, steps))


def _is_step(row: Any) -> bool:
    model = row.get("model") if isinstance(row, dict) else None
    return isinstance(model, dict) and isinstance(model.get("name"), str)


def _is_recipe(path: Path) -> bool:
    """Whether a file says which steps are done to which model, as every recipe of ours."""
    try:
        found = plain.load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, NotPlain):
        return False
    return (
        isinstance(found, dict)
        and set(found) <= set(Recipe.model_fields)
        and isinstance(found.get("model"), str)
        and isinstance(found.get("steps"), list)
    )


def read(run: Path) -> Manifest:
    """The manifest of a finished run. Raises BadRun where there is none, or a damaged one."""
    path = run / FILE
    if not path.exists():
        raise BadRun(f"{run} has no {FILE}: it is no finished run. Finish it first.")
    return _checked(path, "manifest of a run", Manifest.model_validate)


def read_report(path: Path) -> StepReport:
    """The report of a finished step. Raises BadRun for a damaged one."""
    return _checked(path, "report of a step", report_of)


def _checked(path: Path, what: str, made: Callable[[Any], T]) -> T:
    """What a file holds, made into what it should be. Raises BadRun naming the file."""
    found = read_json(path)
    try:
        return made(found)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"])) or "the whole"
        raise BadRun(f"{path} is no {what}: {place}: {problem['msg']}.") from error
    except BadRun as error:
        raise BadRun(f"{path} is no {what} that can be read here: {error}") from error


def read_if_there(folder: Path) -> Manifest | None:
    """The same; None where a folder has none, as one with scores of a dense model."""
    return read(folder) if is_finished(folder) else None


def write(run: Path, manifest: Manifest) -> None:
    """Write a manifest, sealed, whole or not at all."""
    write_sealed(run / FILE, manifest.written())
