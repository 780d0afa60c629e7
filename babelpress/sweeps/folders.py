"""The folders of jobs: whole or absent, and gone on with where an attempt was stopped.

What a step, a language's tally or a block's moments is in what a stopped attempt left was written
whole, and whoever goes on with it checks that it is of the same work. Where it is not, or a disk
has spoiled it, the job is done from the beginning.

Tested in tests/sweeps/test_stopped.py.
"""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

from babelpress.errors import BadModel, BadMoments, BadRun
from babelpress.judge import scores
from babelpress.runs.places import STEPS
from babelpress.sweeps.results import Row
from babelpress.system.claims import LOCK_NAME, remove_partials
from babelpress.system.files import new_folder
from babelpress.system.progress import Progress, remark

THERE = (errno.EEXIST, errno.ENOTEMPTY)
Make = Callable[[Path], object]  # fills a folder


def once(folder: Path, make: Make, progress: Progress) -> None:
    """Make a folder whole, unless it is there; where another attempt was faster, its stays."""
    if folder.exists():
        return
    try:
        with new_folder(folder, resume=True) as new:
            _fill(new, make, f"{folder.parent.name}/{folder.name}", progress)
    except OSError as error:
        if error.errno not in THERE or not folder.exists():
            raise


def scored_once(folder: Path, make: Make, progress: Progress) -> None:
    """Make a scored folder; one that is there but whose scores are damaged is made again."""
    if folder.exists() and not _readable(folder):
        shutil.rmtree(folder)
    once(folder, make, progress)


def rows(folder: Path) -> list[Row]:
    """The scores of a folder, each with the fingerprint of the weights that were scored.

    Raises BadRun where they are damaged.
    """
    found = scores.read_results(folder)
    return [{**row, "weights": _weights(folder, row)} for row in found]


def _fill(new: Path, make: Make, name: str, progress: Progress) -> None:
    """Make what is not there yet, or all where what is there is no beginning of it."""
    if not any(new.iterdir()):
        make(new)
        return
    remark(progress, f"going on with {name}, which was stopped")
    # Its lock is that of the stopped attempt, perhaps of another host: the rename was the claim.
    (new / LOCK_NAME).unlink(missing_ok=True)
    # What a step of a run was stopped in is the run's own to go on with, or to remove.
    there = [path for path in new.rglob("*") if path.is_dir() and new / STEPS not in path.parents]
    remove_partials(new, *[path for path in there if path != new / STEPS])
    try:
        make(new)
    except (BadModel, BadMoments, BadRun) as error:
        remark(progress, f"{name} is made from the beginning: {error}")
        for path in [*new.iterdir()]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        make(new)


def _weights(folder: Path, row: Row) -> str:
    return scores.identity_of(folder, row["evaluation"], row.get("corpus", ""))["model"]


def _readable(folder: Path) -> bool:
    try:
        return bool(rows(folder))
    except BadRun:
        return False
