"""Whether a change made anything slower: two checkouts, one environment, taking turns.

    python benchmarks/speed/before_after.py OLD NEW --folder FOLDER [--samples 32] [--repeats 3]

Every job is a whole process on the random Llama of 135 M parameters of shape.py, done by
each checkout's own `benchmarks/speed/inside_ours.py`. Within every repeat the checkouts take turns,
and every second repeat begins with the other one, so that a busy neighbour hits both. A row has the
least of the repeats of each, of the whole process and without its imports, and NEW over OLD;
`further` is the time of a further configuration over that of the first one. Set OMP_NUM_THREADS
yourself. Exit code 1 where NEW takes more than 3 % longer inside, for any method.
"""

import argparse
import os
import shutil
import sys
from argparse import Namespace
from collections import defaultdict
from pathlib import Path

from jobs import Job, Measured, run
from shape import TOKENS, Shape, make

METHODS = ("wanda 0.5", "sparsegpt 0.5", "sparsegpt 2of4", "gptq 4/128")
SETTINGS = ("dense", "compressed", "further")
LIMIT = 1.03
Runs = dict[tuple[str, str], list[Measured]]  # by side and job


def main() -> None:
    """Measure, and print a table."""
    given = arguments()
    model = make(Shape(samples=given.samples), given.folder / "model")
    sides = {"old": given.old.resolve(), "new": given.new.resolve()}
    runs: Runs = defaultdict(list)
    wanted = [f"{m}|{s}" for m in given.methods for s in given.settings]
    for repeat in range(given.repeats):
        for words in wanted:
            for side in sorted(sides, reverse=repeat % 2 == 0):
                runs[side, words].append(measure(side, sides[side], words, model, given))
    ratios = [table_row(runs, words) for words in wanted]
    sys.exit(max(ratios) > LIMIT)


def arguments() -> Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description="Times of two checkouts, taking turns.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="for the model and outputs")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    return parser.parse_args()


def measure(side: str, checkout: Path, words: str, model: Path, given: Namespace) -> Measured:
    """One process of one checkout."""
    method, setting = words.split("|")
    work = (given.folder / side / words.replace(" ", "_").replace("/", "-")).resolve()
    model, out = model.resolve(), work / "model"
    job = Job(
        str(model),
        str(model / TOKENS),
        given.samples,
        method,
        setting,
        str(out),
        str(work / "result.json"),
    )
    script = checkout / "benchmarks" / "speed" / "inside_ours.py"
    env = {**os.environ, "PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1"}
    found = run([sys.executable, str(script)], job, work, env)
    shutil.rmtree(out, ignore_errors=True)
    print(f"{side} {method} {setting}: {found.wall_s:.1f} s", file=sys.stderr)
    return found


def table_row(runs: Runs, words: str) -> float:
    """Print the row of a job; NEW over OLD inside."""
    whole, inside, further = [], [], []
    for side in ("old", "new"):
        those = runs[side, words]
        whole.append(min(each.wall_s for each in those))
        inside.append(min(spent(each) for each in those))
        shares = [
            m["further_s"] / m["first_s"] for each in those if "further_s" in (m := each.inside)
        ]
        further += [min(shares)] if shares else []
    more = " ".join(f"further {share:.1%}" for share in further)
    print(
        f"{words:28} old {whole[0]:6.1f} new {whole[1]:6.1f} s, ratio {whole[1] / whole[0]:.3f}; "
        f"inside {inside[0]:6.1f} {inside[1]:6.1f} s, ratio {inside[1] / inside[0]:.3f} {more}",
        flush=True,
    )
    return inside[1] / inside[0]


def spent(found: Measured) -> float:
    """Seconds without the imports."""
    return found.inside["inside_s"] - found.inside["phases"]["import"]


if __name__ == "__main__":
    main()
