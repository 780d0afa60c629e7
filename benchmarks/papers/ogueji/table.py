"""The tables of docs/papers/ogueji.md, from the sweep beside this file.

    babelpress sweep benchmarks/papers/ogueji/sweep.yaml --set model=MODEL --keep-models --out OUT
    for run in OUT/runs/*; do babelpress eval $run --on perturb --option of=ner \\
        --option kind=entities --corpus data/ner-100; done
    python -m benchmarks.papers.ogueji.table OUT

The loss of every language by sparsity, token embeddings kept or pruned, over seeds; below zero a
language gained. A model that finds no name on swapped text has no ratio there and no score: `eval`
says so, and the run is left out of that table.
"""

import argparse
from pathlib import Path

from benchmarks.papers import encoders
from benchmarks.papers.swept import table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    runs = [run for run in encoders.load(args.out, "ner") if "then" not in run.words]
    if not runs:
        print(f"{args.out} has no run that was pruned while it learnt yet.")
        return
    print(f"## Dense, F1\n\n{encoders.dense_table(runs)}\n")
    print(f"## Loss of F1 by language, %\n\n{_by_language(runs)}\n")
    swapped = [run for run in encoders.load(args.out, "perturb") if "then" not in run.words]
    if swapped:
        print("## How many times worse with other names, against the dense model, %\n")
        print(_by_language(swapped))


def _by_language(runs: list[encoders.Run]) -> str:
    """A row a recipe, a column a language; how many of them gained, and that at every seed.

    Means are over the languages that tell a loss at all seeds at which any does.
    """
    tags = list(dict.fromkeys(tag for run in runs for tag in run.losses))
    rows: list[list[str]] = []
    for (_, words), some in encoders.by_words(runs).items():
        cells: list[str] = []
        gained = 0
        for tag in tags:
            found = [run.losses[tag] for run in some if tag in run.losses]
            gained += len(found) == len(some) and max(found) < 0
            cells.append(encoders.percents(found, len(some)))
        means = encoders.mean_losses(some)
        seeds = encoders.of_all(len(means), len(some))
        rows.append([words, seeds, encoders.percents(means), str(gained), *cells])
    head = ["steps", "seeds", "mean", "gained", *map(encoders.short, tags)]
    return table(head, rows)


if __name__ == "__main__":
    main()
