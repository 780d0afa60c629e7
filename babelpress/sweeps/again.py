"""Jobs on runs that a sweep has made: score one on other documents, repair one.

Tested in tests/sweeps/test_search.py and tests/sweeps/test_advice.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from babelpress.judge import scores
from babelpress.judge.evaluate import evaluate
from babelpress.judge.settings import EvaluationSettings
from babelpress.runs import manifest, recipe, run
from babelpress.runs.open import open_any
from babelpress.runs.recipe import Recipe
from babelpress.sweeps.plan import short
from babelpress.sweeps.setup import Setup
from babelpress.system.progress import Progress
from babelpress.text.settings import CalibrationSettings

REPAIRED = "repaired"  # folder of repaired runs
MOST = 2000  # steps of a repair, where time does not end it
BATCH = 2048  # tokens of a step: few, as minutes are few and machines small


@dataclass(frozen=True, slots=True)
class Rescore:
    """Score a model into a folder of its own."""

    model: str
    folder: Path
    asked: EvaluationSettings

    needs: tuple[str, ...] = ()
    size: None = None

    @property
    def name(self) -> str:
        return f"scored-{short([str(self.folder), self.asked.model_dump(mode='json')])}"

    @property
    def label(self) -> str:
        skipped = f" behind the first {self.asked.skip}" if self.asked.skip else ""
        return f"the scores of {self.model} on {self.asked.documents} documents{skipped}"

    def done(self, setup: Setup) -> bool:  # noqa: ARG002 - as of every job
        """Whether there are scores: the folder is of these settings and this model alone."""
        return bool(scores.read_results(self.folder))

    def do(self, setup: Setup, progress: Progress) -> None:
        score(self.model, self.folder, self.asked, setup.device, progress)


@dataclass(frozen=True, slots=True)
class Repair:
    """Repair a run, and score it."""

    plan: Recipe
    folder: Path
    asked: EvaluationSettings

    needs: tuple[str, ...] = ()
    size: None = field(default=None)

    @property
    def name(self) -> str:
        return f"{REPAIRED}-{self.folder.name}"

    @property
    def label(self) -> str:
        return f"the repair of {self.plan.model}"

    def done(self, setup: Setup) -> bool:  # noqa: ARG002 - as of every job
        return manifest.is_finished(self.folder) and bool(scores.read_results(self.folder))

    def do(self, setup: Setup, progress: Progress) -> None:
        run.do(self.plan, self.folder, device=setup.device, progress=progress)
        score(str(self.folder), self.folder, self.asked, setup.device, progress)


def recover_step(minutes: float) -> dict[str, Any]:
    """Short distillation from the dense model, languages drawn by what they lack, for so many
    minutes (0: 200 steps), as a step of a recipe.
    """
    step: dict[str, Any] = {"repair": "logits", "mixture": "lacking", "batch": BATCH}
    if minutes:
        step |= {"steps": MOST, "minutes": round(minutes, 3)}
    return {"recover": step}


def repair(
    out: Path,
    model: str,
    steps: Sequence[Mapping[str, Any]],
    calibration: CalibrationSettings,
    asked: EvaluationSettings,
) -> Repair:
    """A model with steps of which one repairs it, in a folder of a search that goes by them."""
    data: Mapping[str, Any] = {
        "model": model,
        "calibration": calibration.model_dump(mode="json"),
        "steps": [dict(step) for step in steps],
    }
    plan = recipe.of(data, where=f"the repair of {model}")
    return Repair(plan, out / REPAIRED / short(data), asked)


def score(
    model: str, folder: Path, asked: EvaluationSettings, device: str, progress: Progress
) -> None:
    """Score a model into a folder; a run goes by its place in the search."""
    opened = open_any(model, device=device)
    if Path(model) == folder:
        opened = replace(opened, name=f"{folder.parent.name}/{folder.name}")
    evaluate(opened, folder, asked, progress=progress)
