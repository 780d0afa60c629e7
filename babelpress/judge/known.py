"""What is known of each language's loss from the first documents that were drawn of it.

The question is the one that a gate asks of the whole text: does any language lose more than
`max_loss`? It is asked after every round (numerics/sequential.py), with a chance of a wrong answer
of at most `ALPHA` over all rounds and languages:

- *no language does* is known when that is known of each. To say so wrongly, one language that does
  has to be taken for one that does not: each may have the whole of ALPHA;
- *some language does* is known when it is known of one. There any of L languages may be taken
  wrongly, so each has ALPHA/L.

Only one of the two can be wrong, so both have ALPHA. What holds exactly of this, and what
asymptotically, sequential.py says. Once all documents are drawn the answer is that of the gate, and
about this text nothing is left open. What other text of the language would say is another question:
`compare` tells it by intervals, for as many documents as there are.

Rounds of a language that is known go no further, so languages have different numbers of documents.
What is told of them is told for whenever it stopped: limits and p-values are those of the sequence.

Shapes: N documents of a language that have a weight, T of them drawn.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from babelpress.errors import BadRun
from babelpress.judge.compare import Comparison
from babelpress.judge.evidence import ALPHA, holm
from babelpress.judge.kept import Draw
from babelpress.numerics.sequential import LEAST, Steps, log_evidence, rounds
from babelpress.numerics.tally import Tally

ANSWERS = KEPT, BROKEN, OPEN = "kept", "broken", "undecided"


class Answer(NamedTuple):
    """Whether a language keeps the promise, and after how many documents that was known."""

    word: str
    documents: int


@dataclass(frozen=True, slots=True)
class First:
    """The first documents drawn of a language: what both models need, and what weighs."""

    pressed_T: np.ndarray
    dense_N: np.ndarray
    weight_N: np.ndarray
    lower_is_better: bool

    @classmethod
    def of(
        cls, tag: str, dense: Tally, pressed: Tally, *, lower_is_better: bool, seed: int = 0
    ) -> "First":
        """Of a dense model that was scored whole, and a run that was so in part.

        Raises BadRun where documents of the two weigh differently, or the run's are not the first.
        """
        draw = Draw.of(dense, seed)
        order, done = draw.order[: draw.some], len(pressed.documents)
        if {*draw.order[:done]} != {*pressed.documents}:
            raise BadRun(
                f"{tag}: the documents of the run are not the first {done} that are drawn of those "
                "of the dense model. Evaluate both on the same corpus; the run until it is known."
            )
        here = {name: place for place, name in enumerate(dense.documents)}
        there = {name: place for place, name in enumerate(pressed.documents)}
        dense_N = np.array([here[name] for name in order], dtype=int)
        pressed_T = np.array([there[name] for name in order[:done]], dtype=int)
        weight_N = dense.denominator_D[dense_N]
        if not np.array_equal(pressed.denominator_D[pressed_T], weight_N[: len(pressed_T)]):
            raise BadRun(
                f"{tag}: the two models do not count the same of every document, as where they "
                "have other tokens. Score both whole, or by bits of bytes: --on bits_per_byte."
            )
        if not dense.numerator_D.sum() > 0:
            raise BadRun(f"{tag}: the dense score is zero, so there is no relative loss to know.")
        return cls(
            pressed.numerator_D[pressed_T],
            dense.numerator_D[dense_N],
            weight_N,
            lower_is_better,
        )

    @property
    def is_whole(self) -> bool:
        """Whether all documents are drawn that have a weight."""
        return len(self.pressed_T) == len(self.dense_N)

    def answer(self, max_loss: float, languages: int) -> Answer:
        """What was known first, of the first of so many languages that are asked about at once."""
        drawn, total = len(self.pressed_T), len(self.dense_N)
        if self.is_whole:
            return Answer(BROKEN if self.loss() > max_loss else KEPT, total)
        looks = [size for size in rounds(total) if LEAST <= size <= drawn]
        if not looks:
            return Answer(OPEN, drawn)
        step_T = self._losing(max_loss)
        steps = [size - 1 for size in looks]
        broken = log_evidence(step_T, steps) >= math.log(languages / ALPHA)
        kept = log_evidence(-step_T, steps) >= math.log(1 / ALPHA)
        for size, is_broken, is_kept in zip(looks, broken, kept, strict=True):
            if is_broken or is_kept:
                return Answer(BROKEN if is_broken else KEPT, size)
        return Answer(OPEN, drawn)

    def loss(self) -> float:
        """For which nothing speaks on either side; of the whole text, what it lost."""
        if self.is_whole:
            return self._loss(self.pressed_T.sum() / self.dense_N.sum())
        return self._loss(self._steps().middle())

    def limits(self, below: float = ALPHA / 2, above: float = ALPHA / 2) -> tuple[float, float]:
        """The whole text loses less, or more, than that with chances of at most `below`, `above`,
        whenever it stopped.
        """
        if self.is_whole:
            return self.loss(), self.loss()
        steps = self._steps()
        if self.lower_is_better:
            return self._loss(steps.lower(below)), self._loss(steps.upper(above))
        return self._loss(steps.upper(below)), self._loss(steps.lower(above))

    def p(self) -> float:
        """Of no change, on both sides, whenever it stopped."""
        step_T = self._losing(0.0)
        most = max(log_evidence(sign * step_T, [len(step_T)])[0] for sign in (1, -1))
        return min(1.0, 2 * math.exp(-most))

    def _steps(self) -> Steps:
        return Steps.of(self.pressed_T, self.dense_N, self.weight_N)

    def _losing(self, max_loss: float) -> np.ndarray:
        """Steps whose mean is above zero where more is lost."""
        sign = 1 if self.lower_is_better else -1
        return sign * self._steps().at(1 + sign * max_loss)

    def _loss(self, ratio: float) -> float:
        return float(ratio - 1 if self.lower_is_better else 1 - ratio)


def rightly(found: Comparison, first: Mapping[str, First]) -> Comparison:
    """A comparison, where it is of languages that were scored in part, as it is to be read.

    Their limits and p-values are those of the sequence; p-values of all are corrected anew.
    """
    if not first:
        return found
    changes = [
        replace(each, **_told(first[each.language])) if each.language in first else each
        for each in found.changes
    ]
    corrected = holm([each.p for each in changes])
    changes = [
        replace(each, p_holm=p, significant=p < ALPHA and not each.at_chance)
        for each, p in zip(changes, corrected, strict=True)
    ]
    return replace(found, changes=tuple(changes))


def _told(first: First) -> dict[str, Any]:
    low, high = first.limits()
    return {"low": low, "high": high, "p": first.p()}
