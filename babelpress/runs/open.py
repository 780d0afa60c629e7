"""Open a MODEL, which may be a finished run: what a run wrote is checked before it is used."""

from dataclasses import replace
from pathlib import Path

from babelpress.errors import BadRun
from babelpress.models.open import Opened, open_model
from babelpress.moments.ranges import Ranges, read_ranges
from babelpress.press.codes import FOLDER as CODES
from babelpress.runs import manifest
from babelpress.runs.places import (
    MODEL,
    RANGES,
    REPORT,
    STEPS,
    folder_of,
    origin_of,
    place_of,
    run_of,
)
from babelpress.runs.recipe import Step
from babelpress.steps import KINDS
from babelpress.system.files import check_hashes, read_json


def place(name: str) -> str:
    """Where a MODEL is: of a run its model/, else the name as it is. Raises BadRun."""
    run = folder_of(name)
    found = place_of(name)
    if manifest.is_run(run):
        _check(run)
    return found


def _check(run: Path) -> None:
    """Raise BadRun for a model/ that is not as the run wrote it.

    A run that was killed just before its manifest has the report of its last step.
    """
    if manifest.is_finished(run):
        check_hashes(run, manifest.read(run).files, MODEL)
        return
    reports = sorted(run.glob(f"{STEPS}/*/{REPORT}"), reverse=True)
    if reports:
        check_hashes(run, read_json(reports[0]).get("files", {}), MODEL)


def open_any(
    name: str,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    quantized: bool = False,
) -> Opened:
    """Open a MODEL (folder, run, hub id[@revision], babel-mini) in evaluation mode.

    Raises BadRun for a run that is not finished or no longer as it was written, and what
    `open_model` raises.
    """
    found = open_model(
        place(name),
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        quantized=quantized,
    )
    return replace(found, name=name)


def with_known(opened: Opened, model: str, step: Step, before: Path | None) -> Opened:
    """What a step asks that goes on with a run or a step before it: its integers, the dense model.

    `before` is the folder of that step; without one it is the run that MODEL may be. Raises BadRun
    for a dense model that is a run and not as it was written.
    """
    if not KINDS.facts(step.kind).get("DENSE"):
        return opened
    folder = before or run_of(model)
    codes = folder / CODES if folder and (folder / CODES).exists() else None
    return replace(opened, codes=codes, dense=place(step.work.against or origin_of(model)))


def open_step(folder: Path, *, device: str, trust_remote_code: bool) -> Opened:
    """Open what a finished step of a run made. Raises BadRun where it is not as it was written."""
    check_hashes(folder, read_json(folder / REPORT).get("files", {}), MODEL)
    return open_model(str(folder / MODEL), device=device, trust_remote_code=trust_remote_code)


def ranges_of(run: Path) -> Ranges:
    """The ranges that a run keeps. Raises BadRun where it keeps none, or a damaged file."""
    if not (run / RANGES).exists():
        raise BadRun(f"{run} keeps no {RANGES}. Name moments of this model with --moments.")
    if found := manifest.read_if_there(run):
        check_hashes(run, found.files, RANGES)
    return read_ranges(run / RANGES)
