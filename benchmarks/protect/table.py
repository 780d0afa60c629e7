"""What protects the worst-off language: every way to press, alone and together, with and without
repair.

    babelpress sweep benchmarks/protect/mini.yaml --out OUT
    python -m benchmarks.protect.table OUT

A row is a method and a way; a cell has one number a seed, the interval is the widest that any seed
has, from the paired bootstrap over documents. "of uniform" is the worst language's loss as a share
of that under plain uniform calibration with the same repair and seed, "English" what English loses
more than there, in points; both are means over seeds. With --languages only these are looked at,
such as those that no choice was made on.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from babelpress.runs import manifest
from babelpress.runs.recipe import Recipe
from benchmarks.papers import swept

ENGLISH = "eng_Latn"
NONE = "none"


@dataclass(frozen=True, slots=True)
class Way:
    """How a run was protected: mixture, what tokens weigh, what blocks give, and its repair."""

    method: str
    mixture: str
    weigh: str
    allocate: str
    repair: str

    @property
    def plain(self) -> "Way":
        """Uniform calibration with the same repair."""
        return Way(self.method, "uniform", "evenly", "uniform", self.repair)

    @property
    def label(self) -> str:
        """The way in words, but for method and repair."""
        parts = [
            self.mixture,
            "" if self.weigh == "evenly" else "weighed by the loss",
            "" if self.allocate == "uniform" else f"{self.allocate} allocation",
        ]
        return ", ".join(filter(None, parts))


def load(folder: Path, languages: Sequence[str] = ()) -> list[tuple[Way, swept.Run]]:
    """Every scored run of a sweep, and how it was protected."""
    return [(_way(run), run) for run in swept.load(folder, languages=languages)]


def _way(run: swept.Run) -> Way:
    plan = Recipe.model_validate(manifest.read(run.folder).recipe)
    first, *later = plan.steps
    pressed = plan.model_copy(update={"steps": (first,)})
    repairs = [step.work.mixture for step in later if step.kind == "recover"]
    return Way(
        swept.method_of(pressed),
        first.work.mixture,
        plan.calibration.weigh,
        first.work.allocate,
        repairs[0] if repairs else NONE,
    )


def rows(found: Sequence[tuple[Way, swept.Run]]) -> list[list[str]]:
    """A row for every way, those of one method and repair together."""
    seeds: dict[Way, dict[int, swept.Run]] = {}
    for way, run in found:
        seeds.setdefault(way, {})[run.seed] = run
    order = {key: n for n, key in enumerate(dict.fromkeys((w.method, w.repair) for w in seeds))}
    told: list[list[str]] = []
    for way in sorted(seeds, key=lambda each: order[each.method, each.repair]):
        own, plain = seeds[way], seeds.get(way.plain, {})
        some = [own[seed] for seed in sorted(own)]
        both = [(own[seed], plain[seed]) for seed in sorted(own) if seed in plain]
        which = dict.fromkeys(swept.short(run.summary("worst")[3]) for run in some)
        told.append(
            [
                way.method,
                way.repair,
                way.label,
                ", ".join(str(run.seed) for run in some),
                *(swept.cell(some, name) for name in ("mean", "worst")),
                ", ".join(which),
                _share(both),
                _english(both),
            ]
        )
    return told


def _share(both: Sequence[tuple[swept.Run, swept.Run]]) -> str:
    """The worst loss as a share of that under uniform calibration."""
    shares = [own.summary("worst")[0] / plain.summary("worst")[0] for own, plain in both]
    return f"{np.mean(shares):.2f}" if shares else "–"


def _english(both: Sequence[tuple[swept.Run, swept.Run]]) -> str:
    """What English loses more, in points; a dash where it was not looked at."""
    more = [
        own.losses[ENGLISH] - plain.losses[ENGLISH] for own, plain in both if ENGLISH in own.losses
    ]
    return swept.percent(float(np.mean(more))) if more else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--languages", default="", help="only these, commas between")
    asked = parser.parse_args()
    some = [each for each in asked.languages.split(",") if each]
    head = ["method", "repair", "calibration", "seeds", "mean", "worst language", "which"]
    print(swept.table([*head, "of uniform", "English"], rows(load(asked.out, some))))


if __name__ == "__main__":
    main()
