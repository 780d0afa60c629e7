"""What every BPE shares: how a piece is merged, and a vocabulary with fewer merges.

A text is read as the same pieces by fewer merges if none of those that it used is missing: the
lowest rank among all pairs is the lowest among those that are left. Which were used for a piece
hangs on the piece alone, for no merge crosses its ends; so a piece needs what merging makes on the
way to it, and where pieces have several merges (Gemma has two for each) only those that are used.

Tested in tests/trim/test_byte_level_bpe.py and tests/trim/test_sentencepiece_bpe.py.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from babelpress.errors import BadModel

ODD = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")


def check(model: Mapping[str, Any]) -> None:
    """Raise BadModel for a BPE that draws its merges, or marks beginnings and ends of words."""
    for key in ODD:
        if model.get(key):
            raise BadModel(
                f"the tokenizer's BPE has {key}={model[key]!r}, and then pieces alone do not say "
                "how text is read: it cannot be trimmed safely. Leave out trim."
            )


def pairs(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The merges in their order; files have them as pairs, older ones as text."""
    return [_pair(each) for each in model["merges"]]


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    if isinstance(merge, str):
        left, _, right = merge.partition(" ")
        return left, right
    left, right = merge
    return left, right


def parts(model: Mapping[str, Any]) -> Callable[[str], set[str]]:
    """What merging makes on the way to a piece, its characters too; nothing where it never does."""
    ranks = {pair: rank for rank, pair in enumerate(pairs(model))}  # of twins the last counts
    vocabulary: Mapping[str, int] = model["vocab"]

    def of(piece: str) -> set[str]:
        seen, last = merged(piece, ranks)
        return {each for each in seen if each in vocabulary} if last == [piece] else set()

    return of


def merged(text: str, ranks: Mapping[tuple[str, str], int]) -> tuple[set[str], list[str]]:
    """All that merging a text makes from its characters on, and what is left in the end.

    The pair of the lowest rank is merged, of equals the first, one at a time.
    """
    symbols = list(text)
    seen = set(symbols)
    while True:
        best = min(
            (
                (rank, place)
                for place in range(len(symbols) - 1)
                if (rank := ranks.get((symbols[place], symbols[place + 1]))) is not None
            ),
            default=None,
        )
        if best is None:
            return seen, symbols
        place = best[1]
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
        seen.add(symbols[place])


def rewrite(model: Mapping[str, Any], kept: Collection[str]) -> dict[str, Any]:
    """Those pieces, numbered anew in their order, and every merge whose three pieces stay."""
    order = sorted((each for each in model["vocab"] if each in kept), key=model["vocab"].get)
    stays = set(order)

    def whole(merge: str | Sequence[str]) -> bool:
        left, right = _pair(merge)
        return left in stays and right in stays and left + right in stays

    return {
        **model,
        "vocab": {piece: number for number, piece in enumerate(order)},
        "merges": [merge for merge in model["merges"] if whole(merge)],
    }
