"""The tables of docs/papers/kurz.md, from the sweep beside this file.

    babelpress sweep benchmarks/papers/kurz/sweep.yaml --out OUT
    python -m benchmarks.papers.kurz.table OUT

For every pruner and pattern the matrix of calibration by evaluation language, read column by
column; then what the paper's claims come to, counted over columns and seeds.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from babelpress.text import languages
from benchmarks.papers import swept

LANGUAGES = ("en", "de", "es", "ru", "zh", "ar", "sw")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    runs = swept.load(args.out)
    runs = _complete(runs)
    for method in swept.methods(runs):
        print(f"### {method}\n\n{matrix([run for run in runs if run.method == method])}\n")
    print(claims(runs))


def _complete(runs: Sequence[swept.Run]) -> list[swept.Run]:
    """Those of methods that have been done with every calibration and seed; others are named."""
    number = {method: sum(r.method == method for r in runs) for method in swept.methods(runs)}
    most = max(number.values())
    for method, have in number.items():
        if have < most:
            print(f"{method} is left out: {have} of {most} runs are done.\n")
    return [run for run in runs if number[run.method] == most]


def matrix(runs: Sequence[swept.Run]) -> str:
    """Losses in per cent, the mean over seeds; the best single language of a column is marked."""
    rows: list[list[str]] = []
    best = {tag: min(_single(runs), key=lambda one: _mean(runs, one, tag)) for tag in LANGUAGES}
    for calibration in swept.calibrations(runs):
        row = [calibration]
        for tag in LANGUAGES:
            value = swept.percent(_mean(runs, calibration, tag))
            row.append(f"**{value}**" if calibration == best[tag] else value)
        rows.append(row)
    return swept.table(["calibration", *LANGUAGES], rows)


def claims(runs: Sequence[swept.Run]) -> str:
    """Counts for every method: over target languages and seeds."""
    head = [
        "method",
        "own language best of 7",
        "own against best other, points",
        "own and English better than own",
        "all 7 better than own",
        "English alone costs most",
    ]
    rows: list[list[str]] = []
    for method in swept.methods(runs):
        some = [run for run in runs if run.method == method]
        cells = [(seed, tag) for seed in sorted({r.seed for r in some}) for tag in LANGUAGES]
        singles, several = _single(some), "uniform"
        own = {cell: _of(some, cell[1], *cell) for cell in cells}
        other = {
            cell: min(_of(some, one, *cell) for one in singles if one != cell[1]) for cell in cells
        }
        worst = {cell: max(singles, key=lambda one, c=cell: _of(some, one, *c)) for cell in cells}
        others = [cell for cell in cells if cell[1] != "en"]
        known = set(swept.calibrations(some))
        pairs = [cell for cell in others if f"en+{cell[1]}" in known]
        gaps = [own[cell] - other[cell] for cell in cells]
        rows.append(
            [
                method,
                _share(own[cell] < other[cell] for cell in cells),
                f"{swept.percent(float(np.mean(gaps)))} "
                f"({swept.percent(min(gaps))} to {swept.percent(max(gaps))})",
                _share(_of(some, f"en+{cell[1]}", *cell) < own[cell] for cell in pairs),
                _share(_of(some, several, *cell) < own[cell] for cell in cells),
                _share(worst[cell] == "en" for cell in others),
            ]
        )
    return swept.table(head, rows)


def _share(found: Iterable[bool]) -> str:
    values = list(found)
    return f"{sum(values)} of {len(values)}" if values else "–"


def _single(runs: Sequence[swept.Run]) -> list[str]:
    return [each for each in swept.calibrations(runs) if each in LANGUAGES]


def _mean(runs: Sequence[swept.Run], calibration: str, tag: str) -> float:
    there = [run for run in runs if run.calibration == calibration]
    return float(np.mean([run.loss(languages.find(tag).tag) for run in there]))


def _of(runs: Sequence[swept.Run], calibration: str, seed: int, tag: str) -> float:
    there = [run for run in runs if (run.calibration, run.seed) == (calibration, seed)]
    return _mean(there, calibration, tag)


if __name__ == "__main__":
    main()
