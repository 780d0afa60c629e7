"""Whether a refactoring changed a byte: two checkouts, one environment, the same jobs.

    python benchmarks/refactor/same_bytes.py OLD NEW [--work FOLDER] [--only WORD,...]

OLD and NEW are folders with `babelpress/` in them; the Python that runs this runs both, one after
the other, and PYTHONPATH says which package it is (inside_checkout.py checks that). Both are driven
by the command line alone (table.py has the jobs), so nothing is asked of how they are made inside.
differing.py compares all that they wrote and printed.

Results of OLD in the work folder are used again while its package, the job and the threads are the
same. Exit code 1 where anything differs, or a job did not end as it should.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import differing
from differing import Found
from table import FAMILIES, RECIPE, RECIPE_NEW, RECIPE_TEXT, Job, chosen

HERE = Path(__file__).resolve().parent
SHOWN = 3  # differences of a job in the table
LISTED = 100  # at the end; a file has all


class Side:
    """A checkout and the folder where its results lie."""

    def __init__(self, name: str, checkout: Path, work: Path, threads: int):
        self.name = name
        self.checkout = checkout.resolve()
        self.folder = work / name / "results"
        self.threads = threads
        self.mark = package_hash(self.checkout)

    def asked(self, job: Job) -> dict[str, Any]:
        """A job as its record keeps it."""
        this = job.in_new() if self.name == "new" else job
        told = {"package": self.mark, "threads": self.threads, **asdict(this)}
        del told["new"]
        return json.loads(json.dumps(told))  # as it reads from a record

    def told(self, job: Job) -> dict[str, Any] | None:
        """The record of a job that returned, if it is of this package and these words."""
        path = self.folder / ".told" / f"{job.name}.json"
        record = json.loads(path.read_text()) if path.exists() else {}
        asked = self.asked(job)
        return record if {key: record.get(key) for key in asked} == asked else None

    def complete(self, job: Job) -> bool:
        """Whether a job was done and ended as it should."""
        record = self.told(job)
        return record is not None and record["ended"] == job.code

    def printed(self, job: Job, kind: str) -> str:
        """What a job said: `out` or `err`."""
        path = self.folder / ".told" / f"{job.name}.{kind}"
        return path.read_text("utf-8", errors="replace") if path.exists() else ""

    def run(self, todo: Sequence[Job]) -> float:
        """Do jobs in one process, in turn; the seconds it took."""
        begun = time.monotonic()
        if todo:
            self.folder.mkdir(parents=True, exist_ok=True)
            ended = subprocess.run(
                [sys.executable, str(HERE / "inside_checkout.py"), str(self.checkout)],
                input=json.dumps([self.asked(job) for job in todo]),
                cwd=self.folder,
                env=environment(self.checkout, self.threads),
                text=True,
                check=False,
            )
            if ended.returncode:
                sys.exit(f"same_bytes.py: {self.checkout} did not start, as is said above.")
        return time.monotonic() - begun


def environment(checkout: Path, threads: int) -> dict[str, str]:
    """Of both sides alike, but for the package."""
    fixed = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    # A checkout is only read.
    return {**os.environ, **fixed, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}


def package_hash(checkout: Path) -> str:
    """Of every file of its package."""
    package = checkout / "babelpress"
    if not package.is_dir():
        sys.exit(f"same_bytes.py: {checkout} has no babelpress/. Give two checkouts of it.")
    found = sha256()
    for path in sorted(path for path in package.rglob("*") if path.is_file()):
        if "__pycache__" not in path.parts:
            mark = sha256(path.read_bytes()).hexdigest()
            found.update(f"{path.relative_to(package)} {mark}\n".encode())
    return found.hexdigest()


# ---- what both read ------------------------------------------------------------------------


def prepare(old: Path, sides: Sequence[Side], work: Path) -> None:
    """Write recipes and the models of every family, once; relative paths are equal on both sides.

    Models are links in the folders of both sides to the same files.
    """
    for side, text in zip(sides, (RECIPE_TEXT, RECIPE_NEW), strict=True):
        side.folder.mkdir(parents=True, exist_ok=True)
        (side.folder / RECIPE).write_text(text)
        link = side.folder.parent / "models"
        if not link.is_symlink():
            link.symlink_to(work / "models")
    missing = [name for name in FAMILIES if not (work / "models" / name / "done").exists()]
    if not missing:
        return
    from transformers.utils.logging import disable_progress_bar  # takes seconds, and only once

    sys.path.insert(0, str(old.resolve() / "tests"))
    pico = import_module("pico")
    disable_progress_bar()
    for name in missing:
        folder = work / "models" / name
        pico.model(name).save_pretrained(folder)
        pico.tokenizer().save_pretrained(folder)
        (folder / "done").touch()


# ---- comparing -----------------------------------------------------------------------------


def compare(job: Job, old: Side, new: Side) -> Found:
    """All that a job wrote and printed."""
    found = Found()
    for side in (old, new):
        if not side.complete(job):
            record = side.told(job)
            how = f"ended with {record['ended']}, not {job.code}" if record else "died"
            last = side.printed(job, "err").strip().splitlines()[-1:] or ["it said nothing"]
            found.differ(f"{side.name.upper()} {how}: {last[0]}")
    if not found.differences:
        first, second = (json.loads(side.printed(job, "out")) for side in (old, new))
        differing.documents(first, second, found)
        differing.folders(old.folder / job.name, new.folder / job.name, found)
    return found


def line(job: Job, found: Found) -> str:
    """A row of the table, and the first differences beneath it."""
    if found.differences:
        more = len(found.differences) - SHOWN
        first = [f"\n    {each}" for each in found.differences[:SHOWN]]
        verdict = "DIFFERS" + "".join(first) + (f"\n    and {more} more" if more > 0 else "")
    else:
        verdict = "equal" + (f", {len(found.notes)} notes" if found.notes else "")
    counts = f"{found.files:>5} {found.tensors:>7} {found.values:>6}"
    return f"{job.name:<28} {job.words[0]:<10} {counts}  {verdict}"


def judge(asked: Sequence[Job], old: Side, new: Side, everything: Path) -> int:
    """Print the table, write differences to the file `everything`; the exit code."""
    print(f"{'job':<28} {'command':<10} {'files':>5} {'tensors':>7} {'values':>6}")
    results: dict[str, Found] = {}
    for job in asked:
        results[job.name] = compare(job, old, new)
        print(line(job, results[job.name]), flush=True)
    notes = [f"{name}: {each}" for name, found in results.items() for each in found.notes]
    if notes:
        print("\nnotes (no differences):", *notes, sep="\n    ")
    bad = {name: found.differences for name, found in results.items() if found.differences}
    if bad:
        listed = [f"{name}: {each}" for name, words in bad.items() for each in words]
        everything.write_text("\n".join([*listed, ""]), "utf-8")
        print("\ndifferences:", *listed[:LISTED], sep="\n    ")
        print(f"\n{len(bad)} of {len(asked)} jobs differ; all {len(listed)} places: {everything}")
        return 1
    files = sum(found.files for found in results.values())
    print(f"\nall equal: {len(asked)} jobs, {files} files")
    return 0


# ---- the command ---------------------------------------------------------------------------


def arguments() -> Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("old", type=Path, help="a checkout")
    parser.add_argument("new", type=Path, help="another")
    parser.add_argument("--work", type=Path, default=Path("/tmp/same_bytes"))
    parser.add_argument("--only", default="", help="words of names of jobs, commas between")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> int:
    """Run both sides, compare; the exit code."""
    given = arguments()
    asked = chosen([word for word in given.only.split(",") if word])
    if not asked:
        sys.exit(f"same_bytes.py: no job has {given.only} in its name. table.py has them all.")
    if find_spec("gguf") is None:
        print("the package gguf is not there: jobs that write it are left out")
        asked = [job for job in asked if not {"gguf", "imatrix"} & set(job.words)]
    work = given.work.resolve()
    old, new = (
        Side(name, checkout, work, given.threads)
        for name, checkout in (("old", given.old), ("new", given.new))
    )
    prepare(given.old, (old, new), work)
    todo = [job for job in asked if not old.complete(job)]
    first, second = old.run(todo), new.run(asked)
    kept = len(asked) - len(todo)
    print(f"old {first:.0f} s ({kept} of {len(asked)} jobs kept), new {second:.0f} s")
    return judge(asked, old, new, work / "differences.txt")


if __name__ == "__main__":
    sys.exit(main())
