"""The mixture that protects the worst-off language, found in rounds.

Start uniform, press with p and see what every language lost, x_l; p_l ← p_l·exp(η·(x_l / mean x −
1)), renormalise; the answer is the p with the smallest worst x_l. What is lost is

minimax     e_l, the damage predicted from moments of the dense model (moments/damage.py)
measured    how much larger the loss is on text held out (steps/_measured.py)

A language that gained counts as one that lost nothing when shares are moved.

Tested in tests/press/test_mixture_search.py and tests/press/test_blocks.py.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from babelpress.system.progress import Progress, silent

LostOf = Callable[[Mapping[str, float]], Mapping[str, float]]  # what is lost with these shares


@dataclass(frozen=True, slots=True)
class Round:
    """One round of the loop: the shares tried, and what each language lost with them."""

    shares: dict[str, float]
    lost: dict[str, float]

    @property
    def worst(self) -> float:
        """What the language lost that lost most."""
        return max(self.lost.values())

    @property
    def mean(self) -> float:
        """The mean over languages."""
        return math.fsum(self.lost.values()) / len(self.lost)


def search(
    lost_of: LostOf,
    languages: Sequence[str],
    *,
    rounds: int,
    rate: float,
    done: Sequence[Round] = (),
) -> Iterator[Round]:
    """The rounds of the loop one by one; those that are `done` are not tried again.

    Languages that are not asked for do not count. The last round's update is not tried.
    """
    shares = dict.fromkeys(languages, 1 / len(languages))
    for number in range(rounds):
        if number < len(done):
            tried = done[number]
        else:
            lost = lost_of(shares)
            tried = Round(shares, {tag: lost[tag] for tag in languages})
        yield tried
        shares = _shifted(tried, rate)


def minimax(
    damage_of: LostOf,
    languages: Sequence[str],
    *,
    rounds: int = 20,
    rate: float = 1.0,
    progress: Progress = silent,
) -> list[Round]:
    """The rounds on predicted damage e_l, which `damage_of` gives for shares."""
    trace: list[Round] = []
    for each in search(damage_of, languages, rounds=rounds, rate=rate):
        trace.append(each)
        progress("minimax: round", len(trace), rounds)
    return trace


def _shifted(tried: Round, rate: float) -> dict[str, float]:
    """Shares moved towards the languages that lost more than the mean."""
    lost = {tag: max(each, 0.0) for tag, each in tried.lost.items()}
    worst = max(lost.values())
    if worst == 0:
        return tried.shares
    mean = math.fsum(lost.values()) / len(lost)
    # less the worst, not less the mean: the sum brings it to the same, and nothing overflows
    grown = {
        tag: share * math.exp(rate * (lost[tag] - worst) / mean)
        for tag, share in tried.shares.items()
    }
    total = math.fsum(grown.values())
    return {tag: value / total for tag, value in grown.items()}


def best(trace: Sequence[Round]) -> Round:
    """The round in which the worst language lost least; of equal ones the first."""
    return min(trace, key=lambda each: each.worst)
