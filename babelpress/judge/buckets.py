"""Easy and hard documents: what pressing costs each third of them, by the dense model's own score.

The documents of a language are ordered by the score that the dense model gives each, the best
first, and parted into thirds: easy, middle, hard (Du et al. 2023, arXiv:2110.08419, part examples
so by confidence). What is easy to the dense model says nothing of the pressed one, so a model that
keeps to shortcuts loses most on hard documents.

Losses and draws are those of `compare`: a draw takes documents of all thirds, the same ones in all
languages where they share them, and each third has what it took of it.

Where documents are right or wrong there is no order, and no thirds; nor where there are fewer than
`LEAST` of them. The dense score of a third is chosen for being good or bad, so where it is largely
luck, as F1 of a short sentence is, easy documents seem to lose more than they do, hard ones less.

Shapes: L languages, D documents, R draws.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from babelpress.judge.evidence import ALPHA, draws_for
from babelpress.judge.pairs import Pair, counts, is_shared, pairs_of
from babelpress.numerics.tally import Tally

NAMES = EASY, MIDDLE, HARD = ("easy", "middle", "hard")
LEAST = 9  # documents: three in a third
DEGREES = 3  # scores that differ, at least, for an order to be one


@dataclass(frozen=True, slots=True)
class Bucket:
    """The loss of a third with its 95 % interval; `language` is None for the mean over languages.

    `documents` are those of a third; of the mean as many as all languages have.
    """

    name: str
    language: str | None
    change: float
    low: float
    high: float
    documents: int


def buckets(
    dense: Mapping[str, Tally],
    pressed: Mapping[str, Tally],
    *,
    lower_is_better: bool = True,
    draws: int = 0,
    seed: int = 0,
) -> tuple[Bucket, ...]:
    """The thirds of every language that has some, easy first, then those of the mean.

    None where no language has any. Raises BadRun as `compare` does.
    """
    pairs = pairs_of(dense, pressed)
    draws, shared = draws_for(len(dense), draws), is_shared(pairs)
    sign = 1.0 if lower_is_better else -1.0
    found: list[Bucket] = []
    whole: dict[str, list[tuple[float, np.ndarray, int]]] = {name: [] for name in NAMES}
    for tag, pair in pairs.items():
        counts_RD = counts(len(pair.documents), draws, seed, "" if shared else tag)
        for name, places in thirds(pair, lower_is_better=lower_is_better).items():
            loss = sign * (_ratio(pair, np.isin(np.arange(len(pair.documents)), places)[None]) - 1)
            kept_RD = np.zeros_like(counts_RD)
            kept_RD[:, places] = counts_RD[:, places]
            loss_R = sign * (_ratio(pair, kept_RD) - 1)
            if np.isfinite(loss[0]):
                whole[name].append((float(loss[0]), loss_R, len(places)))
                found.append(_bucket(name, tag, *whole[name][-1]))
    if not found:
        return ()
    return (*found, *(_mean(name, parts) for name, parts in whole.items() if parts))


def thirds(pair: Pair, *, lower_is_better: bool) -> dict[str, np.ndarray]:
    """The places of the documents of each third, by name; empty where there is no order.

    Documents that count nothing are in none. Of equal scores the first by id come first.
    """
    some = np.flatnonzero(pair.dense_D2[:, 1] > 0)
    score = pair.dense_D2[some, 0] / pair.dense_D2[some, 1]
    if len(some) < LEAST or len(np.unique(score)) < DEGREES:
        return {}
    order = np.argsort(score if lower_is_better else -score, kind="stable")
    return {
        name: np.sort(some[part])
        for name, part in zip(NAMES, np.array_split(order, len(NAMES)), strict=True)
    }


def _ratio(pair: Pair, counts_RD: np.ndarray) -> np.ndarray:
    """Pressed over dense in every draw; NaN where there is nothing to divide by."""
    top_R2, bottom_R2 = counts_RD @ pair.pressed_D2, counts_RD @ pair.dense_D2
    below_R = top_R2[:, 1] * bottom_R2[:, 0]
    return np.where(below_R > 0, top_R2[:, 0] * bottom_R2[:, 1], np.nan) / np.where(
        below_R > 0, below_R, 1.0
    )


def _bucket(name: str, tag: str | None, loss: float, loss_R: np.ndarray, documents: int) -> Bucket:
    low, high = np.nanquantile(loss_R, [ALPHA / 2, 1 - ALPHA / 2])
    return Bucket(name, tag, loss, float(low), float(high), documents)


def _mean(name: str, parts: list[tuple[float, np.ndarray, int]]) -> Bucket:
    """Over the languages that have such a third."""
    mean = sum(loss for loss, _, _ in parts) / len(parts)
    mean_R = np.mean([loss_R for _, loss_R, _ in parts], axis=0)
    return _bucket(name, None, mean, mean_R, sum(number for _, _, number in parts))
