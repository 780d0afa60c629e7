"""One pass: recipes on one model and text, pressed together from moments that are never stored.

The dense model walks over the text once. The moments of a block are taken, and every recipe presses
that block from them in its turn; then they are dropped. So a block's moments are in memory, what
one recipe needs to press a block, and the hidden states of the text. What is pressed lies on the
disk, in temporary files of the run, until all blocks are and the run is written.

Each recipe is done as if it were alone (`runs/run.py`) and stops where it wants the moments of the
next block; its run is, byte for byte, what it would be from moments of a folder, but for its cost
and for where its moments came from. One that fails stops no other. Ctrl-C ends the pass where the
recipe that is at work has pressed its block, or saved its model.

    OUT/pressed/FINGERPRINT/       a run, until it is scored
    OUT/pressed/FINGERPRINT.json   why a recipe cannot be done, until that is told
    OUT/passes/KEY.json            what the pass cost: its walk is in no recipe's own seconds

Tested in tests/sweeps/test_one_pass.py.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from babelpress.errors import BabelpressError
from babelpress.models.names import resolve
from babelpress.models.open import Opened
from babelpress.models.walk import Walk
from babelpress.models.weights import weights_hash
from babelpress.moments.gather import gather_dense
from babelpress.moments.store import BlockMoments
from babelpress.runs import run
from babelpress.runs.open import open_any
from babelpress.runs.places import place_of
from babelpress.runs.recipe import Recipe
from babelpress.steps._looking import Offered, offering
from babelpress.steps._pressing import PressingSettings
from babelpress.sweeps.beginnings import Begin
from babelpress.sweeps.folders import once
from babelpress.sweeps.plan import needs_gram, short
from babelpress.sweeps.setup import Setup, Tried
from babelpress.system.cost import measured
from babelpress.system.files import read_json, write_json
from babelpress.system.in_turn import Take, Work, in_turn
from babelpress.system.memory import short_for_now, used
from babelpress.system.progress import Progress, ago, remark
from babelpress.text.calibration import CalibrationSet
from babelpress.text.draw import draw
from babelpress.text.settings import LOSS, SELF, CalibrationSettings

Pressing = Callable[[Recipe, Path], None]  # does a recipe in a folder

PRESSED = "pressed"  # in the folder of a sweep: runs of a pass, until each is scored
EXPECTED = (BabelpressError, OSError, RuntimeError, MemoryError)  # all others are faults of ours

MAPS = Path("/proc/sys/vm/max_map_count")
USUAL_MAPS = 65_530  # what Linux allows where nobody says otherwise
OTHER_MAPS = 16  # of a recipe: the files of its open model, the stacks of its threads


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
    def model_bytes(self) -> int:
        """How large its model lies on the disk; 0 where it is not here yet."""
        if self.begun and not Path(self.model).exists():
            return 0
        place = Path(resolve(place_of(self.model)))
        return sum(path.stat().st_size for path in place.glob("*.safetensors"))

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
        works = [work(*each) for each in todo]
        with measured() as cost:
            errors = press_together(plans, works, setup.device, progress)
        for (name, _), error in zip(todo, errors, strict=True):
            if error is not None and _is_final(error):
                refuse(setup.out, name, error)
            elif error is not None:
                remark(progress, f"one pass: {name} failed, and is tried again alone: {error}")
        self._note(setup.out, [name for name, _ in todo], cost)
        remark(
            progress,
            f"one pass: {len(todo)} recipes in {ago(cost['seconds'])}, with up to "
            f"{cost['peak_memory_mib']:,.0f} MiB of memory",
        )

    def _note(self, out: Path, names: Sequence[str], cost: Mapping[str, float]) -> None:
        """Write what it cost, beside what it cost before it was killed or had other recipes."""
        path = out / f"{self.name}.json"
        before = read_json(path)["passes"] if path.exists() else []
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"passes": [*before, {"recipes": [*names], "cost": dict(cost)}]})


def _is_final(error: Exception) -> bool:
    """Whether to do a recipe again would end the same; not where the system refused something."""
    return isinstance(error, BabelpressError) and not isinstance(error.__cause__, OSError)


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


def refuse(out: Path, name: str, error: Exception) -> None:
    """Leave why a recipe cannot be done to the job that tells it."""
    path = _refusal(out, name)
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"error": str(error)})


def refused(out: Path, name: str) -> str:
    """Why a pass could not do a recipe, once; nothing where it could, or may now."""
    path = _refusal(out, name)
    if not path.exists():
        return ""
    error = str(read_json(path)["error"])
    path.unlink()
    return error


def forget_refused(out: Path) -> None:
    """Let a new attempt try what was refused before."""
    for path in (out / PRESSED).glob("*.json"):
        path.unlink()


def _refusal(out: Path, name: str) -> Path:
    return out / PRESSED / f"{name}.json"


def why_not(plan: Recipe) -> str:
    """Why a recipe cannot be done in one pass with others; nothing where it can."""
    first, *others = plan.steps
    if others:
        return "it has steps after its first"
    work = first.work
    if not isinstance(work, PressingSettings):
        return f"its first step is {first.kind}, which does not press by a method"
    if work.moments is not None:
        return "its moments are named"
    if work.looks_twice:
        return "it looks at all blocks before it presses one (a searched mixture or an allocation)"
    if not work.shares_moments:
        return "it presses each block on what the pressed blocks before pass on (propagate dense)"
    if plan.calibration.weigh == LOSS:
        return "the loss weighs its tokens, which takes a pass back through all blocks"
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

    All recipes have the same model and calibration. A work is given what does its recipe. Where
    they are more than can hold their models on the disk at once, each group has a walk of its own.
    """
    if not plans:
        return []
    errors: list[Exception | None] = []
    with short_for_now():
        opened = open_any(plans[0].model, device=device)
        found, most = draw(opened, plans[0].calibration), at_once(opened)
        for start in range(0, len(plans), most):
            if len(plans) > most:
                last = min(start + most, len(plans))
                remark(progress, f"one pass: recipes {start + 1} to {last} of {len(plans)}")
            some = slice(start, start + most)
            gram = any(map(needs_gram, plans[some]))
            errors += _walk_once(opened, found, works[some], gram, device, progress)
    for error in errors:
        if error is not None and not isinstance(error, EXPECTED):
            raise error
    return errors


def at_once(opened: Opened) -> int:
    """How many recipes may hold pressed models: the system counts the mapped files of a process.

    Every parameter may be a file of its own; a quarter of what is allowed is left to all else.
    """
    try:
        allowed = int(MAPS.read_text())
    except (OSError, ValueError):
        allowed = USUAL_MAPS
    each = sum(1 for _ in opened.model.parameters()) + OTHER_MAPS
    return max(1, allowed * 3 // 4 // each)


def opened_bytes(model: str, device: str) -> int:
    """Memory of an open model whose weights are mapped, as every recipe of a pass has one."""
    first = open_any(model, device=device)
    before = used()
    second = open_any(model, device=device)
    found = used() - before
    del first, second
    return max(0, found)


def _walk_once(
    opened: Opened,
    found: CalibrationSet,
    works: Sequence[Callable[[Pressing], None]],
    gram: bool,
    device: str,
    progress: Progress,
) -> list[Exception | None]:
    fingerprint, walk = weights_hash(opened.model), Walk(opened.model)

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

    return in_turn(moments(), [taking(work) for work in works])
