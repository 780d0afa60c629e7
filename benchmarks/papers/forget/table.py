"""The tables of docs/papers/forget.md, from the sweeps beside this file.

    python -m benchmarks.papers.forget.table --into INTO --from FROM --gender GENDER \
        [--pairs BLOCKS/pairs.json]

INTO and FROM are sweeps scored by `translate` into English and out of it, GENDER one scored by
`gender`; each may be left out. With the pairs that a model was trained on (benchmarks/reference/mt)
resource levels are thirds of its languages by these, else those of the package's own table.

A loser is a sentence whose chrF++ falls by MOVED points or more, a winner one that gains as many.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from babelpress import evals
from babelpress.judge import scores, verdicts
from babelpress.numerics.tally import Tally
from babelpress.runs import manifest
from babelpress.runs.recipe import Recipe
from babelpress.sweeps.found import find
from babelpress.text import languages
from babelpress.text.languages import ENGLISH, sides
from benchmarks.papers import swept

MOVED = 10.0  # points of chrF++
THIRDS = ("most pairs", "fewer pairs", "fewest pairs")
LEVELS = ("high", "mid", "low")
PARTS = {"into": "into English: off target", "from": "out of English: off target"}


@dataclass(frozen=True, slots=True)
class Pressed:
    """A scored run, and the scored model that it was made of."""

    method: str
    dense: Path
    run: Path

    def values(self, on: str) -> dict[str, tuple[float, float]]:
        """The score before and after, by language or direction."""
        found = verdicts.scored(self.dense, self.run, on=on)
        return {tag: (found.dense[tag].value, found.pressed[tag].value) for tag in found.dense}

    def summary(self, on: str, name: str) -> str:
        """The mean loss or that of the worst language, with its 95 % interval."""
        found = verdicts.against(self.dense, self.run, on=on)
        row = next(each for each in found.summaries if each.name == name)
        which = f" {named(row.language)}" if row.language else ""
        percents = [swept.percent(each) for each in (row.value, row.low, row.high)]
        return f"{percents[0]} [{percents[1]}, {percents[2]}]{which}"

    def moved(self, on: str) -> dict[str, tuple[float, float]]:
        """The shares of losers and of winners among the sentences of each language."""
        found = verdicts.scored(self.dense, self.run, on=on)
        shares: dict[str, tuple[float, float]] = {}
        for tag, before in found.dense.items():
            after = dict(zip(found.pressed[tag].documents, _each(found.pressed[tag]), strict=True))
            gained = np.array(
                [
                    after[name] - old
                    for name, old in zip(before.documents, _each(before), strict=True)
                ]
            )
            shares[tag] = float(np.mean(gained <= -MOVED)), float(np.mean(gained >= MOVED))
        return shares


def _each(tally: Tally) -> list[float]:
    return (tally.numerator_D / tally.denominator_D).tolist()


def pressed(folder: Path, on: str) -> list[Pressed]:
    """Every scored run of a sweep, in its order."""
    there = find(folder, on)
    plans = [Recipe.model_validate(manifest.read(run).recipe) for run in there.runs]
    return [
        Pressed(swept.method_of(plan), there.dense, run)
        for run, plan in zip(there.runs, plans, strict=True)
    ]


def named(tag: str) -> str:
    """A language, or the one of a direction that is not English with an arrow: `en>sw`."""
    return ">".join(swept.short(each) for each in sides(tag))


# ---- levels --------------------------------------------------------------------------------


def levels(tags: Sequence[str], pairs: Mapping[str, int]) -> dict[str, list[str]]:
    """Languages (or directions, by the language that is not English) by resource level."""
    own = {tag: next((s for s in sides(tag) if s != ENGLISH), ENGLISH) for tag in tags}
    if not pairs:
        found = {
            each: [t for t in tags if languages.find(own[t]).resource == each] for each in LEVELS
        }
        return {level: some for level, some in found.items() if some}
    ordered = sorted(set(own.values()), key=lambda tag: -pairs[tag])
    parts = np.array_split(np.array(ordered), len(THIRDS))
    return {
        level: [tag for tag in tags if own[tag] in part.tolist()]
        for level, part in zip(THIRDS, parts, strict=True)
        if len(part)
    }


def pairs_of(path: Path | None) -> dict[str, int]:
    """How many pairs with English every language had in training; nothing where it is not known."""
    told = json.loads(path.read_text(encoding="utf-8")) if path else {}
    return {
        way.partition(">")[0]: each["pairs"] for way, each in told.items() if way.endswith(ENGLISH)
    }


def by_level(
    groups: Mapping[str, Sequence[str]], cell: Callable[[Sequence[str]], str]
) -> list[str]:
    """A cell for all languages, then one for every level."""
    return [cell([tag for some in groups.values() for tag in some]), *map(cell, groups.values())]


# ---- tables --------------------------------------------------------------------------------


def losses(runs: Sequence[Pressed], on: str, groups: Mapping[str, Sequence[str]]) -> str:
    """The dense score and the mean relative loss by level, and compare's mean and worst."""
    lower = evals.facts(on).lower_is_better
    dense = {tag: before for tag, (before, _) in runs[0].values(on).items()}
    head = ["", "all", *groups, "mean [95 %], %", "worst [95 %], %"]
    rows = [["dense, score", *by_level(groups, lambda t: f"{_mean(dense, t):.3g}"), "", ""]]
    for each in runs:
        sign = 1 if lower else -1
        change = {tag: sign * (b / a - 1) for tag, (a, b) in each.values(on).items()}
        cells = by_level(groups, lambda t, c=change: swept.percent(_mean(c, t)))
        ends = [each.summary(on, "mean"), each.summary(on, "worst")]
        rows.append([f"{each.method}, loss in %", *cells, *ends])
    return swept.table(head, rows)


def off_target(runs: Sequence[Pressed], part: str, groups: Mapping[str, Sequence[str]]) -> str:
    """The share of translations in a wrong language, in per cent, before and after."""
    folders = [("dense", runs[0].dense), *((each.method, each.run) for each in runs)]
    rows: list[list[str]] = []
    for method, folder in folders:
        rate = {tag: told[part] for tag, told in scores.sites(folder, "translate").items()}
        rows.append([method, *by_level(groups, lambda t, r=rate: f"{100 * _mean(r, t):.1f}")])
    return swept.table(["off target, %", "all", *groups], rows)


def movers(runs: Sequence[Pressed], groups: Mapping[str, Sequence[str]]) -> str:
    """Losers and winners among sentences, in per cent."""
    rows: list[list[str]] = []
    for each in runs:
        shares = each.moved("translate")

        def cell(tags: Sequence[str], shares: dict[str, tuple[float, float]] = shares) -> str:
            lost, won = (100 * np.mean([shares[tag][side] for tag in tags]) for side in (0, 1))
            return f"{lost:.1f} / {won:.1f}"

        rows.append([each.method, *by_level(groups, cell)])
    return swept.table(["losers / winners, %", "all", *groups], rows)


def genders(runs: Sequence[Pressed]) -> str:
    """Right choices by gender and by what is usual, the mean over languages, and differences."""
    head = ["right, %", "women", "men", "Δ_G", "usual", "unusual", "Δ_S", "worst language"]
    folders = [("dense", runs[0].dense), *((each.method, each.run) for each in runs)]
    rows: list[list[str]] = []
    for method, folder in folders:
        told = scores.sites(folder, "gender").values()
        women, men, usual, unusual = (
            100 * float(np.mean([each[kind] for each in told]))
            for kind in ("feminine", "masculine", "usual", "unusual")
        )
        values = {tag: tally.value for tag, tally in scores.tallies(folder, "gender").items()}
        worst = min(values, key=values.__getitem__)
        cells = [women, men, men - women, usual, unusual, usual - unusual]
        shown = [f"{each:+.1f}" if at in (2, 5) else f"{each:.1f}" for at, each in enumerate(cells)]
        rows.append([method, *shown, f"{100 * values[worst]:.1f} {swept.short(worst)}"])
    return swept.table(head, rows)


def _mean(values: Mapping[str, float], tags: Sequence[str]) -> float:
    return float(np.mean([values[tag] for tag in tags]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, what in (("into", "into English"), ("from", "out of English")):
        parser.add_argument(f"--{name}", type=Path, dest=name, help=f"sweep scored {what}")
    parser.add_argument("--gender", type=Path, help="sweep scored by gender")
    parser.add_argument("--pairs", type=Path, help="pairs.json of the model's training")
    given = vars(parser.parse_args())

    pairs = pairs_of(given["pairs"])
    for name, part in PARTS.items():
        if given[name]:
            runs = pressed(given[name], "translate")
            groups = levels([*runs[0].values("translate")], pairs)
            print(f"### chrF++ {part.partition(':')[0]}\n\n{losses(runs, 'translate', groups)}\n")
            print(f"{off_target(runs, part, groups)}\n\n{movers(runs, groups)}\n")
            if scores.corpora(runs[0].run, "translation_loss"):
                groups = levels([*runs[0].values("translation_loss")], pairs)
                print(f"### translation_loss\n\n{losses(runs, 'translation_loss', groups)}\n")
    if given["gender"]:
        print(f"### gender\n\n{genders(pressed(given['gender'], 'gender'))}")


if __name__ == "__main__":
    main()
