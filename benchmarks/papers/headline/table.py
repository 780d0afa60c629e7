"""The first table of README: what a calibration costs the mean and the worst language.

    babelpress sweep benchmarks/papers/headline/sweep.yaml --out OUT
    babelpress sweep benchmarks/papers/headline/target.yaml --out OUT
    python -m benchmarks.papers.headline.table OUT [OUT …]

A cell has one number for each seed; the interval is the widest that any seed has, from the paired
bootstrap over documents. "Each its own": every language is pressed apart, calibrated on its own
text alone. Several folders are of one sweep that was done in parts.
"""

import argparse
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
    for method in swept.methods(runs):
        for calibration in swept.calibrations(runs):
            some = swept.of(runs, method, calibration)
            for tokens in sorted({run.tokens for run in some}, reverse=True):
                there = [run for run in some if run.tokens == tokens]
                which = dict.fromkeys(swept.short(run.summary("worst")[3]) for run in there)
                seeds = ", ".join(str(run.seed) for run in there)
                cells = [_cell(there, "mean"), _cell(there, "worst"), ", ".join(which)]
                rows.append([method, calibration, f"{tokens:,}", seeds, *cells])
    print(swept.table(head, rows))


def _cell(runs: list[swept.Run], name: str) -> str:
    found = [run.summary(name) for run in runs]
    values = " / ".join(swept.percent(value) for value, *_ in found)
    low, high = min(low for _, low, *_ in found), max(high for _, _, high, _ in found)
    return f"{values} % [{swept.percent(low)}, {swept.percent(high)}]"


if __name__ == "__main__":
    main()
