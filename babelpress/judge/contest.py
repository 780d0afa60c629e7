"""Which of several pressed models costs the worst-off language least, and whether that is known.

All are held against the same dense model on the same documents, and every bootstrap draw takes the
same documents for all of them (pairs.py). So the difference of two models' worst losses has an
interval of its own, narrower than those of the losses where documents that are hard for one are
hard for the other too. The worst language is chosen anew in every draw, for each model.

The p-value of a difference is that of a change in compare.py, so that in few documents no
difference is known, whatever the draws say. Nothing is corrected for several differences.

Shapes: L languages, R bootstrap draws.

Tested in tests/judge/test_contest.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from babelpress.judge.evidence import ALPHA, bootstrap_p, draws_for
from babelpress.judge.pairs import losses, pairs_of
from babelpress.numerics.tally import Tally

Tallies = Mapping[str, Tally]


@dataclass(frozen=True, slots=True)
class Entrant:
    """What a model loses: in its worst language, in the mean, and the worst in every draw."""

    worst: float
    language: str
    mean: float
    worst_R: np.ndarray
    mean_R: np.ndarray
    documents: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of its worst loss."""
        low, high = np.quantile(self.worst_R, [ALPHA / 2, 1 - ALPHA / 2])
        return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more one model loses than another, with its 95 % interval; below zero is less."""

    value: float
    low: float
    high: float
    p: float

    @property
    def known(self) -> bool:
        """Whether the interval leaves zero out, and there are documents enough to tell."""
        return (self.low > 0 or self.high < 0) and self.p < ALPHA


def entrant(
    dense: Tallies,
    pressed: Tallies,
    *,
    lower_is_better: bool = True,
    draws: int = 0,
    seed: int = 0,
) -> Entrant:
    """One model against the dense one. Raises BadRun as `compare` does.

    Entrants on the same documents, with the same draws and seed, may be held against each other.
    """
    pairs = pairs_of(dense, pressed)
    draws = draws_for(len(dense), draws)
    lost = losses(pairs, lower_is_better=lower_is_better, floors=None, draws=draws, seed=seed)
    tags = list(pairs)
    return Entrant(
        float(lost.loss_L.max()),
        tags[int(lost.loss_L.argmax())],
        float(lost.loss_L.mean()),
        lost.loss_RL.max(1),
        lost.loss_RL.mean(1),
        min(len(pair.documents) for pair in pairs.values()),
    )


def difference(one: Entrant, other: Entrant) -> Difference:
    """What one loses more in its worst language than another in its own."""
    return _difference(one.worst - other.worst, one.worst_R - other.worst_R, one.documents)


def difference_of_means(one: Entrant, other: Entrant) -> Difference:
    """What one loses more in the mean of languages."""
    return _difference(one.mean - other.mean, one.mean_R - other.mean_R, one.documents)


def _difference(value: float, value_R: np.ndarray, documents: int) -> Difference:
    low, high = np.quantile(value_R, [ALPHA / 2, 1 - ALPHA / 2])
    p = bootstrap_p(value, value_R, documents)
    return Difference(float(value), float(low), float(high), p)
