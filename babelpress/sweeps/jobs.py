"""The jobs of a sweep: begin, score the dense model, see each language, merge, press and score.

With one pass recipes are pressed together (`passing.py`) instead of seeing languages and merging.

    OUT/sizes/KEY.json        what a dry run of a recipe found: the memory of jobs like it
    OUT/begun/KEY/            a run of the first steps of recipes, up to the last that trains
    OUT/dense/KEY/            scores of a dense model
    OUT/parts/KEY/LANGUAGE/   moments of one language, until they are merged
    OUT/moments/KEY/          moments of all languages of a calibration
    OUT/pressed/FINGERPRINT/  a run that was pressed in one pass with others, until it is scored
    OUT/runs/FINGERPRINT/     an ordinary run with its scores; its weights go if nobody keeps them
    OUT/results/NAME.jsonl    the rows of a recipe or a dense model, written last: then it is done

A job makes its folder under a temporary name and renames it when it is whole (folders.py). So it
can be killed and done again anywhere, twice at once too, without a lock; where nobody else can be
at it any more, the next attempt goes on where the lost one ended.

What presses a model that a step gave its head is held against that model: it is the dense one.

Tested in tests/sweeps/test_plan.py.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from babelpress import evals
from babelpress.errors import BabelpressError, BadRun
from babelpress.judge.evaluate import evaluate
from babelpress.judge.settings import EvaluationSettings
from babelpress.press import codes
from babelpress.runs import manifest, run
from babelpress.runs.estimate import estimate
from babelpress.runs.open import open_any, ranges_of
from babelpress.runs.recipe import Recipe
from babelpress.sweeps import passing
from babelpress.sweeps.beginnings import Begin, rest
from babelpress.sweeps.folders import rows, scored_once
from babelpress.sweeps.found import DENSE, RUNS
from babelpress.sweeps.looks import Merge
from babelpress.sweeps.passing import Pass
from babelpress.sweeps.plan import Entry, as_begun, dumped, short, with_moments
from babelpress.sweeps.setup import Job, Setup
from babelpress.system.claims import LOCK_NAME
from babelpress.system.files import link, read_json, write_json
from babelpress.system.progress import Progress, silent
from babelpress.text.mixtures import WHILE_PRESSING


@dataclass(frozen=True, slots=True)
class Size:
    """Try the first block of a recipe, to know the memory of jobs like it.

    Neither seeds nor shares decide memory: recipes that differ only there have one size. `others`
    are those that wait beside it in a pass, each with an open model; one of each method is tried.
    """

    plan: Recipe
    moments: Merge | None = None
    size: "Size | None" = None
    others: tuple[Recipe, ...] = ()

    @property
    def name(self) -> str:
        if self.others:
            return f"sizes/{short([Size(each).name for each in (self.plan, *self.others)])}"
        data = self.plan.model_dump(mode="json")
        data["calibration"]["seed"] = 0
        for work in (work for step in data["steps"] for work in step.values()):
            if "seed" in work:
                work["seed"] = 0
            if "mixture" in work:
                work["mixture"] = (
                    asked if (asked := work["mixture"]) in WHILE_PRESSING else "uniform"
                )
        return f"sizes/{short(data)}"

    @property
    def label(self) -> str:
        return f"the size of {'a pass' if self.others else 'a recipe'} on {self.plan.model}"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.moments.name,) if self.moments else ()

    def memory(self, out: Path) -> int:
        """Bytes at the worst moment; 0 where nobody found out."""
        try:
            return int(read_json(out / f"{self.name}.json")["memory_bytes"])
        except (BadRun, KeyError, TypeError, ValueError):
            return 0

    def done(self, setup: Setup) -> bool:
        return self.memory(setup.out) > 0

    def do(self, setup: Setup, progress: Progress) -> None:
        plan = self.plan
        if self.moments:  # they tell the languages; to try, the text of one is enough
            few = {"languages": self.moments.looks[0].languages[:1]}
            plan = with_moments(plan, self.moments.folder(setup.out)).model_copy(
                update={"calibration": plan.calibration.model_copy(update=few)}
            )
        tried = {_method(each): each for each in (*self.others, plan)}
        steps = [s for each in tried.values() for s in estimate(each, device=setup.device)]
        most = max(step.memory_bytes for step in steps)
        if self.others:
            most += len(self.others) * passing.opened_bytes(plan.model, setup.device)
        path = setup.out / f"{self.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"memory_bytes": most})
        progress("size", 1, 1)


def _method(plan: Recipe) -> tuple[str, str]:
    step = plan.steps[-1]
    return step.kind, getattr(step.work, "method", "")


@dataclass(frozen=True, slots=True)
class Score:
    """Score a dense model; where recipes have begun with it, `begun` is its run."""

    model: str
    evaluate: tuple[EvaluationSettings, ...]
    size: Size | None = None
    begun: Begin | None = None

    @property
    def key(self) -> str:
        return short({"model": self.called, "evaluate": dumped(self.evaluate)})

    @property
    def called(self) -> str:
        """The model, wherever the sweep lies."""
        return self.begun.name if self.begun else self.model

    @property
    def name(self) -> str:
        return f"dense-{self.key}"

    @property
    def label(self) -> str:
        return f"the scores of {self.called}"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.begun.name,) if self.begun else ()

    def done(self, setup: Setup) -> bool:
        return setup.shelf.get(self.name) is not None

    def do(self, setup: Setup, progress: Progress) -> None:
        folder = setup.out / DENSE / self.key

        def make(new: Path) -> None:
            _score(self.model, new, self.evaluate, setup, progress, name=self.called)

        scored_once(folder, make, progress)
        setup.shelf.put(self.name, rows(folder))


@dataclass(frozen=True, slots=True)
class Press:
    """Do a recipe and score what it made.

    `begun` is what it begins with, if anything; `moments` are those of its next step, if shared and
    stored, `passed` is the pass that takes those that are not; `alone` says why it is in none that
    was asked for. `scored` is the dry run of nothing but scoring, once the pass has left its run.
    """

    entry: Entry
    moments: Merge | None
    size: Size | None = None
    begun: Begin | None = None
    passed: Pass | None = None
    alone: str = ""
    scored: Size | None = None

    @property
    def name(self) -> str:
        return self.entry.fingerprint

    @property
    def label(self) -> str:
        return self.entry.label

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(each.name for each in (self.begun, self.moments, self.passed) if each)

    @property
    def copies(self) -> bool:
        """Whether all of the recipe is begun, so that nothing is left but to copy it."""
        return self.begun is not None and self.begun.plan == as_begun(self.entry.recipe)

    def folder(self, out: Path) -> Path:
        """Where the run goes."""
        return out / RUNS / self.name

    def done(self, setup: Setup) -> bool:
        kept = not setup.keep_models or (self.folder(setup.out) / "model").exists()
        return kept and setup.shelf.get(self.name) is not None

    def do(self, setup: Setup, progress: Progress) -> None:
        folder = self.folder(setup.out)
        if setup.keep_models and not (folder / "model").exists():
            shutil.rmtree(folder, ignore_errors=True)

        def make(new: Path) -> None:
            self._press(new, setup, progress)
            _score(str(new), new, self.entry.evaluate, setup, progress, name=f"{RUNS}/{self.name}")
            if not setup.keep_models:
                for heavy in ("model", codes.FOLDER):
                    shutil.rmtree(new / heavy, ignore_errors=True)

        scored_once(folder, make, progress)
        mine = {"fingerprint": self.name, "places": self.entry.places}
        setup.shelf.put(self.name, [{**row, **mine} for row in rows(folder)])

    def _press(self, new: Path, setup: Setup, progress: Progress) -> None:
        """What is not begun yet; where others did all of it already, what they made."""
        ignore = shutil.ignore_patterns(LOCK_NAME)
        if (pressed := passing.folder_of(setup.out, self.name)).exists():
            shutil.copytree(pressed, new, ignore=ignore, copy_function=link, dirs_exist_ok=True)
            return
        if self.begun and self.copies:
            shutil.copytree(self.begun.folder(setup.out), new, ignore=ignore, dirs_exist_ok=True)
            return
        plan = rest(self.entry.recipe, setup.out)
        if self.passed:
            if why := passing.refused(setup.out, self.name):
                raise BabelpressError(why)
            passing.press_alone(plan, new, setup.device, progress)
            return
        if self.moments:
            plan = with_moments(plan, self.moments.folder(setup.out))
        run.do(plan, new, device=setup.device, progress=progress)


def memory(job: Job, out: Path) -> int:
    """Bytes that a job takes at its worst moment; 0 where nobody found out."""
    if isinstance(job, Merge):
        return job.memory(out)
    if isinstance(job, Press) and job.scored and passing.folder_of(out, job.name).exists():
        return job.scored.memory(out) or (job.size.memory(out) if job.size else 0)
    return job.size.memory(out) if job.size else 0


def attempt(job: Job, setup: Setup, progress: Progress = silent) -> str:
    """Do a job; what went wrong in one line, or nothing.

    Out of memory and broken libraries are RuntimeErrors; anything else is a fault of ours.
    """
    try:
        job.do(setup, progress)
    except passing.EXPECTED as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _score(
    model: str,
    out: Path,
    asked: Sequence[EvaluationSettings],
    setup: Setup,
    progress: Progress,
    *,
    name: str,
) -> None:
    """Score a model into a folder; of a dense one, only what asks for no calibration."""
    pressed = manifest.is_finished(out)
    opened = replace(open_any(model, device=setup.device), name=name)
    for each in asked:
        on = tuple(name for name in each.on if pressed or not evals.facts(name).needs_ranges)
        if on:
            ranges = ranges_of(out) if any(evals.facts(name).needs_ranges for name in on) else None
            mine = each.model_copy(update={"on": on})
            evaluate(opened, out, mine, ranges=ranges, progress=progress)
