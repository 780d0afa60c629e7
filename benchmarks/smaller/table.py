"""What every way to a smaller model costs its worst-off language, smallest model first.

    babelpress sweep benchmarks/smaller/mini.yaml --out OUT
    python -m benchmarks.smaller.table OUT [SCORES …]

OUT is a sweep; SCORES are folders of `babelpress eval --out` of models that were made in other
ways, such as GGUF files, on the same texts. Megabytes are those of packed weights, of a GGUF file
as they lie there. A cell has one number a seed; the interval is the widest that any seed has,
from the paired bootstrap over documents.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from babelpress.judge import costs, verdicts
from babelpress.sweeps.found import find
from benchmarks.papers import swept

ENGLISH = "eng_Latn"


def load(out: Path, others: Sequence[Path]) -> list[swept.Run]:
    """Every scored run of a sweep, and models that were made in other ways."""
    runs = swept.load(out)
    dense = find(out, swept.ON).dense
    tags = list(runs[0].losses)
    for place in others:
        found = verdicts.against(dense, place, on=swept.ON, languages=tags)
        runs.append(swept.Run(place, place.name, "", 0, 0, found))
    return runs


def rows(runs: Sequence[swept.Run]) -> list[list[str]]:
    """A row for every way, the smallest first."""
    sizes = {run.folder: costs.of(run.folder)["bytes_stored"] for run in runs}
    ways = dict.fromkeys(run.method for run in sorted(runs, key=lambda run: sizes[run.folder]))
    found: list[list[str]] = []
    for way in ways:
        some = sorted((run for run in runs if run.method == way), key=lambda run: run.seed)
        found.append(
            [
                way,
                f"{max(sizes[run.folder] for run in some) / 1e6:.1f}",
                ", ".join(str(run.seed) for run in some),
                *(swept.cell(some, name) for name in ("mean", "worst")),
                ", ".join(dict.fromkeys(swept.short(run.summary("worst")[3]) for run in some)),
                " / ".join(swept.percent(run.loss(ENGLISH)) for run in some),
            ]
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("scores", type=Path, nargs="*")
    asked = parser.parse_args()
    head = ["made by", "MB", "seeds", "mean", "worst language", "which", "English"]
    print(swept.table(head, rows(load(asked.out, asked.scores))))


if __name__ == "__main__":
    main()
