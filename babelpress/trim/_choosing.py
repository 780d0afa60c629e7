"""Which pieces stay where not all that the text uses can: the least-served language chooses.

A language's coverage is the share of its tokens whose piece stays. Again and again the language
with the lowest one takes its most frequent piece that is not there yet, and what that piece needs.
So there is one order of pieces; fewer rows are its beginning, and more rows never serve any
language worse. Where languages share no pieces, and no piece needs others, no choice of as many has
a higher lowest coverage; where they share some, one may have a slightly higher one.

Behind them stand pieces that no counted text uses, for room that is left: other text may use them.

Tested in tests/trim/test_choosing.py.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

LEVELS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)

Counts = Mapping[str, Mapping[str, int]]  # times that each language uses a piece


@dataclass(frozen=True, slots=True)
class Point:
    """So many pieces, and the coverage of every language with them."""

    pieces: int
    coverage: Mapping[str, float]

    @property
    def worst(self) -> str:
        """The language with the lowest coverage, of equals the first."""
        return min(self.coverage, key=lambda tag: (self.coverage[tag], tag))

    @property
    def least(self) -> float:
        """The lowest coverage."""
        return min(self.coverage.values())


@dataclass(frozen=True, slots=True)
class Order:
    """Pieces in the order in which they are taken, those that always stay first.

    `ends` are how many pieces there are after each choice, the first before any; `least` the lowest
    coverage of a language then.
    """

    pieces: tuple[str, ...]
    ends: tuple[int, ...]
    least: tuple[float, ...]
    counts: Counts

    def point(self, pieces: int) -> Point:
        """What the first so many pieces cover."""
        kept = set(self.pieces[:pieces])
        return Point(pieces, {tag: covered(each, kept) for tag, each in self.counts.items()})

    def floor(self, level: float) -> int:
        """The least number of pieces in this order that has this coverage in every language."""
        return next(end for end, least in zip(self.ends, self.least, strict=True) if least >= level)

    def within(self, pieces: int) -> int | None:
        """The largest number of pieces that is no larger; None where too many always stay."""
        return max((end for end in self.ends if end <= pieces), default=None)

    def trade_off(self) -> list[Point]:
        """The least number of pieces in this order for every level, each number once."""
        return [self.point(each) for each in sorted({self.floor(level) for level in LEVELS})]


def covered(counts: Mapping[str, int], kept: Collection[str]) -> float:
    """The share of a language's tokens whose piece is kept."""
    return sum(count for piece, count in counts.items() if piece in kept) / sum(counts.values())


def order(
    counts: Counts,
    always: Iterable[str],
    parts: Callable[[str], Collection[str]],
    rest: Iterable[str] = (),
) -> Order:
    """The order of pieces for these counts; `parts` are what a piece needs, itself aside.

    `rest` are pieces to take after all that the text uses, in their order.
    Every language has a token. Equal counts are decided by the other languages', then by the text
    of the piece; equal coverages by the tag.
    """
    total = {tag: sum(each.values()) for tag, each in counts.items()}
    share: dict[str, float] = {}
    for tag, each in counts.items():
        for piece, count in each.items():
            share[piece] = share.get(piece, 0.0) + count / total[tag]
    waiting = {
        tag: iter(sorted(each, key=lambda piece: (-each[piece], -share[piece], piece)))
        for tag, each in counts.items()
    }
    have = dict.fromkeys(sorted(counts), 0)
    taken: dict[str, None] = {}

    def take(piece: str) -> None:
        for each in (*sorted(parts(piece)), piece):
            if each not in taken:
                taken[each] = None
                for tag in have:
                    have[tag] += counts[tag].get(each, 0)

    def lowest() -> str:
        return min(have, key=lambda tag: have[tag] / total[tag])

    for piece in dict.fromkeys(always):
        take(piece)
    ends, least = [len(taken)], [have[lowest()] / total[lowest()]]
    while have[tag := lowest()] < total[tag]:
        take(next(piece for piece in waiting[tag] if piece not in taken))
        ends.append(len(taken))
        least.append(have[lowest()] / total[lowest()])
    for piece in rest:
        take(piece)
        if len(taken) > ends[-1]:
            ends.append(len(taken))
            least.append(1.0)
    return Order(tuple(taken), tuple(ends), tuple(least), counts)


def too_few(order: Order, size: int, level: float, least: int) -> str:
    """Why a size cannot have a floor, the least one in this order that does, and what it has."""
    spare = least - order.floor(level)  # rows without a piece
    within = order.within(size - spare)
    if within is None:
        return (
            f"--size {size} has no room for the {order.ends[0]} tokens that stay whatever "
            f"the text uses. {least} is the least in this order that has the floor {level:g} in "
            "every language: give that, or a lower --floor."
        )
    point = order.point(within)
    reached = int(point.least * 1e4) / 1e4
    lower = f", or --floor {reached:g}" if reached else ""
    return (
        f"--size {size} leaves {point.worst} {point.least:.4f} of its tokens, and the floor is "
        f"{level:g}. {least} is the least in this order that has it in every language: give "
        f"--size {least}{lower}."
    )
