"""Do a sweep: which jobs it takes, in what order, and what came of them.

Every job says which others it needs. Hands do jobs, here or on other machines, in any order that
respects this; a job that fails takes along only those that need it. Nothing but files tells what
is done, so the same call after any death does what is missing.

Tested in tests/sweeps/test_plan.py.
"""

import json
import shutil
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from babelpress import evals
from babelpress.judge import scorable
from babelpress.judge.settings import EvaluationSettings
from babelpress.runs import fits
from babelpress.runs.places import BEGUN
from babelpress.runs.recipe import Recipe
from babelpress.sweeps import sharing
from babelpress.sweeps.beginnings import Begin, in_order, rest
from babelpress.sweeps.found import DENSE, RESULTS, RUNS
from babelpress.sweeps.jobs import Press, Score, Size, attempt
from babelpress.sweeps.looks import Look, Merge
from babelpress.sweeps.passing import PRESSED, forget_refused, free, together
from babelpress.sweeps.plan import (
    Sweep,
    head_of,
    in_all,
    with_head,
)
from babelpress.sweeps.results import Row
from babelpress.sweeps.setup import Hands, Job, Setup
from babelpress.system.claims import held, leave_partials, remove_partials
from babelpress.system.files import write_text
from babelpress.system.progress import Progress, ago, remark, silent


class Here:
    """One job after another in this process, in the order given."""

    apart = sized = False

    def __init__(self, setup: Setup, progress: Progress = silent):
        self._setup, self._progress = setup, progress
        self._given: deque[Job] = deque()

    def give(self, job: Job) -> None:
        self._given.append(job)

    def take(self) -> tuple[Job, str]:
        job = self._given.popleft()
        return job, attempt(job, self._setup, self._progress)


@dataclass(frozen=True, slots=True)
class Swept:
    """What came of a sweep: rows in the order of its recipes, and errors by their fingerprints.

    `unscored` are errors of dense models, `unsized` of dry runs; `skipped` recipes were there
    before. `alone` says of recipes why they were not in one pass that was asked for.
    """

    rows: list[Row]
    failed: dict[str, str]
    unscored: dict[str, str]
    unsized: dict[str, str]
    skipped: int
    alone: dict[str, str]


def do(sweep: Sweep, setup: Setup, hands: Hands, *, progress: Progress = silent) -> Swept:
    """Do what is missing of a sweep and give all its results, which go to OUT/results.jsonl too.

    Raises BadRun where another process holds the folder. A recipe that fails stops no other; it
    has no rows, and its error is in `failed` by its fingerprint.
    """
    with held(setup.out):
        _tidy(setup.out)
        unfit, fit = fitting(sweep, setup)
        jobs = missing(fit, setup, apart=hands.apart, sized=hands.sized) if fit.entries else []
        todo = sum(isinstance(job, Press) for job in jobs) + len(unfit)
        if there := len(sweep.entries) - todo:
            remark(progress, f"resuming: {there} of {len(sweep.entries)} recipes")

        def ended(job: Job, still: Collection[str]) -> None:
            if isinstance(job, Merge):
                merges = (each for each in jobs if isinstance(each, Merge))
                job.free(setup.out, [each for each in merges if each.name in still])
            elif isinstance(job, Press):
                free(setup.out, job.name)

        failed = {**unfit, **work_off(jobs, hands, progress, ended=ended)}
        broken = {type(job) for job in jobs if job.name in failed}
        for name in ([] if broken & {Look, Merge} else ["parts"]) + ([] if broken else [PRESSED]):
            shutil.rmtree(setup.out / name, ignore_errors=True)
        _clean(setup.out)
        rows, lost = merged(sweep, setup, failed, _scores(fit, setup.out))
        lines = [json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows]
        write_text(setup.out / RESULTS, "".join(lines))
    dense = {job.called: job.name for job in jobs if isinstance(job, Score)}
    unscored = {model: failed[name] for model, name in dense.items() if name in failed}
    sizes = {job.label: job.name for job in jobs if isinstance(job, Size)}
    unsized = {label: failed[name] for label, name in sizes.items() if name in failed}
    return Swept(rows, lost, unscored, unsized, len(sweep.entries) - todo, alone(jobs))


def alone(jobs: Iterable[Job]) -> dict[str, str]:
    """Why recipes of these jobs are not in the one pass that was asked for, by fingerprint."""
    presses = (job for job in jobs if isinstance(job, Press))
    return {job.name: job.alone for job in presses if job.alone}


def fitting(sweep: Sweep, setup: Setup) -> tuple[dict[str, str], Sweep]:
    """Why recipes that are not done cannot be, by their fingerprints, and the sweep of the rest.

    Known from the configs of models and the texts of evaluations, before the first job.
    """
    todo = [each for each in sweep.entries if setup.shelf.get(each.fingerprint) is None]
    pressing = fits.errors([each.recipe for each in todo])
    asked = [(one, each.recipe) for each in todo for one in each.evaluate]
    models, heads = [plan.model for _, plan in asked], [head_of(plan) for _, plan in asked]
    scoring = iter(scorable.errors([one for one, _ in asked], models, heads))
    unfit: dict[str, str] = {}
    for each, wrong in zip(todo, pressing, strict=True):
        said = [wrong, *islice(scoring, len(each.evaluate))]
        if first := next(filter(None, said), ""):
            unfit[each.fingerprint] = first
    others = tuple(each for each in sweep.entries if each.fingerprint not in unfit)
    return unfit, replace(sweep, entries=others)


def _tidy(out: Path) -> None:
    """Leave what killed jobs began to those that go on with it, and remove other halves.

    Whoever holds the sweep has no job running, on any machine.
    """
    forget_refused(out)
    leave_partials(*_made_by_jobs(out))
    remove_partials(out, out / "sizes", out / "results")


def _clean(out: Path) -> None:
    """Remove what killed jobs began and nobody went on with, as it was made or is not asked for."""
    remove_partials(*_made_by_jobs(out))


def _made_by_jobs(out: Path) -> list[Path]:
    """Where jobs make folders."""
    parts = [path for path in out.glob("parts/*") if path.is_dir()]
    return [*(out / name for name in (BEGUN, DENSE, "moments", PRESSED, RUNS)), *parts]


def missing(sweep: Sweep, setup: Setup, *, apart: bool, sized: bool = False) -> list[Job]:
    """The jobs that are not done, those that others need first; `sized` with their dry runs."""
    wanted = sharing.jobs_of(sweep, setup, apart=apart)
    presses = [job for job in wanted if not job.done(setup)]
    merges = [job.moments for job in presses if job.moments and not job.moments.done(setup)]
    looks = [look for merge in merges for look in merge.unseen(setup)]
    passed = [(p.passed, p.name, rest(p.entry.recipe, setup.out)) for p in presses if p.passed]
    passes = [each for each in together(passed) if not each.done(setup)]
    scored = [job for job in _scores(sweep, setup.out).values() if not job.done(setup)]
    first = [begin for job in (*looks, *scored, *presses) for begin in in_order(job.begun)]
    first = [begin for begin in first if not begin.done(setup)]
    found: dict[str, Job] = {}
    for job in (*first, *looks, *merges, *passes, *scored, *presses):
        found.setdefault(job.name, job)
    if not sized:
        return list(found.values())
    jobs = sharing.sized(found.values(), sweep, setup.out)
    light = [job.scored for job in jobs if isinstance(job, Press)]
    sizes = {size.name: size for size in (*(job.size for job in jobs), *light) if size}
    return [*(size for size in sizes.values() if not size.done(setup)), *jobs]


def _scores(sweep: Sweep, out: Path) -> dict[str, Score]:
    """How every dense model is scored, by model; nothing where only pressed ones can be.

    One that gets its head by the last step of a recipe is no dense model of that recipe.
    """
    asked: dict[str, list[tuple[EvaluationSettings, ...]]] = {}
    begun: dict[str, Begin | None] = {}
    for entry in sweep.entries:
        head = with_head(entry.recipe)
        if not (model := dense_of(entry.recipe, out)):
            continue
        begun[model] = Begin(head) if head else None
        asked.setdefault(model, []).append(entry.evaluate)
    return {
        model: Score(model, in_all(some), begun=begun[model])
        for model, some in asked.items()
        if not all(evals.facts(name).needs_ranges for one in some[0] for name in one.on)
    }


def dense_of(plan: Recipe, out: Path) -> str:
    """What a recipe is held against: the model that it begins with, once that has its head.

    Nothing where its last step gives the head.
    """
    head = with_head(plan)
    if head is None:
        return plan.model
    return "" if len(head.steps) == len(plan.steps) else str(Begin(head).folder(out))


def work_off(
    jobs: Sequence[Job],
    hands: Hands,
    progress: Progress = silent,
    *,
    ended: Callable[[Job, Collection[str]], None] | None = None,
) -> dict[str, str]:
    """Have all jobs done, each after those that it needs; errors by name of job.

    A job waits for its size too, but one that could not be found stops nothing. `ended` is told of
    every job that is done, with the names of those that are not.
    """
    waiting = {job.name: job for job in jobs}
    labels = {job.name: job.label for job in jobs}
    running: set[str] = set()
    failed: dict[str, str] = {}
    began = time.monotonic()
    while waiting or running:
        for job in _ready(waiting, running):
            del waiting[job.name]
            if broken := [name for name in job.needs if name in failed]:
                failed[job.name] = f"{labels[broken[0]]} failed: {failed[broken[0]]}"
            else:
                hands.give(job)
                running.add(job.name)
        if running:
            job, error = hands.take()
            running.remove(job.name)
            if error:
                failed[job.name] = error
            elif ended is not None:
                ended(job, {*waiting, *running, *failed})
            number = len(jobs) - len(waiting) - len(running)
            remark(progress, _said(job, error, number, len(jobs), time.monotonic() - began))
        progress("sweep: job", len(jobs) - len(waiting) - len(running), len(jobs))
    return failed


def _said(job: Job, error: str, ended: int, total: int, seconds: float) -> str:
    """A line for a job that has ended."""
    left = f", about {ago(seconds / ended * (total - ended))} to go" if ended < total else ""
    failed = f" failed: {error}" if error else ""
    return f"sweep: job {ended} of {total}, {ago(seconds)}{left}: {job.label}{failed}"


def _ready(waiting: Mapping[str, Job], running: set[str]) -> list[Job]:
    return [
        job
        for job in waiting.values()
        if not any(name in waiting or name in running for name in _first(job))
    ]


def _first(job: Job) -> tuple[str, ...]:
    return (*job.needs, job.size.name) if job.size else job.needs


def merged(
    sweep: Sweep, setup: Setup, failed: Mapping[str, str], scored: Mapping[str, Score]
) -> tuple[list[Row], dict[str, str]]:
    """The rows of all recipes that are done, each beside its dense model; errors of the others.

    `failed` are errors by fingerprint, `scored` how each dense model was.

    `change` is relative and positive where the recipe is worse; null where the dense model has no
    such score.
    """
    shelf = setup.shelf
    dense = {
        model: {_what(row): row for row in shelf.get(job.name) or ()}
        for model, job in scored.items()
    }
    rows: list[Row] = []
    lost: dict[str, str] = {}
    for entry in sweep.entries:
        found = None if entry.fingerprint in failed else shelf.get(entry.fingerprint)
        if found is None:
            unseen = f"no results of it are at {setup.results}: all machines must see that place"
            lost[entry.fingerprint] = failed.get(entry.fingerprint, unseen)
            continue
        for row in found:
            own = dense.get(dense_of(entry.recipe, setup.out), {})
            parent = own.get(_what(row))
            rows.append(_beside(row, parent))
    return rows, lost


def _what(row: Row) -> tuple[str, str, str]:
    """What a row is the score of."""
    return row["evaluation"], row.get("corpus", ""), row["language"]


def _beside(row: Row, parent: Row | None) -> Row:
    if parent is None:
        return {**row, "dense": None, "change": None}
    ratio = row["value"] / parent["value"] if parent["value"] else None
    change = None
    if ratio is not None:
        change = ratio - 1 if evals.facts(row["evaluation"]).lower_is_better else 1 - ratio
    return {**row, "dense": parent["value"], "change": change}
