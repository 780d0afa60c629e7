"""How much evidence a comparison needs: draws, documents, and Holm's correction over languages.

The p-value of a language can be no smaller than 2/(draws + 1), since a draw is counted against it,
and no smaller than 2^(1−D) with D documents. Holm's step-down (1979) multiplies it by up to the
number of languages. Where even the smallest p-values of all languages stay above the level after
that, nothing can be found in a language whatever its documents say.

Where every document is right or wrong, two models are compared by McNemar's test (1947) in its
exact form: of the documents that only one of them has right, as many as not should be the pressed
model's. Its two-sided p-value is twice the smaller tail of the binomial distribution, at most 1; it
keeps its level in every sample, and is larger than the mid-p-value by the chance of what was seen.

Shapes: L languages.
"""

import math
from collections.abc import Sequence

import numpy as np

from babelpress.errors import BadSetting

ALPHA = 0.05
AT_CHANCE = "at chance"
DRAWS = 2000  # of the bootstrap, unless more languages need more


def draws_for(languages: int, asked: int = 0) -> int:
    """How many draws to take: so many that Holm's correction leaves room for a difference.

    Raises BadSetting where fewer are asked for.
    """
    needed = math.ceil(2 * languages / ALPHA)
    if asked and asked < needed:
        raise BadSetting(
            f"{asked} draws cannot show a difference in {languages} languages after Holm's "
            f"correction. Give at least {needed} with --draws."
        )
    return asked or max(DRAWS, needed)


def smallest_p(documents: int, draws: int) -> float:
    """The p-value of a language in which all documents and all draws agree."""
    return min(1.0, max(2 / (draws + 1), 2.0 ** (1 - documents)))


def bootstrap_p(change: float, change_R: np.ndarray, documents: int) -> float:
    """The two-sided p-value of a change by its bootstrap draws (compare.py has the source).

    2·(k + 1)/(draws + 1), where k lie at zero or on the other side of it, but never under what so
    many documents can show.
    """
    other_side = (change_R <= 0) if change > 0 else (change_R >= 0)
    bootstrapped = 2 * (int(other_side.sum()) + 1) / (len(change_R) + 1)
    return min(1.0, max(bootstrapped, smallest_p(documents, len(change_R))))


def needed_documents(documents: Sequence[int], draws: int) -> list[int]:
    """How many documents each language needs before anything can be found, by those it has.

    They are the fewest with which its smallest p-value passes Holm's correction, where it and the
    languages that have no more than it had so many and the others what they have: all of them on
    text that is parallel. A language has fewer than it needs exactly where nothing can be found.
    `draws` are as many as `draws_for` gives, so that there is such a number.
    """

    def found(there: int, size: int) -> bool:
        tried = [size if each <= there else each for each in documents]
        return holm([smallest_p(each, draws) for each in tried])[documents.index(there)] < ALPHA

    enough = 1 + math.ceil(math.log2(draws + 1))  # more documents lower no p-value any more
    needed = {
        there: next(size for size in range(1, enough + 1) if found(there, size))
        for there in set(documents)
    }
    return [needed[there] for there in documents]


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979) in the order given; they bound the family-wise error."""
    p_L = np.asarray(p, dtype=np.float64)
    order_L = np.argsort(p_L, kind="stable")
    stepped_L = np.maximum.accumulate(p_L[order_L] * np.arange(len(p_L), 0, -1))
    adjusted_L = np.empty_like(p_L)
    adjusted_L[order_L] = np.minimum(stepped_L, 1.0)
    return adjusted_L.tolist()


def mcnemar(lost: int, gained: int) -> float:
    """The exact two-sided p-value where `lost` documents turn wrong and `gained` turn right."""
    changed = lost + gained
    tail = ways = 1  # whole numbers: they are exact, however many documents there are
    for each in range(min(lost, gained)):
        ways = ways * (changed - each) // (each + 1)
        tail += ways
    return min(1.0, 2 * tail / 2**changed)
