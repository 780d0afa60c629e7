"""Where a MODEL is that may be a run: known from names and small files, nothing is opened.

Tested in tests/runs/test_open.py.
"""

from pathlib import Path

from babelpress.errors import BadModel, BadRun
from babelpress.runs import manifest
from babelpress.steps import KINDS

MODEL = "model"
REPORT = "report.json"  # of a step
STEPS = "steps"
BEGUN = "begun"  # in the folder of a sweep, the runs that its recipes begin with
RANGES = "ranges.safetensors"  # the largest inputs of sites that calibration saw


def folder_of(name: str) -> Path:
    """The folder of a MODEL: of RUN/model, which some give, the run."""
    run = Path(name)
    return run.parent if run.name == MODEL and manifest.is_run(run.parent) else run


def run_of(name: str) -> Path | None:
    """The folder of a MODEL that is a run; None where it is none."""
    run = folder_of(name)
    return run if manifest.is_run(run) else None


def place_of(name: str) -> str:
    """Where a MODEL is: of a run its model/, else the name as it is.

    Raises BadRun for a run that has none yet.
    """
    if (run := run_of(name)) is None:
        return name
    if not (run / MODEL / "config.json").exists():
        raise BadRun(f"{run} is a run without a finished model/: run the same command again.")
    return str(run / MODEL)


def origin_of(name: str) -> str:
    """The dense model that a MODEL goes back to: of a finished run, the one that it began with."""
    if (run := run_of(name)) and (found := manifest.read_if_there(run)):
        return found.origin.name
    return name


def beside(scored: Path, model: str) -> Path | None:
    """The run that scores of a sweep call their model: of OUT/dense/KEY, OUT/begun/KEY."""
    run = scored.parent.parent / model
    return run if Path(model).parent.name == BEGUN and manifest.is_finished(run) else None


def check_pressable(name: str, kind: str) -> None:
    """Raise BadModel for a run that no such step can follow; other models are asked when opened."""
    if KINDS.facts(kind).get("GOES_ON"):
        return
    run = run_of(name)
    known = manifest.read_if_there(run) if run else None
    for step in known.chain if known else ():
        if why := KINDS.facts(step.kind).get("LAST"):
            raise BadModel(
                f"{name}: no step can follow its {step.kind}, for {why}. Give the model that it "
                "was made of, or one recipe with all steps."
            )
