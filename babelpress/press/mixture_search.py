"""The mixture that protects the worst-off language.

It minimises the worst language's damage e_l on moments of the dense model: start uniform, press
every site with p, p_l ← p_l·exp(η·(e_l / mean e − 1)), renormalise; keep the p with the smallest
worst e_l.

Tested in tests/press/test_blocks.py.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from babelpress.system.progress import Progress, silent


@dataclass(frozen=True, slots=True)
class Round:
    """One round of the minimax loop: the shares tried and the damage they did."""

    shares: dict[str, float]
    damage: dict[str, float]

    @property
    def worst(self) -> float:
        """Damage of the language that lost most."""
        return max(self.damage.values())

    @property
    def mean(self) -> float:
        """Mean damage over languages."""
        return math.fsum(self.damage.values()) / len(self.damage)


def minimax(
    damage_of: Callable[[Mapping[str, float]], dict[str, float]],
    languages: Sequence[str],
    *,
    rounds: int = 20,
    rate: float = 1.0,
    progress: Progress = silent,
) -> list[Round]:
    """The rounds of the minimax loop; the answer is `best` of them.

    `damage_of` gives e_l for shares; languages that are not asked for do not count. The last
    round's update is not tried.
    """
    shares = dict.fromkeys(languages, 1 / len(languages))
    trace: list[Round] = []
    for done in range(rounds):
        damage = damage_of(shares)
        trace.append(Round(shares, {tag: damage[tag] for tag in languages}))
        shares = _shifted(trace[-1], rate)
        progress("minimax: round", done + 1, rounds)
    return trace


def _shifted(tried: Round, rate: float) -> dict[str, float]:
    """Shares moved towards the languages that lost more than the mean."""
    if tried.worst == 0:
        return tried.shares
    # less the worst, not less the mean: the sum brings it to the same, and nothing overflows
    grown = {
        tag: share * math.exp(rate * (tried.damage[tag] - tried.worst) / tried.mean)
        for tag, share in tried.shares.items()
    }
    total = math.fsum(grown.values())
    return {tag: value / total for tag, value in grown.items()}


def best(trace: Sequence[Round]) -> Round:
    """The round with the smallest worst damage; of equal ones the first."""
    return min(trace, key=lambda each: each.worst)
