"""Pieces as SentencePiece writes them, and pieces that stay for what they read, not for counts.

Tested in tests/trim/test_pieces.py.
"""

import unicodedata
from collections.abc import Callable, Collection, Iterable
from itertools import chain

from babelpress.text import languages, scripts

SPACE = "▁"
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
LATIN = "Latn"  # names, units and addresses are written in it everywhere
MANY = frozenset({"Hani", "Hang", "Yiii", "Tang", "Egyp", "Xsux", "Hluw", "Sgnw"})  # of thousands
DIGITS = 3  # in a row that a piece may have: what some tokenizers cut numbers into
MARKS = ((0x2000, 0x2070), (0x20A0, 0x20D0))  # punctuation and currency signs of all scripts
ASCII = 0x80


def spelled(piece: str) -> str | None:
    """What a piece of SentencePiece reads as text; None for a byte."""
    return None if piece in _BYTES else piece.replace(SPACE, " ")


_BYTES = frozenset(BYTES)


def scripts_of(tags: Iterable[str]) -> frozenset[str]:
    """The scripts that languages are written in, and Latin."""
    named = [languages.find(tag).script for tag in tags]
    parts = (scripts.COMPOSITE.get(each, frozenset({each})) for each in named)
    return frozenset(chain({LATIN}, *parts))


def staying(
    pieces: Collection[str],
    spell: Callable[[str], str | None],
    wanted: Collection[str],
    *,
    lossless: bool,
    every: bool = False,
) -> set[str]:
    """The pieces that read digits, punctuation, or a character of the `wanted` scripts.

    A space before them changes nothing. Where no text is lost without them, scripts of thousands of
    characters are left to the counts. `every` keeps all single characters.
    """
    known = {each for each in wanted if not (lossless and each in MANY)}

    def stays(piece: str) -> bool:
        text = spell(piece)
        if text is None:
            return False
        bare = text.removeprefix(" ") or text
        if bare.isascii() and bare.isdigit():
            return len(bare) <= DIGITS
        return len(bare) == 1 and (every or _common(bare) or scripts.of(bare) in known)

    return set(filter(stays, pieces))


def of_scripts(
    pieces: Iterable[str], spell: Callable[[str], str | None], wanted: Collection[str]
) -> list[str]:
    """The pieces that text in the `wanted` scripts may use: no character is of another one."""

    def fits(piece: str) -> bool:
        text = spell(piece)
        return bool(text) and all(
            each == " " or _common(each) or scripts.of(each) in wanted for each in text
        )

    return list(filter(fits, pieces))


def _common(character: str) -> bool:
    """Whether a character is ASCII, or punctuation or a mark that any script may use."""
    code = ord(character)
    if code < ASCII or any(first <= code < last for first, last in MARKS):
        return True
    # accents that are put on letters of several scripts have no script in their name
    return unicodedata.name(character, "").startswith("COMBINING ")
