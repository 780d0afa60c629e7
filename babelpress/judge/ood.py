"""Out of distribution: what pressing costs on text unlike what a model was trained on.

The loss of each language on a second corpus stands beside that on the first, with their difference:
a compressed model may match its parent on text like that of its training, and lose elsewhere (Du et
al. 2023, arXiv:2110.08419). Documents of two corpora have nothing in common, so each has draws of
its own, and the interval of the difference is that of independent samples.

Shapes: L languages, R draws.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from babelpress.judge.evidence import ALPHA, draws_for
from babelpress.judge.pairs import Losses, losses, pairs_of
from babelpress.numerics.tally import Tally


@dataclass(frozen=True, slots=True)
class Apart:
    """The loss on both corpora and the second less the first, with its 95 % interval.

    `language` is None for the mean over languages.
    """

    language: str | None
    inside: float
    outside: float
    change: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scores:
    """The tallies of a dense and a pressed model on one corpus, and the floors of its scores."""

    dense: Mapping[str, Tally]
    pressed: Mapping[str, Tally]
    floors: Mapping[str, float] | None = None


def apart(
    inside: Scores,
    outside: Scores,
    *,
    lower_is_better: bool = True,
    draws: int = 0,
    seed: int = 0,
) -> tuple[Apart, ...]:
    """The languages that are on both corpora and at chance on neither, then their mean.

    None where there is no such language. Raises BadRun as `compare` does.
    """
    draws = draws_for(max(len(inside.dense), len(outside.dense)), draws)

    def of(both: Scores, own: int) -> tuple[dict[str, int], Losses]:
        pairs = pairs_of(both.dense, both.pressed)
        found = losses(
            pairs, lower_is_better=lower_is_better, floors=both.floors, draws=draws, seed=own
        )
        return {tag: at for at, tag in enumerate(pairs) if tag not in found.at_chance}, found

    # Another seed, or two corpora of as many documents would be drawn from alike.
    (here, first), (there, second) = of(inside, seed), of(outside, seed + 1)
    common = [tag for tag in here if tag in there]
    rows: list[tuple[str | None, list[int], list[int]]] = [
        (tag, [here[tag]], [there[tag]]) for tag in common
    ]
    if common:
        rows.append((None, [here[tag] for tag in common], [there[tag] for tag in common]))
    found = []
    for tag, one, other in rows:
        before, after = float(first.loss_L[one].mean()), float(second.loss_L[other].mean())
        apart_R = second.loss_RL[:, other].mean(1) - first.loss_RL[:, one].mean(1)
        low, high = np.quantile(apart_R, [ALPHA / 2, 1 - ALPHA / 2])
        found.append(Apart(tag, before, after, after - before, float(low), float(high)))
    return tuple(found)
