"""Text that a model wrote, sifted: what is kept of it, and why the rest is not.

Sampled text loops, drifts into other languages, and says again what it was shown. A text is dropped
by the first of these that holds:

    short       fewer characters than asked for
    repeats     of its runs of three characters fewer than REPEATS are another each
    foreign     it is not in its language, as far as can be told
    duplicate   the same text was kept before (compared as sameness.py does)
    known       it stands in text that is to be kept apart, such as that of tests

Tested in tests/text/test_synthetic.py.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from babelpress.text.sameness import key

REPEATS = 0.3
RUN = 3  # characters
REASONS = ("short", "repeats", "foreign", "duplicate", "known")
UNSURE = "unsure"  # what a teacher is too little sure of; found by who runs it

NO_TASK = (
    "labels are given by a teacher, of a task: name both with --teacher and --task, or neither."
)


@dataclass(frozen=True, slots=True)
class Sifted:
    """The texts that stay, in their order, and how many were dropped for which reason."""

    kept: list[str]
    dropped: dict[str, int]


def sift(
    texts: Iterable[str],
    *,
    least: int,
    instead: Callable[[str], str],
    apart: Collection[str] = (),
) -> Sifted:
    """Sift the texts of one language; `least` are characters.

    `instead` says what a text is in that is not in the language, else nothing; `apart` are keys of
    texts that may not be learnt from.
    """
    kept: list[str] = []
    seen: set[str] = set()
    dropped: Counter[str] = Counter()
    for text in (each.strip() for each in texts):
        same = key(text)
        if reason := _reason(text, same, least, instead, seen, apart):
            dropped[reason] += 1
            continue
        seen.add(same)
        kept.append(text)
    return Sifted(kept, {reason: dropped[reason] for reason in REASONS})


def _reason(
    text: str,
    same: str,
    least: int,
    instead: Callable[[str], str],
    seen: Collection[str],
    apart: Collection[str],
) -> str:
    if len(same) < least:
        return "short"
    if variety(same) < REPEATS:
        return "repeats"
    if instead(text):
        return "foreign"
    if same in seen:
        return "duplicate"
    return "known" if same in apart else ""


def variety(text: str) -> float:
    """The share of its runs of RUN characters that are another each; 1 of a text that is shorter.

    Of a sentence most are; of a text that says the same again and again few.
    """
    runs = [text[place : place + RUN] for place in range(len(text) - RUN + 1)]
    return len(set(runs)) / len(runs) if runs else 1.0
