"""The tables of docs/papers/awobade.md, from the sweeps beside this file.

    babelpress sweep benchmarks/papers/awobade/ner.yaml --set model=MODEL --out OUT
    babelpress sweep benchmarks/papers/awobade/ner-before.yaml --set model=MODEL --out OUT
    python -m benchmarks.papers.awobade.table OUT --on ner

`--on` is ner, or of topic and sentiment classify, macro_f1, class_ece or perturb. Dense scores by
language, then every recipe against its dense model over seeds, then how far each language can be
pruned, and where documents have an order what easy and hard ones lose.
"""

import argparse
from pathlib import Path

from babelpress.judge import verdicts
from benchmarks.papers import encoders
from benchmarks.papers.swept import table

MAX_LOSS = 0.1  # relative, of a collapse point


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--on", default="ner")
    parser.add_argument("--max-loss", type=float, default=MAX_LOSS)
    args = parser.parse_args()
    runs = encoders.load(args.out, args.on)
    if not runs:
        print(f"{args.out} has no run with {args.on} scores beside a fine-tuned model yet.")
        return
    print(f"## Dense, {args.on}\n\n{encoders.dense_table(runs)}\n")
    print(f"## Pressed, {args.on}\n\n{encoders.loss_table(runs)}\n")
    most = f"{100 * args.max_loss:g} %"
    print(f"## The largest sparsity with a loss of at most {most}\n")
    print(f"{encoders.collapse_table(runs, max_loss=args.max_loss)}\n")
    if rows := _thirds(runs):
        print("## Easy and hard sentences, loss in %\n")
        print(table(["steps", "seeds", "easy", "middle", "hard"], rows))


def _thirds(runs: list[encoders.Run]) -> list[list[str]]:
    """What each third of the documents loses in the mean over languages, by recipe.

    Those are the languages that tell a loss at all seeds at which any does.
    """
    rows: list[list[str]] = []
    for (_, words), some in encoders.by_words(runs).items():
        told, tags = encoders.told_of(some), encoders.shared(some)
        found = [
            verdicts.thirds(run.dense, run.folder, on=run.on, languages=tags)
            for run in told
            if tags
        ]
        means = [{e.name: e.change for e in each if e.language is None} for each in found]
        cells = [
            encoders.percents([each[name] for each in means if name in each], len(means))
            for name in ("easy", "middle", "hard")
        ]
        if any(means):
            rows.append([words, encoders.of_all(len(means), len(some)), *cells])
    return rows


if __name__ == "__main__":
    main()
