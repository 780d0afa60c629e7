"""What recipes of a sweep begin with: their first steps up to the last that trains, done once.

Training costs more than all that follows it, so recipes that begin with the same one share it, as
they share moments; its weights are kept.

Tested in tests/sweeps/test_begun.py.
"""

from dataclasses import dataclass
from pathlib import Path

from babelpress.runs import run
from babelpress.runs.places import BEGUN
from babelpress.runs.recipe import Recipe
from babelpress.sweeps.folders import once
from babelpress.sweeps.plan import begun, going_on, short
from babelpress.sweeps.setup import Setup, Tried
from babelpress.system.progress import Progress


@dataclass(frozen=True, slots=True)
class Begin:
    """Do the first steps of recipes, the last of which trains."""

    plan: Recipe
    size: Tried | None = None

    @classmethod
    def of(cls, plan: Recipe) -> "Begin | None":
        """What a recipe begins with, before its other steps; None where it does all at once."""
        return cls(found) if (found := begun(plan)) else None

    @property
    def name(self) -> str:
        return f"{BEGUN}/{short(self.plan.model_dump(mode='json'))}"

    @property
    def label(self) -> str:
        kinds = ", ".join(step.kind for step in self.plan.steps)
        seed = getattr(self.plan.steps[-1].work, "seed", self.plan.calibration.seed)
        return f"{kinds} of {self.plan.model}, seed {seed}, which recipes begin with"

    @property
    def needs(self) -> tuple[str, ...]:
        before = Begin.of(self.plan)
        return (before.name,) if before else ()

    def folder(self, out: Path) -> Path:
        """Where the run goes."""
        return out / self.name

    def done(self, setup: Setup) -> bool:
        return self.folder(setup.out).exists()

    def do(self, setup: Setup, progress: Progress) -> None:
        plan = rest(self.plan, setup.out)

        def make(new: Path) -> None:
            run.do(plan, new, device=setup.device, progress=progress)

        once(self.folder(setup.out), make, progress)


def in_order(begin: Begin | None) -> list[Begin]:
    """What must be begun for something, that itself last."""
    return [*in_order(Begin.of(begin.plan)), begin] if begin else []


def rest(plan: Recipe, out: Path) -> Recipe:
    """A recipe as it goes on from what it begins with; as it is where it does all at once."""
    first = Begin.of(plan)
    return going_on(plan, first.plan, first.folder(out)) if first else plan
