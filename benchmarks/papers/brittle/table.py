"""The table of docs/papers/brittle.md, from the sweep beside this file.

    babelpress sweep benchmarks/papers/brittle/sweep.yaml --set model=MODEL --out OUT
    python -m benchmarks.papers.brittle.table OUT --on classify

For every number of texts a language: the dense score, and the loss of distilling and of quantizing
over seeds, with their spread; means are over the languages that tell a loss at all of these.
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
    runs = [run for run in found if _pressed(run.words)]
    if not runs:
        print(f"{args.out} has no distilled or quantized run with {args.on} scores yet.")
        return
    print(f"## Dense, {args.on}\n\n{encoders.dense_table(runs)}\n")
    rows: list[list[str]] = []
    for (corpus, words), some in encoders.by_words(runs).items():
        losses = encoders.mean_losses(some)
        spread = f"{100 * float(np.std(losses, ddof=1)):.1f}" if len(losses) > 1 else "–"
        cell = encoders.percents(losses) if losses else "at chance"
        seeds = encoders.of_all(len(losses), len(some))
        tags = ", ".join(map(encoders.short, encoders.shared(some))) or "–"
        rows.append([corpus, words, seeds, tags, cell, spread])
    head = ["texts", "steps", "seeds", "languages", "mean loss, %", "spread over seeds"]
    print(f"## Pressed, {args.on}\n\n{table(head, rows)}")


def _pressed(words: str) -> bool:
    """Whether a model was distilled or quantized when it was fine-tuned, and nothing else done."""
    first, _, rest = words.partition(", then ")
    alone = first == encoders.TUNED and "then" not in rest
    return alone and (rest.startswith("distil ") or rest.endswith(" bits"))


if __name__ == "__main__":
    main()
