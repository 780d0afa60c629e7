"""The table of docs/papers/brittle.md, from the sweep beside this file.

    babelpress sweep benchmarks/papers/brittle/sweep.yaml --set model=MODEL --out OUT
    python -m benchmarks.papers.brittle.table OUT --on classify

For every number of texts a language: the dense score, and the loss of distilling and of quantizing
over seeds, with their spread.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.papers import encoders
from benchmarks.papers.swept import table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--on", default="classify")
    args = parser.parse_args()
    found = encoders.load(args.out, args.on)
    runs = [run for run in found if "magnitude" not in run.words]
    if not runs:
        print(f"{args.out} has no distilled or quantized run with {args.on} scores yet.")
        return
    print(f"## Dense, {args.on}\n\n{encoders.dense_table(runs)}\n")
    rows: list[list[str]] = []
    for (corpus, words), some in encoders.by_words(runs).items():
        losses = [encoders.mean_loss(run) for run in some if run.losses]
        spread = f"{100 * float(np.std(losses, ddof=1)):.1f}" if len(losses) > 1 else "–"
        cell = encoders.percents(losses) if losses else "at chance"
        rows.append([corpus, words, str(len(some)), cell, spread])
    head = ["texts", "steps", "seeds", "mean loss, %", "spread over seeds"]
    print(f"## Pressed, {args.on}\n\n{table(head, rows)}")


if __name__ == "__main__":
    main()
