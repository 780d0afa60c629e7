"""How far each language can be pressed: the collapse point.

On a ladder of runs, from the least pressed on, a language *holds* at a rung where it loses no more
than `max_loss` there. Its collapse point is the last rung up to which it holds at every one: the
largest sparsity, or the fewest bits, of those measured such that all milder ones hold too. Losses
are not always monotone, as where mild pruning costs more than harsher pruning does; a rung that
holds beyond one that does not is named and counts nothing.

The interval is the percentile bootstrap over documents: every draw takes the same documents at all
rungs and has a collapse point of its own. A point is one of the rungs that were measured, so an
interval may be one rung wide: it says nothing of sparsities in between.

Shapes: L languages, K rungs, R draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from babelpress.judge.evidence import ALPHA, draws_for
from babelpress.judge.pairs import losses, pairs_of
from babelpress.numerics.tally import Tally


@dataclass(frozen=True, slots=True)
class Point:
    """How many rungs a language holds in a row, 0 to K, with a 95 % interval.

    `language` is None for all of them together: the rungs at which every one holds. `loss` is that
    at the rung after, or at the last one where all hold. `beyond` are rungs, from 0, that hold
    though a milder one does not. A language `at_chance` has nothing to lose: its numbers say
    nothing.
    """

    language: str | None
    holds: int
    low: int
    high: int
    loss: float = 0.0
    beyond: tuple[int, ...] = ()
    at_chance: bool = False


@dataclass(frozen=True, slots=True)
class Collapse:
    """The points of all languages in the order of the dense tallies, then that of all together."""

    points: tuple[Point, ...]
    every: Point
    max_loss: float

    def first_lost(self) -> list[Point]:
        """The points, of the language that collapses first first; of equals who loses most then."""
        return sorted(self.points, key=lambda p: (p.at_chance, p.holds, -p.loss, p.language or ""))


def collapse(
    dense: Mapping[str, Tally],
    rungs: Sequence[Mapping[str, Tally]],
    *,
    max_loss: float,
    lower_is_better: bool = True,
    floors: Mapping[str, float] | None = None,
    draws: int = 0,
    seed: int = 0,
) -> Collapse:
    """The collapse points of a ladder, `rungs` from the least pressed on.

    `max_loss` is relative, 0.05 is 5 %. `floors`, `draws` and `seed` are those of `compare`, and
    losses and draws the same. Raises BadRun as `compare` does.
    """
    assert rungs
    draws = draws_for(len(dense), draws)
    found = [
        losses(
            pairs_of(dense, pressed),
            lower_is_better=lower_is_better,
            floors=floors,
            draws=draws,
            seed=seed,
        )
        for pressed in rungs
    ]
    loss_KL = np.stack([each.loss_L for each in found])
    loss_KRL = np.stack([each.loss_RL for each in found])
    chance = found[0].at_chance
    points = tuple(
        _point(tag, loss_KL[:, column], loss_KRL[:, :, column], max_loss)
        if tag not in chance
        else Point(tag, 0, 0, 0, at_chance=True)
        for column, tag in enumerate(dense)
    )
    told = [column for column, tag in enumerate(dense) if tag not in chance]
    every = Point(None, 0, 0, 0, at_chance=True)
    if told:  # all of them hold where the worst one does
        worst_K, worst_KR = loss_KL[:, told].max(1), loss_KRL[:, :, told].max(2)
        every = _point(None, worst_K, worst_KR, max_loss)
    return Collapse(points, every, max_loss)


def _point(tag: str | None, loss_K: np.ndarray, loss_KR: np.ndarray, max_loss: float) -> Point:
    held_K = loss_K <= max_loss
    holds, holds_R = int(_in_a_row(held_K)), _in_a_row(loss_KR <= max_loss)
    # A count that a draw has, never one between two: as few as 2.5 % of draws do not reach.
    low, high = np.quantile(holds_R, [ALPHA / 2, 1 - ALPHA / 2], method="inverted_cdf")
    beyond = tuple(int(k) for k in np.flatnonzero(held_K) if k >= holds)
    after = float(loss_K[min(holds, len(loss_K) - 1)])
    return Point(tag, holds, int(low), int(high), after, beyond)


def _in_a_row(held_KX: np.ndarray) -> np.ndarray:
    """How many hold before the first that does not."""
    return np.logical_and.accumulate(held_KX, axis=0).sum(0)
