"""What a repair gives back: every language's loss before and after, and what it took.

    babelpress sweep benchmarks/repair/sweep.yaml --out OUT
    python -m benchmarks.repair.table OUT [OUT …]

A cell has one number for each seed; the interval is the widest that any seed has, from the paired
bootstrap over documents. Tokens and minutes are those of the repair alone. "of before" is the worst
language's loss as a share of what it was without the repair, mean over seeds that have both.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from babelpress.runs import manifest
from babelpress.runs.recipe import Recipe
from babelpress.steps.recover import Report
from benchmarks.papers import swept

KIND = "recover"


@dataclass(frozen=True, slots=True)
class Repaired:
    """A run of the sweep: how it was pressed, how it was repaired, and what that took."""

    run: swept.Run
    pressed: str
    repair: str
    draws: str
    tokens: int
    minutes: float

    @property
    def english(self) -> float:
        """The loss in English."""
        return self.run.loss("eng_Latn")

    def summary(self, name: str) -> float:
        """The mean loss, or that of the worst language."""
        return self.run.summary(name)[0]


def load(folders: Sequence[Path]) -> list[Repaired]:
    """Every scored run of a sweep that was done in one folder or in several."""
    return [_repaired(run) for run in swept.load(folders[0], known=folders[1:])]


def _repaired(run: swept.Run) -> Repaired:
    found = manifest.read(run.folder)
    plan = Recipe.model_validate(found.recipe)
    before = tuple(step for step in plan.steps if step.kind != KIND)
    pressed = swept.method_of(plan.model_copy(update={"steps": before})) or "dense"
    last, report = plan.steps[-1], found.steps[-1]
    if not isinstance(report, Report):
        return Repaired(run, pressed, "none", "–", 0, 0.0)
    tokens = sum(report.read.values())
    minutes = found.costs[-1]["seconds"] / 60
    return Repaired(run, pressed, last.work.repair, last.work.mixture, tokens, minutes)


def rows(runs: Sequence[Repaired]) -> list[list[str]]:
    """A row for every way to press and to repair."""
    found: list[list[str]] = []
    for key in dict.fromkeys((each.pressed, each.repair, each.draws) for each in runs):
        some = sorted(
            (each for each in runs if (each.pressed, each.repair, each.draws) == key),
            key=lambda each: each.run.seed,
        )
        which = dict.fromkeys(swept.short(each.run.summary("worst")[3]) for each in some)
        found.append(
            [
                *key,
                ", ".join(str(each.run.seed) for each in some),
                *(swept.cell([each.run for each in some], name) for name in ("mean", "worst")),
                ", ".join(which),
                " / ".join(swept.percent(each.english) for each in some),
                _share(some, runs),
                f"{max(each.tokens for each in some):,}" if some[0].tokens else "–",
                f"{np.mean([each.minutes for each in some]):.1f}" if some[0].minutes else "–",
            ]
        )
    return found


def _share(some: Sequence[Repaired], runs: Sequence[Repaired]) -> str:
    """The worst loss as a share of that of the same model and seed before its repair."""
    before = {
        (each.pressed, each.run.seed): each.summary("worst")
        for each in runs
        if each.repair == "none"
    }
    shares = [
        each.summary("worst") / before[key]
        for each in some
        if each.repair != "none" and (key := (each.pressed, each.run.seed)) in before
    ]
    return f"{np.mean(shares):.2f}" if shares else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="+")
    found = load(parser.parse_args().out)
    head = ["pressed", "repair", "draws", "seeds", "mean", "worst language", "which", "English"]
    print(swept.table([*head, "of before", "tokens", "minutes"], rows(found)))


if __name__ == "__main__":
    main()
