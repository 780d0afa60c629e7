"""Labelled texts as pieces of tokens, for training and scoring alike.

A word is read as it stands in a text, the first by itself and every other after a space, and its
label is that of its first token. A sentence that is longer than a piece is split between words into
pieces as even as words allow, and never cut: every word is in one piece. A word of which the
tokenizer makes nothing is one unknown token; one that is longer than a piece keeps its beginning.

A text with one label is one piece, whose end is cut where it is too long, as is usual.

Shapes: B pieces of a batch, T tokens of a piece with those around it, W words.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from babelpress.errors import BadSetting
from babelpress.models import sides
from babelpress.models.around import Around
from babelpress.models.tokenizers import encode
from babelpress.text.labelled import Labelled


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of a document, by its place, and where the first one of each of its words is.

    `first` is which word that is first; a text with one label has no words. `cut` are the tokens
    that are not there.
    """

    document: int
    ids_T: np.ndarray
    places_W: tuple[int, ...] = ()
    first: int = 0
    cut: int = 0


def pieces_of(
    tokenizer: Any, documents: Sequence[Labelled], size: int, *, by_word: bool
) -> list[Piece]:
    """The pieces of documents in their order, each of `size` tokens at most.

    Raises BadSetting for a size without room for a token.
    """
    around = Around.of(tokenizer)
    if size <= around.number:
        raise BadSetting(
            f"a window of {size} tokens has no room between those around a text. Give at least "
            f"{around.number + 1}."
        )
    room = size - around.number
    if by_word:
        known = _tokens(tokenizer, documents)
        return [
            piece
            for place, each in enumerate(documents)
            for piece in _split(place, each, known, room, around)
        ]
    ids = encode(tokenizer, [each.words[0] for each in documents])["input_ids"] if documents else []
    return [
        Piece(place, np.array(around.put(each[:room])), cut=max(0, len(each) - room))
        for place, each in enumerate(ids)
    ]


def padded(ids: Sequence[Sequence[int] | np.ndarray], pad: int = 0) -> tuple[Tensor, Tensor]:
    """Token ids and the mask of real ones, (B, T), padded right."""
    return sides.padded(ids, pad), sides.there(ids).long()


def _as_read(document: Labelled) -> list[str]:
    return [word if place == 0 else f" {word}" for place, word in enumerate(document.words)]


def _tokens(tokenizer: Any, documents: Iterable[Labelled]) -> dict[str, list[int]]:
    """The tokens of every word that there is, one at least."""
    words = list(dict.fromkeys(word for each in documents for word in _as_read(each)))
    ids = encode(tokenizer, words)["input_ids"] if words else []
    special = (tokenizer.unk_token_id, tokenizer.mask_token_id, tokenizer.pad_token_id)
    unknown = next((each for each in special if each is not None), 0)
    return {word: each or [unknown] for word, each in zip(words, ids, strict=True)}


def _split(
    place: int, document: Labelled, known: dict[str, list[int]], room: int, around: Around
) -> list[Piece]:
    words = [known[word] for word in _as_read(document)]
    sizes = [min(len(each), room) for each in words]
    number = len(_parts(sizes, room))
    least = -(-sum(sizes) // number)
    even = next(most for most in range(least, room + 1) if len(_parts(sizes, most)) == number)
    found: list[Piece] = []
    start = 0
    for end in _parts(sizes, even):
        ids: list[int] = []
        places: list[int] = []
        for each in words[start:end]:
            places.append(len(around.front) + len(ids))
            ids += each[:room]
        cut = sum(len(each) for each in words[start:end]) - len(ids)
        found.append(Piece(place, np.array(around.put(ids)), tuple(places), start, cut))
        start = end
    return found


def _parts(sizes: Sequence[int], most: int) -> list[int]:
    """Where parts end that are filled one after another, each with one word at least."""
    ends: list[int] = []
    filled = 0
    for place, size in enumerate(sizes):
        if filled and filled + size > most:
            ends.append(place)
            filled = 0
        filled += size
    return [*ends, len(sizes)]
