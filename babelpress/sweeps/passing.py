"""One pass: recipes on one model and text, pressed together from moments that are never stored.

The dense model walks over the text once. The moments of a block are taken, and every recipe presses
that block from them in its turn; then they are dropped. So a block's moments are in memory, what
one recipe needs to press a block, and the hidden states of the text. What is pressed lies on the
disk, in temporary files of the run, until all blocks are and the run is written.

Each recipe is done as if it were alone (`runs/run.py`) and stops where it wants the moments of the
next block; its run is, byte for byte, what it would be from moments of a folder, but for its cost
and for where its moments came from. One that fails stops no other.

Tested in tests/sweeps/test_one_pass.py.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from babelpress.errors import BabelpressError
from babelpress.models.walk import Walk
from babelpress.models.weights import weights_hash
from babelpress.moments.gather import gather_dense
from babelpress.moments.store import BlockMoments
from babelpress.runs import run
from babelpress.runs.open import open_any
from babelpress.runs.recipe import Recipe
from babelpress.steps._looking import Offered, offering
from babelpress.steps._pressing import PressingSettings
from babelpress.sweeps.beginnings import Begin
from babelpress.sweeps.folders import once
from babelpress.sweeps.plan import needs_gram, short
from babelpress.sweeps.setup import Setup, Tried
from babelpress.system.in_turn import Take, Work, in_turn
from babelpress.system.progress import Progress, remark
from babelpress.text.draw import draw
from babelpress.text.settings import SELF, CalibrationSettings

Pressing = Callable[[Recipe, Path], None]  # does a recipe in a folder

PRESSED = "pressed"  # in the folder of a sweep: runs of a pass, until each is scored
EXPECTED = (BabelpressError, OSError, RuntimeError, MemoryError)  # all others are faults of ours


@dataclass(frozen=True, slots=True)
class Pass:
    """Press recipes of one model and text; `plans` are those that are to be done, by name."""

    model: str
    asked: CalibrationSettings
    plans: tuple[tuple[str, Recipe], ...] = ()
    size: Tried | None = None
    begun: Begin | None = None

    @classmethod
    def of(cls, plan: Recipe, begun: Begin | None) -> "Pass | None":
        """The pass that a recipe can be done in, which goes on from what is begun."""
        return None if why_not(plan) else cls(plan.model, plan.calibration, begun=begun)

    @property
    def name(self) -> str:
        model = self.begun.name if self.begun else self.model
        data = {"model": model, "calibration": self.asked.model_dump(mode="json")}
        return f"passes/{short(data)}"

    @property
    def largest(self) -> Recipe:
        """One of its recipes that takes no less memory than the others: with Gram matrices."""
        plans = [plan for _, plan in self.plans]
        return next(filter(needs_gram, plans), plans[0])

    @property
    def label(self) -> str:
        return f"one pass over {self.model} for {len(self.plans)} recipes"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.begun.name,) if self.begun else ()

    def done(self, setup: Setup) -> bool:
        return all(folder_of(setup.out, name).exists() for name, _ in self.plans)

    def do(self, setup: Setup, progress: Progress) -> None:
        todo = [(n, plan) for n, plan in self.plans if not folder_of(setup.out, n).exists()]
        if there := len(self.plans) - len(todo):
            remark(progress, f"one pass: {there} of {len(self.plans)} recipes are pressed already")

        def work(name: str, plan: Recipe) -> Callable[[Pressing], None]:
            folder = folder_of(setup.out, name)
            return lambda press: once(folder, lambda new: press(plan, new), _remarks(progress))

        plans = [plan for _, plan in todo]
        errors = press_together(plans, [work(*each) for each in todo], setup.device, progress)
        for (name, _), error in zip(todo, errors, strict=True):
            if error is not None:
                remark(progress, f"one pass: {name} failed, and is tried again alone: {error}")


def _remarks(progress: Progress) -> Progress:
    """What a recipe has to say, without its bars: the pass has one."""

    def watch(what: str, done: int, total: int) -> None:
        if not total:
            progress(what, done, total)

    return watch


def together(wanted: Iterable[tuple[Pass, str, Recipe]]) -> list[Pass]:
    """The passes of recipes that are to be done, each with all of its own."""
    plans: dict[str, list[tuple[str, Recipe]]] = {}
    passes: dict[str, Pass] = {}
    for each, name, plan in wanted:
        passes.setdefault(each.name, each)
        plans.setdefault(each.name, []).append((name, plan))
    return [replace(each, plans=tuple(plans[name])) for name, each in passes.items()]


def folder_of(out: Path, name: str) -> Path:
    """Where a pass leaves a run."""
    return out / PRESSED / name


def free(out: Path, name: str) -> None:
    """Remove what a pass left of a recipe that is done."""
    shutil.rmtree(folder_of(out, name), ignore_errors=True)


def why_not(plan: Recipe) -> str:
    """Why a recipe cannot be done in one pass with others; nothing where it can."""
    work = plan.steps[0].work
    if not isinstance(work, PressingSettings):
        return f"its first step is {plan.steps[0].kind}, which does not press by a method"
    if work.moments is not None:
        return "its moments are named"
    if not work.shares_moments:
        return "it presses each block on what the pressed blocks before pass on (propagate dense)"
    if work.looks_twice:
        return "it looks at all blocks before it presses one (a mixture or allocation by damage)"
    return "the model writes its text itself" if plan.calibration.corpus == SELF else ""


def press_alone(plan: Recipe, out: Path, device: str, progress: Progress) -> None:
    """Do one recipe in a folder as a pass does it. Raises what the recipe raises."""
    (error,) = press_together([plan], [lambda press: press(plan, out)], device, progress)
    if error is not None:
        raise error


def press_together(
    plans: Sequence[Recipe],
    works: Sequence[Callable[[Pressing], None]],
    device: str,
    progress: Progress,
) -> list[Exception | None]:
    """Have every work do its recipe, all on one walk over the text; what each raised, or None.

    All recipes have the same model and calibration. A work is given what does its recipe.
    """
    if not plans:
        return []
    opened = open_any(plans[0].model, device=device)
    found, walk = draw(opened, plans[0].calibration), Walk(opened.model)
    fingerprint, gram = weights_hash(opened.model), any(map(needs_gram, plans))

    def moments() -> Iterator[BlockMoments]:
        progress("one pass: block", 0, len(walk.blocks))
        for index, block in gather_dense(walk, found.blocks, gram=gram):
            yield block
            del block
            progress("one pass: block", index + 1, len(walk.blocks))

    def taking(work: Callable[[Pressing], None]) -> Work[BlockMoments]:
        def do(take: Take[BlockMoments]) -> None:
            offered = Offered(fingerprint, tuple(found.blocks), found.manifest, gram, take)

            def press(plan: Recipe, out: Path) -> None:
                with offering(offered):
                    run.do(plan, out, device=device, offload=True, progress=_remarks(progress))

            work(press)

        return do

    errors = in_turn(moments(), [taking(work) for work in works])
    for error in errors:
        if error is not None and not isinstance(error, EXPECTED):
            raise error
    return errors
