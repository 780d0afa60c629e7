"""Where a MODEL is that may be a run: known from names and small files, nothing is opened.

Tested in tests/runs/test_open.py.
"""

from pathlib import Path

from babelpress.errors import BadRun
from babelpress.runs import manifest

MODEL = "model"
REPORT = "report.json"  # of a step
STEPS = "steps"


def folder_of(name: str) -> Path:
    """The folder of a MODEL: of RUN/model, which some give, the run."""
    run = Path(name)
    return run.parent if run.name == MODEL and manifest.is_run(run.parent) else run


def place_of(name: str) -> str:
    """Where a MODEL is: of a run its model/, else the name as it is.

    Raises BadRun for a run that has none yet.
    """
    run = folder_of(name)
    if not manifest.is_run(run):
        return name
    if not (run / MODEL / "config.json").exists():
        raise BadRun(f"{run} is a run without a finished model/: run the same command again.")
    return str(run / MODEL)


def origin_of(name: str) -> str:
    """The dense model that a MODEL goes back to: of a finished run, the one that it began with."""
    run = folder_of(name)
    if manifest.is_run(run) and (found := manifest.read_if_there(run)):
        return found.origin.name
    return name
