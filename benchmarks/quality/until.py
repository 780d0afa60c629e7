"""How many articles a promise takes to be known, and how often what is known is wrong.

    python benchmarks/quality/until.py simulate [--runs 1000] [--languages 12] [--articles 100]
    python benchmarks/quality/until.py replay DENSE RUN... [--on bits_per_byte] [--draws 200]

`simulate` makes texts: sizes are log-normal with a deviation of one, and what an article loses is
partly the same in all languages, and heavy-tailed, skewed on either side, or hangs on the size. At
the bound (`beyond` 0) all languages lose exactly what they may: each of `broken` (any language) and
`kept` (of one language, as if the others kept) is wrong then, and may be said in 5 % of runs. Away
from it the rows tell how many articles a language takes.

`replay` reads folders that are scored whole, such as those of a sweep, draws the order of articles
anew by each seed, and stops as `eval --until-known` would: how often the answer is not that of the
whole text, and what part of the articles was read, by promise. A promise is made for every run at
quantiles of its own largest loss, so that some are close.
"""

import argparse
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from babelpress import evals
from babelpress.judge import scores
from babelpress.judge.evidence import ALPHA
from babelpress.judge.known import BROKEN, KEPT, OPEN, First
from babelpress.numerics.sequential import LEAST, Steps, log_evidence, rounds
from babelpress.numerics.tally import Tally

KINDS = ("heavy", "missing", "luck", "size")
BOUND = 1.05  # of a promise of 5 %
BEYOND = (0.0, -0.05, -0.025, 0.025, 0.05)
PROMISES = (0.02, 0.05, 0.1, 0.2)  # of a loss
CLOSE = (0.5, 0.8, 0.95, 1.05, 1.25, 2.0)  # times the loss of the language that loses most


# ---- texts that are made up ----------------------------------------------------------------


def drawn_text(
    kind: str, runs: int, languages: int, total: int, beyond: float, seed: int
) -> np.ndarray:
    """Steps (runs, languages, total − 1) at BOUND of runs that lose 5 % and `beyond`."""
    rng = np.random.default_rng(seed)
    size_R1N = rng.lognormal(0, 1, (runs, 1, total))
    dense_RLN = size_R1N * rng.lognormal(0, 0.15, (runs, languages, total))
    shared_R1N, own_RLN = (_noise(kind, rng, each.shape) for each in (size_R1N, dense_RLN))
    lost_RLN = 0.02 * (shared_R1N + own_RLN)
    if kind == "size":
        lost_RLN = 0.03 * np.log(size_R1N) + 0.3 * lost_RLN
    mean_RL1 = (dense_RLN * lost_RLN).sum(-1, keepdims=True) / dense_RLN.sum(-1, keepdims=True)
    pressed_RLN = dense_RLN * (BOUND + beyond + lost_RLN - mean_RL1)
    weight_RLN = dense_RLN * rng.lognormal(0, 0.1, dense_RLN.shape)
    order_RLN = (-np.log(rng.random(size_R1N.shape)) / weight_RLN).argsort(-1)
    pressed_RLN, dense_RLN, weight_RLN = (
        np.take_along_axis(each, order_RLN, -1) for each in (pressed_RLN, dense_RLN, weight_RLN)
    )
    return Steps.of(pressed_RLN, dense_RLN, weight_RLN).at(BOUND)


def _noise(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if kind == "heavy":
        return rng.standard_t(3, shape)
    if kind in ("missing", "luck"):
        return (1 if kind == "missing" else -1) * rng.exponential(1, shape)
    return rng.standard_normal(shape)


def looks(total: int) -> list[int]:
    """After how many articles it is asked, before all are read."""
    return [size for size in rounds(total) if LEAST <= size < total]


class Told(NamedTuple):
    """After how many articles each is known of every language; all of them where it never is."""

    broken_RL: np.ndarray
    kept_RL: np.ndarray


def told(step_RLT: np.ndarray, total: int) -> Told:
    """What is known of runs whose steps these are."""
    there = looks(total)
    steps, languages = [size - 1 for size in there], step_RLT.shape[1]
    broken = log_evidence(step_RLT, steps) >= math.log(languages / ALPHA)
    kept = log_evidence(-step_RLT, steps) >= math.log(1 / ALPHA)
    sizes = np.array([*there, total])
    first = [sizes[np.where(x.any(-1), x.argmax(-1), len(there))] for x in (broken, kept)]
    return Told(*first)


def simulate(runs: int, languages: int, articles: int) -> Iterator[str]:
    """Rows of a table, one for each kind and distance from the bound."""
    yield "kind     beyond  said broken  said kept  articles until broken, until kept (mean)"
    for kind in KINDS:
        for number, beyond in enumerate(BEYOND):
            step_RLT = drawn_text(kind, runs, languages, articles, beyond, seed=number)
            broken_RL, kept_RL = told(step_RLT, articles)
            yield (
                f"{kind:8} {100 * beyond:+5.1f} %  {(broken_RL.min(1) < articles).mean():11.3f}"
                f"  {(kept_RL[:, 0] < articles).mean():9.3f}"
                f"  {broken_RL.min(1).mean():6.1f}, {kept_RL.mean():.1f} of {articles}"
            )


# ---- scores that are there -----------------------------------------------------------------


def replay(dense: Path, runs: list[Path], on: str, draws: int) -> Iterator[str]:
    """Rows of a table, one for each kind of promise, over all runs and draws."""
    whole = scores.tallies(dense, on)
    lower = evals.facts(on).lower_is_better
    found: dict[str, list[tuple[str, str, float]]] = {}
    for run in runs:
        pressed = {tag: each for tag, each in scores.tallies(run, on).items() if tag in whole}
        same = all({*each.documents} == {*whole[tag].documents} for tag, each in pressed.items())
        if not pressed or not same:
            yield f"left out: {run} is not scored on the documents of {dense}"
            continue
        worst = max(_first(whole, pressed, tag, 0, lower).loss() for tag in pressed)
        promises = {f"{100 * each:g} %": each for each in PROMISES}
        promises |= {f"{each:g} of the worst loss": each * worst for each in CLOSE if worst > 0}
        for seed in range(draws):
            first = {tag: _first(whole, pressed, tag, seed, lower) for tag in pressed}
            for name, promise in promises.items():
                found.setdefault(name, []).append(_replayed(first, promise))
    yield "promise                  answers  wrong  undecided  articles read"
    for name, each in found.items():
        wrong = sum(said not in (OPEN, truth) for said, truth, _ in each) / len(each)
        undecided = sum(said == OPEN for said, _, _ in each) / len(each)
        part = sum(part for _, _, part in each) / len(each)
        yield f"{name:24} {len(each):7} {wrong:6.3f} {undecided:10.3f} {100 * part:12.1f} %"


def _first(
    whole: Mapping[str, Tally], pressed: Mapping[str, Tally], tag: str, seed: int, lower: bool
) -> First:
    return First.of(tag, whole[tag], pressed[tag], lower_is_better=lower, seed=seed)


def _replayed(first: Mapping[str, First], promise: float) -> tuple[str, str, float]:
    """What is said of a promise, what is true, and which part of the articles that took."""
    truth = BROKEN if any(each.loss() > promise for each in first.values()) else KEPT
    size, sizes = len(first), {tag: len(each.dense_N) for tag, each in first.items()}
    read = dict.fromkeys(first, 0)
    unknown, number = list(first), 0
    said = OPEN
    while unknown:
        for tag in unknown:
            ends = list(rounds(sizes[tag]))
            read[tag] = ends[min(number, len(ends) - 1)]
        answers = {
            tag: replace(each, pressed_T=each.pressed_T[: read[tag]]).answer(promise, size).word
            for tag, each in first.items()
        }
        if BROKEN in answers.values():
            said = BROKEN
            break
        unknown, number = [tag for tag, word in answers.items() if word == OPEN], number + 1
        said = OPEN if unknown else KEPT
    return said, truth, sum(read.values()) / sum(sizes.values())


def main() -> None:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    ways = parser.add_subparsers(dest="way", required=True)
    made = ways.add_parser("simulate")
    made.add_argument("--runs", type=int, default=1000)
    made.add_argument("--languages", type=int, default=12)
    made.add_argument("--articles", type=int, default=100)
    there = ways.add_parser("replay")
    there.add_argument("dense", type=Path)
    there.add_argument("runs", type=Path, nargs="+")
    there.add_argument("--on", default="bits_per_byte")
    there.add_argument("--draws", type=int, default=200)
    asked = parser.parse_args()
    if asked.way == "simulate":
        rows = simulate(asked.runs, asked.languages, asked.articles)
    else:
        rows = replay(asked.dense, asked.runs, asked.on, asked.draws)
    for row in rows:
        print(row, flush=True)


if __name__ == "__main__":
    main()
