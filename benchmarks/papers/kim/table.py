"""The table of docs/papers/kim.md, from the sweep beside this file.

    babelpress sweep benchmarks/papers/kim/sweep.yaml --out OUT
    python -m benchmarks.papers.kim.table OUT

For every share of weights that went and every condition: the loss in English and the mean loss in
the other languages, over seeds.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.papers import swept

ENGLISH = "eng_Latn"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    runs = swept.load(args.out)
    head = ["pruned", "calibration", "others, %", "English, %"]
    rows: list[list[str]] = []
    for method in swept.methods(runs):
        for calibration in swept.calibrations(runs):
            there = swept.of(runs, method, calibration)
            if there:
                english = swept.seeds(there, lambda run: run.loss(ENGLISH))
                rows.append([method, calibration, swept.seeds(there, _others), english])
    print(swept.table(head, rows))


def _others(run: swept.Run) -> float:
    """The mean loss of all languages but English."""
    return float(np.mean([loss for tag, loss in run.losses.items() if tag != ENGLISH]))


if __name__ == "__main__":
    main()
