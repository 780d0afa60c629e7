"""What the recipes of a sweep share: moments that are stored, or one pass that stores none.

One place decides which recipes are in a pass, and says of the others why they are not.

Tested in tests/sweeps/test_plan.py and tests/sweeps/test_one_pass.py.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from babelpress.models.open import config_of, stays_mapped
from babelpress.runs.places import place_of
from babelpress.runs.recipe import Recipe
from babelpress.sweeps.beginnings import Begin, in_order, rest
from babelpress.sweeps.jobs import Press, Score, Size
from babelpress.sweeps.looks import Look, Merge
from babelpress.sweeps.passing import Pass, folder_of, why_not
from babelpress.sweeps.plan import (
    Entry,
    Sweep,
    as_begun,
    needs_gram,
    presses,
    shares_moments,
    single,
)
from babelpress.sweeps.setup import Job, Setup
from babelpress.text.draw import languages_of, tagged
from babelpress.text.settings import CalibrationSettings

READ = "it reads moments that stand, or that are stored for a recipe which is in no pass"
ANOTHER_DTYPE = (
    "its model is computed in another dtype than its file has (GGUF, float16), and would lie in "
    "memory once for every recipe"
)

Source = tuple[str, CalibrationSettings]  # a model and its text, in whatever languages


def jobs_of(sweep: Sweep, setup: Setup, *, apart: bool) -> list[Press]:
    """A job for every recipe, with what it begins with and the moments or pass that it shares.

    A run that a pass has left needs neither. Moments that stand, or that are stored anyhow for a
    recipe that cannot be in a pass, are read, and need no pass.
    """
    out = setup.out
    why = _reasons(sweep, out) if setup.one_pass else {}
    grams = _grams(sweep, out, alone=why)
    begins = {b.name for e in sweep.entries for b in in_order(Begin.of(e.recipe))}
    found: list[Press] = []
    for entry in sweep.entries:
        whole = Begin(as_begun(entry.recipe))
        there = whole.name in begins or whole.folder(out).exists()
        begun = whole if there else Begin.of(entry.recipe)
        made = begun == whole or folder_of(out, entry.fingerprint).exists()
        moments = None if made else _moments(entry, grams, out, apart=apart)
        found.append(Press(entry, moments, begun=begun))
    return _with_passes(found, setup, why) if setup.one_pass else found


def _with_passes(wanted: Sequence[Press], setup: Setup, why: Mapping[str, str]) -> list[Press]:
    """The same jobs, those that can in a pass, the others with the reason why they are not."""
    out = setup.out
    todo = [job for job in wanted if why[job.name] and job.moments and not job.done(setup)]
    coming = {job.moments.name for job in todo if job.moments}
    found: list[Press] = []
    for job in wanted:
        if job.copies or folder_of(out, job.name).exists():
            found.append(job)
        elif reason := why[job.name] or _read(job.moments, setup, coming):
            found.append(replace(job, alone=reason))
        else:
            passed = Pass.of(rest(job.entry.recipe, out), Begin.of(job.entry.recipe))
            found.append(replace(job, moments=None, passed=passed))
    return found


def _reasons(sweep: Sweep, out: Path) -> dict[str, str]:
    """By fingerprint, why the rest of a recipe cannot be in a pass; nothing where it can.

    A model that is still to be begun has the dtype of the one that it is made of.
    """
    mapped = cache(stays_mapped)

    def reason(plan: Recipe) -> str:
        left = rest(plan, out)
        if why := why_not(left):
            return why
        begun = left.model != plan.model and Path(left.model).exists()
        return "" if mapped(place_of(left.model if begun else plan.model)) else ANOTHER_DTYPE

    return {entry.fingerprint: reason(entry.recipe) for entry in sweep.entries}


def _read(moments: Merge | None, setup: Setup, coming: Collection[str]) -> str:
    there = moments is not None and moments.there(setup, coming)
    return READ if there else ""


def _grams(sweep: Sweep, out: Path, *, alone: Mapping[str, str]) -> dict[Source, bool]:
    """By model and text, whether any recipe needs Gram matrices: then all are seen with them.

    What recipes of a pass need is not counted: those that `alone` has no reason for. This hangs on
    the recipes only, so that a sweep that goes on finds what it has seen.
    """
    found: dict[Source, bool] = {}
    entries = (entry for entry in sweep.entries if alone.get(entry.fingerprint, "alone"))
    for plan in (rest(entry.recipe, out) for entry in entries):
        if shares_moments(plan):
            found[_source(plan)] = found.get(_source(plan), False) or needs_gram(plan)
    return found


def _source(plan: Recipe) -> Source:
    return plan.model, plan.calibration.model_copy(update={"languages": ()})


def _moments(entry: Entry, grams: Mapping[Source, bool], out: Path, *, apart: bool) -> Merge | None:
    """The moments that a recipe shares with others; None where it makes its own or names some."""
    plan = rest(entry.recipe, out)
    if not shares_moments(plan):
        return None
    asked = plan.calibration
    tags = _tags(entry.recipe)
    groups = [(tag,) for tag in tags] if apart else [tuple(tags)]
    gram, begun = grams.get(_source(plan), needs_gram(plan)), Begin.of(entry.recipe)
    looks = tuple(Look(*_source(plan), group, gram, begun=begun) for group in groups)
    return Merge(looks, asked, needs_gram(plan))


def _tags(plan: Recipe) -> Sequence[str]:
    """The languages of a calibration; of an encoder-decoder the directions of translation."""
    text = tagged(plan.calibration.corpus, config_of(place_of(plan.model)))
    return languages_of(text, plan.calibration.languages)


def sized(jobs: Iterable[Job], sweep: Sweep, out: Path) -> list[Job]:
    """The jobs, each with the dry run that tells its memory.

    That of seeing a language and of scoring a model is no less than that of pressing it in one; of
    a model that is begun first, no more than that of a whole recipe. A pass takes what its largest
    recipe does, and an open model for each that waits.
    """
    one: dict[Source, Size] = {}
    for plan in (entry.recipe for entry in sweep.entries):
        if presses(plan) and (_source(plan) not in one or needs_gram(plan)):
            one[_source(plan)] = Size(single(plan, _tags(plan)[0]))
    models = {model: size for (model, _), size in one.items()}
    plans = {entry.fingerprint: entry.recipe for entry in sweep.entries}
    jobs = list(jobs)
    passes = {job.name: _of_pass(job, plans) for job in jobs if isinstance(job, Pass)}
    found: list[Job] = []
    for job in jobs:
        if isinstance(job, Begin):
            found.append(replace(job, size=Size(job.plan)))
        elif isinstance(job, Pass):
            found.append(replace(job, size=passes[job.name]))
        elif isinstance(job, Look | Score) and job.begun:
            found.append(replace(job, size=Size(job.begun.plan)))
        elif isinstance(job, Look):
            found.append(replace(job, size=one[job.model, job.asked]))
        elif isinstance(job, Score):
            found.append(replace(job, size=models.get(job.model)))
        elif isinstance(job, Press):
            moments = None if job.begun else job.moments
            whole = job.begun.plan if job.begun and job.copies else job.entry.recipe
            light = models.get(whole.model)
            passed = passes.get(job.passed.name) if job.passed else None
            made = light if folder_of(out, job.name).exists() else None
            scored = light if job.passed else None
            found.append(replace(job, size=made or passed or Size(whole, moments), scored=scored))
        else:
            found.append(job)
    return found


def _of_pass(job: Pass, plans: Mapping[str, Recipe]) -> Size:
    """The dry run of a pass, by its whole recipes: one with Gram matrices first, if any has them.

    Of a model that is begun first, the training too is tried.
    """
    by_need = sorted(job.plans, key=lambda each: not needs_gram(each[1]))
    first, *others = (plans[name] for name, _ in by_need)
    return Size(first, others=tuple(others))
