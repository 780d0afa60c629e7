"""The tables of tasks in docs/papers: what a sweep scored beside bits per byte, in per cent.

    babelpress sweep benchmarks/papers/kim/tasks.yaml --set model=MODEL --out OUT
    python -m benchmarks.papers.tasks OUT --on choice --corpus tasks/sib200

One row for every method and calibration, one column for every language: the mean over seeds, and
their range behind it. `mean` is over the languages in which the dense model does better than
guessing, where the score is one of right and wrong answers; `worse` counts the seeds and those
languages in which a paired test finds a loss at 5 %, Holm's correction over languages made.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from babelpress import evals
from babelpress.judge import scores
from benchmarks.papers import swept
from benchmarks.papers.swept import Run

NO_SHARES = (  # metrics that are no share of one, and are told as they are
    "bits_per_byte",
    "bleu",
    "chrf",
    "masked_bits",
    "ms_per_text",
    "times_worse",
    "translation_bits_per_byte",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--on", default="choice")
    parser.add_argument("--corpus", default="", help="which, where it was scored on several")
    args = parser.parse_args()
    runs = swept.load(args.out, args.on, corpus=args.corpus)
    corpus = scores.prefer(runs[0].folder, args.on, args.corpus)
    identity = scores.identity_of(runs[0].folder, args.on, corpus)
    scale = _scale(args.on, identity.get("options", {}))
    tags = [change.language for change in runs[0].found.changes]
    guessed = {change.language for change in runs[0].found.changes if change.at_chance}
    known = [tag for tag in tags if tag not in guessed]
    head = ["method", "calibration", *map(swept.short, tags), "mean", "worse"]
    rows = [_dense(runs[0], tags, known, scale)]
    for method in swept.methods(runs):
        for calibration in swept.calibrations(runs):
            if there := swept.of(runs, method, calibration):
                rows.append([method, calibration, *_cells(there, tags, known, scale)])
    print(f"{evals.facts(args.on).spoken}, {len(runs)} runs")
    if guessed:
        print(f"no better than guessing before: {', '.join(map(swept.short, sorted(guessed)))}")
    print(f"\n{swept.table(head, rows)}")


def _scale(on: str, options: Mapping[str, Any]) -> int:
    """What a score is multiplied with: a share of one is told in per cent."""
    return 1 if evals.metric(on, options) in NO_SHARES else 100


def _dense(run: Run, tags: Sequence[str], known: Sequence[str], scale: int) -> list[str]:
    """The row of the dense model."""
    dense = {change.language: change.dense * scale for change in run.found.changes}
    mean = f"{np.mean([dense[tag] for tag in known]):.1f}" if known else "–"
    return ["dense", "", *(f"{dense[tag]:.1f}" for tag in tags), mean, ""]


def _cells(runs: Sequence[Run], tags: Sequence[str], known: Sequence[str], scale: int) -> list[str]:
    """By language, their mean, and how often a loss was found."""
    found = [{c.language: c.pressed * scale for c in run.found.changes} for run in runs]
    means = [float(np.mean([one[tag] for tag in known])) for one in found] if known else []
    said = [change.finding for run in runs for change in run.found.changes if not change.at_chance]
    worse = f"{said.count('worse')} of {len(said)}"
    return [*(_range([one[tag] for one in found]) for tag in tags), _range(means), worse]


def _range(values: Sequence[float]) -> str:
    if not values:
        return "–"
    mean = f"{np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
