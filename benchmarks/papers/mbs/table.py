"""The tables of docs/papers/mbs.md, from the sweep beside this file.

    babelpress sweep benchmarks/papers/mbs/sweep.yaml --out OUT
    python -m benchmarks.papers.mbs.table OUT

First what every calibration costs; then, with English alone and over the languages that are alone,
how the loss of a language goes with its log share of the training text and with its likeness to
the calibration language: the cosine of mean squared inputs of block 0, as the published code has
it. Each correlation (Spearman's) is given plain and with the other taken out.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from babelpress.judge.verdicts import training_shares
from babelpress.moments.store import Store
from babelpress.system.settings import words
from babelpress.text import languages
from benchmarks.papers import swept

ALONE = "english", "fr", "zh", "ar", "hi", "sw", "yo", "ig"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="+", help="the folders of one sweep")
    parser.add_argument("--model", default="babel-mini", help="whose training shares are meant")
    parser.add_argument("--languages", default="", help="of runs that were scored in all of them")
    args = parser.parse_args()
    runs = swept.load(args.out[0], known=args.out[1:], languages=words(args.languages))
    print(costs(runs), end="\n\n")
    alike = similarity(max((args.out[0] / "moments").iterdir(), key=swept.languages_of))
    shares = training_shares(args.model, dict.fromkeys(alike))
    if shares is None:
        print(f"the training shares of {args.model} are not disclosed: no correlations.")
        return
    print(correlations(runs, alike, shares))


def costs(runs: Sequence[swept.Run]) -> str:
    """Mean, worst and low-resource loss of every method and calibration, over seeds."""
    head = ["method", "calibration", "tokens", "mean, %", "worst, %", "which", "low-resource, %"]
    rows: list[list[str]] = []
    for method, calibration, tokens, there in swept.cells(runs):
        which = dict.fromkeys(swept.short(run.summary("worst")[3]) for run in there)
        mean, worst, low = (
            swept.seeds(there, lambda run, name=name: run.summary(name)[0])
            for name in ("mean", "worst", "low_resource")
        )
        rows.append([method, calibration, f"{tokens:,}", mean, worst, ", ".join(which), low])
    return swept.table(head, rows)


def similarity(folder: Path) -> dict[str, dict[str, float]]:
    """The cosine of mean squared inputs of block 0, of every pair of languages."""
    seen = next(iter(Store.open(folder).load(0).values()))
    mean = {tag: (each.sumsq_I / each.n).double().numpy() for tag, each in seen.items()}
    unit = {tag: each / np.linalg.norm(each) for tag, each in mean.items()}
    return {one: {two: float(unit[one] @ unit[two]) for two in unit} for one in unit}


def correlations(
    runs: Sequence[swept.Run],
    alike: Mapping[str, Mapping[str, float]],
    shares: Mapping[str, float],
) -> str:
    """Of losses with log shares and likeness, over languages that were not calibrated on."""
    head = ["method", "calibration", "log share", "without likeness", "likeness", "without share"]
    rows: list[list[str]] = []
    for method in swept.methods(runs):
        for calibration in ALONE:
            if not (there := swept.of(runs, method, calibration)):
                continue
            own = languages.find("en" if calibration == "english" else calibration).tag
            found = [
                {
                    "loss": float(np.mean([run.loss(tag) for run in there])),
                    "share": math.log(shares[tag]),
                    "alike": alike[own][tag],
                }
                for tag in alike
                if tag != own
            ]
            cells = [
                _told(found, x, given)
                for x, given in (
                    ("share", ()),
                    ("share", ("alike",)),
                    ("alike", ()),
                    ("alike", ("share",)),
                )
            ]
            rows.append([method, calibration, *cells])
    return swept.table(head, rows)


def _told(rows: Sequence[Mapping[str, float]], x: str, given: Sequence[str]) -> str:
    def value(some: Sequence[Mapping[str, float]]) -> float:
        columns = {key: [row[key] for row in some] for key in ("loss", x, *given)}
        return swept.partial(columns[x], columns["loss"], [columns[key] for key in given])

    low, high = swept.interval(rows, value)
    return f"{value(rows):+.2f} [{low:+.2f}, {high:+.2f}]"


if __name__ == "__main__":
    main()
