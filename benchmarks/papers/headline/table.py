"""The first table of README: what a calibration costs the mean and the worst language.

    babelpress sweep benchmarks/papers/headline/sweep.yaml --out OUT
    babelpress sweep benchmarks/papers/headline/target.yaml --out OUT
    python -m benchmarks.papers.headline.table OUT [OUT …]

A cell has one number for each seed; the interval is the widest that any seed has, from the paired
bootstrap over documents. "Each its own": every language is pressed apart, calibrated on its own
text alone. Several folders are of one sweep that was done in parts.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.papers import swept

LANGUAGES = ("en", "fr", "ru", "zh", "ar", "hi", "bn", "ta", "th", "tr", "sw", "yo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="+")
    args = parser.parse_args()
    runs = swept.load(args.out[0], known=args.out[1:], languages=LANGUAGES)
    head = ["method", "calibration", "tokens", "seeds", "mean", "worst language", "which"]
    rows: list[list[str]] = []
    for method, calibration, tokens, there in swept.cells(runs):
        which = dict.fromkeys(swept.short(run.summary("worst")[3]) for run in there)
        seeds = ", ".join(str(run.seed) for run in there)
        cells = [swept.cell(there, "mean"), swept.cell(there, "worst"), ", ".join(which)]
        rows.append([method, calibration, f"{tokens:,}", seeds, *cells])
    print(swept.table(head, rows), end="\n\n")
    print(ranges(runs))


def ranges(runs: Sequence[swept.Run]) -> str:
    """Two rows a method, a column a calibration: the range over seeds, and whom it is worst for.

    The first table of README. Of a calibration that was done with several numbers of tokens a
    language, that with the most.
    """
    names = swept.calibrations(runs)
    rows: list[list[str]] = []
    for method in swept.methods(runs):
        most: dict[str, list[swept.Run]] = {}
        for each, calibration, _, there in swept.cells(runs):
            if each == method:
                most.setdefault(calibration, there)
        for name in ("mean", "worst"):
            found = [_range(most.get(calibration, []), name) for calibration in names]
            rows.append([method if name == "mean" else "", name, *found])
    return swept.table(["method, %", "", *names], rows)


def _range(runs: Sequence[swept.Run], name: str) -> str:
    if not runs:
        return "–"
    values = [100 * run.summary(name)[0] for run in runs]
    which = dict.fromkeys(swept.short(tag) for run in runs if (tag := run.summary(name)[3]))
    seeds = "" if len(runs) > 2 else f", {len(runs)} of 3 seeds"
    return ", ".join([f"{min(values):.1f} to {max(values):.1f}", *which]) + seeds


if __name__ == "__main__":
    main()
