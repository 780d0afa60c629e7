"""Do a recipe in a folder; killed at any point, the same command goes on.

    RUN/recipe.yaml         the recipe, every default written out
    RUN/steps/01-prune/     report.json of a finished step (and its results until the next is done)
    RUN/model/              the result, an ordinary transformers folder
    RUN/codes/              the integers behind it, where the last step quantized
    RUN/ranges.safetensors  the largest inputs that calibration saw, by BLOCK.SITE
    RUN/manifest.json       written last: what is needed to do it again, and its cost

A step is written whole or not at all. Only `cost` may differ between two runs of one recipe. The
manifest lists the hashes of all files that it came with, and whoever reads one of them checks it.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from babelpress.errors import BabelpressError, BadRun
from babelpress.models import sizes
from babelpress.models.open import Opened
from babelpress.models.save import save_model
from babelpress.models.walk import Walk
from babelpress.press.codes import FOLDER as CODES
from babelpress.press.codes import CodesFolder
from babelpress.runs import fits, manifest, recipe
from babelpress.runs.manifest import Manifest
from babelpress.runs.open import open_any, open_step, with_known
from babelpress.runs.places import (
    MODEL,
    RANGES,
    REPORT,
    STEPS,
    check_pressable,
    origin_of,
    run_of,
)
from babelpress.runs.recipe import Recipe, Step
from babelpress.steps import KINDS
from babelpress.steps._kind import TRAINING, Done, StepReport
from babelpress.system.claims import held, occupied, remove_partials
from babelpress.system.early import ends_early, may_end_early
from babelpress.system.files import (
    hashes,
    new_folder,
    save_tensors,
    write_sealed,
    write_text,
)
from babelpress.system.offload import in_memory, on_disk
from babelpress.system.progress import Progress, remark, silent, within
from babelpress.system.surroundings import surroundings


def do(
    plan: Recipe,
    out: Path,
    *,
    device: str = "cpu",
    offload: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> Manifest:
    """Do a recipe in a folder and give its manifest; finished steps are not done again.

    With `offload` hidden states and pressed blocks lie in the folder instead of in memory; the
    result is the same. Raises BadRun where the folder holds another run or is in use.
    """
    with held(out):
        check_pressable(plan.model, plan.steps[0].kind)
        _check_folder(plan, out)
        if manifest.is_finished(out):
            remark(progress, f"{out} is finished: nothing is done again")
            return manifest.read(out)
        reports: list[StepReport] = []
        folders = [out / STEPS / f"{n:02d}-{s.kind}" for n, s in enumerate(plan.steps, 1)]
        checked = False
        if there := sum((folder / REPORT).exists() for folder in folders):
            remark(progress, f"resuming: {there} of {len(folders)} steps")
        for number, folder in enumerate(folders):
            if not (folder / REPORT).exists():
                if number:
                    opened = open_step(
                        folders[number - 1], device=device, trust_remote_code=trust_remote_code
                    )
                else:
                    opened = open_any(
                        plan.model, device=device, trust_remote_code=trust_remote_code
                    )
                opened = replace(opened, pruned=fits.pruned(plan.model, reports))
                if not checked:
                    steps = plan.steps[number:]
                    fits.check(plan.model, Walk(opened.model), steps, opened.pruned)
                    fits.check_text(opened, plan, number)
                    checked = True
                before = folders[number - 1] if number else None
                if chain := fits.chain(plan.model, reports):
                    opened = replace(opened, lies_on=_lies_on(chain))
                opened = with_known(opened, plan.model, plan.steps[number], before)
                _do_step(plan, number, opened, folder, out, offload=offload, progress=progress)
                del opened  # the next step opens a model of its own
            reports.append(manifest.read_report(folder / REPORT))
            if number:
                _drop_results(folders[number - 1])
        _move_results(folders[-1], out)
        found = _manifest(plan, reports, device)
        manifest.write(out, found)
        return manifest.read(out)


def _lies_on(chain: Sequence[StepReport]) -> dict[str, dict[str, int]]:
    """The types of a GGUF file that weights still lie on, after steps that change none."""
    same = all(KINDS.facts(each.kind).get("KEEPS_WEIGHTS") for each in chain)
    return chain[0].model.lies_on if same else {}


def _do_step(
    plan: Recipe,
    number: int,
    opened: Opened,
    folder: Path,
    out: Path,
    *,
    offload: bool,
    progress: Progress,
) -> None:
    """Do one step and write its folder whole."""
    step = plan.steps[number]
    several = f"step {number + 1} of {len(plan.steps)}, " if len(plan.steps) > 1 else ""
    opened = replace(opened, name=origin_of(plan.model))
    last = number + 1 == len(plan.steps)
    with _step(folder, resume=_resumes(step)) as new, may_end_early(ends_early() and last):
        done = KINDS.get(step.kind)(
            opened,
            plan.calibration,
            step.work,
            new,
            hold=on_disk(out) if offload else in_memory,
            progress=within(progress, f"{several}{step.kind}"),
        )
        write_text(out / manifest.RECIPE, recipe.dump(plan))
        made = done.opened or opened
        known_here: dict[str, Any] = {"kind": step.kind}
        if made.carried:
            known_here["carried"] = [each.name for each in made.carried]
        if made.replaced:
            known_here["tokenizer"] = made.replaced
        report = done.report.model_copy(update=known_here)
        _save(replace(done, report=report), made, new)


def _manifest(plan: Recipe, reports: list[StepReport], device: str) -> Manifest:
    parent = run_of(plan.model)
    known = manifest.read_if_there(parent) if parent else None
    made = Manifest(
        recipe=plan.model_dump(mode="json"),
        steps=tuple(reports),
        ledger=reports[-1].ledger,
        files=reports[-1].files,
        cost={"steps": [report.cost for report in reports]},
        surroundings=surroundings(device),
    )
    if known is None:
        return made
    cost = {**made.cost, "before": known.costs}
    return made.model_copy(update={"before": known.chain, "earlier": known.recipes, "cost": cost})


def _check_folder(plan: Recipe, out: Path) -> None:
    """Raise BadRun where a folder is not this run's; a run without a finished step may go."""
    path, begun = out / manifest.RECIPE, any(out.glob(f"{STEPS}/*/{REPORT}"))
    if not manifest.is_run(out):
        if occupied(out):
            raise BadRun(f"{out} is not empty and holds no run. Choose another --out.")
    elif begun and not _is_of(path, plan):
        raise BadRun(f"{out} holds a run of another recipe. Choose another --out, or remove it.")
    if manifest.is_finished(out) and not (out / MODEL).exists():
        raise BadRun(f"{out} has lost its {MODEL}/. Remove the folder to do the run again.")
    begun_of = {f"{n:02d}-{s.kind}" for n, s in enumerate(plan.steps, 1) if _resumes(s)}
    remove_partials(out, out / STEPS, but=begun_of)


def _resumes(step: Step) -> bool:
    """Whether a step goes on with what a killed attempt left."""
    return bool(KINDS.facts(step.kind).get("RESUMES")) or step.work.leaves_work


def _is_of(path: Path, plan: Recipe) -> bool:
    """Whether a recipe that was written means the same: an older version wrote fewer defaults."""
    try:
        return recipe.load(path) == plan
    except BabelpressError:
        return False


@contextmanager
def _step(folder: Path, *, resume: bool) -> Iterator[Path]:
    """A new folder of a step; where the step fails nothing is left of it but its checkpoints."""
    keeps = f"{TRAINING}/checkpoint-*" if resume else ""
    try:
        with new_folder(folder, resume=resume, keeps=keeps) as new:
            for path in new.iterdir():  # of an attempt that was killed while it wrote
                if path.name != TRAINING:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            yield new
    finally:
        with suppress(OSError):  # not empty: a step was made
            folder.parent.rmdir()


def _save(done: Done, opened: Opened, folder: Path) -> None:
    save_model(opened, folder / MODEL)
    shares = done.report.mixture.shares
    languages = ",".join(tag for tag, share in shares.items() if share > 0)
    if done.ranges:
        save_tensors(folder / RANGES, done.ranges, {"languages": languages})
    report = done.report.model_dump(mode="json", exclude_unset=True)
    if report.get("ledger"):
        report["ledger"] |= _sizes(opened, folder)
    if (folder / TRAINING).exists():  # until now, for a killed attempt goes on from there
        shutil.rmtree(folder / TRAINING)
    write_sealed(folder / REPORT, {**report, "files": hashes(folder)})


def _sizes(opened: Opened, folder: Path) -> dict[str, Any]:
    """How large the weights are that a step has written: zeros, and bytes compressed."""
    codes = folder / CODES
    return sizes.measured(
        opened.model,
        opened.stored_dtype,
        coded=CodesFolder.open(codes).names() if codes.exists() else (),
        packed=sorted(codes.glob("*.safetensors")),
        carried=opened.carried,
    )


def _drop_results(folder: Path) -> None:
    """Remove what a step made, but its report."""
    for name in (MODEL, CODES):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / RANGES).unlink(missing_ok=True)


def _move_results(folder: Path, out: Path) -> None:
    """Bring what the last step made to its place in the run; what is there already may stay."""
    for name in (MODEL, CODES, RANGES):
        if (folder / name).exists():
            shutil.rmtree(out / name, ignore_errors=True)
            (folder / name).rename(out / name)
