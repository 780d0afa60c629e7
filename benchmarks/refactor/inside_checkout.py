"""Does jobs with one checkout of babelpress: the side of same_bytes.py that imports it.

    PYTHONPATH=CHECKOUT python inside_checkout.py CHECKOUT < jobs.json

Works in the current folder. What a job prints is in .told/NAME.out and .err; .told/NAME.json is
written when the command returned and has its exit code. Packages are imported once and every job is
a fork, so that no job knows of another, and one that dies stops no other.
"""

import json
import multiprocessing
import os
import shutil
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

TOLD = Path(".told")
HEAVY = (
    *("torch", "transformers", "transformers.models.auto.modeling_auto", "scipy.linalg", "numpy"),
    *("transformers.models.llama.modeling_llama", "pydantic", "pyarrow.parquet", "safetensors"),
)


def start(main: Any, job: dict[str, Any]) -> None:
    """One job, in a process of its own."""
    for number, kind in ((1, "out"), (2, "err")):
        file = os.open(TOLD / f"{job['name']}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    begun = time.monotonic()
    try:
        code = main([*job["words"], "--json"])
    except SystemExit as error:
        code = error.code
    sys.stdout.flush()
    seconds = round(time.monotonic() - begun, 2)
    record = TOLD / f"{job['name']}.json"
    record.write_text(json.dumps({**job, "ended": code, "seconds": seconds}))


def clear(job: dict[str, Any]) -> None:
    """Leave nothing of an earlier time; begin with a copy where the job does."""
    folder = Path(job["name"])
    shutil.rmtree(folder, ignore_errors=True)
    (TOLD / f"{job['name']}.json").unlink(missing_ok=True)
    if job["copy"] and Path(job["copy"]).exists():
        shutil.copytree(job["copy"], folder)


def main() -> None:
    """All jobs of standard input."""
    checkout = Path(sys.argv[1]).resolve()
    package = import_module("babelpress")
    if Path(package.__path__[0]).resolve() != checkout / "babelpress":
        sys.exit(f"babelpress is that of {package.__path__[0]}, not that of {checkout}.")
    command = import_module("babelpress.cli").main
    for name in HEAVY:
        import_module(name)
    todo = json.load(sys.stdin)
    TOLD.mkdir(exist_ok=True)
    for number, job in enumerate(todo, 1):
        clear(job)
        begun = time.monotonic()
        process = multiprocessing.get_context("fork").Process(target=start, args=(command, job))
        process.start()
        process.join()
        words = f"{number}/{len(todo)} {job['name']}: {time.monotonic() - begun:.1f} s"
        print(f"{checkout.name} {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
