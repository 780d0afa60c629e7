"""WordPiece: mBERT and other BERTs. A word is read as the longest piece it begins with, and so on.

The longest of fewer pieces is the same where it stays. A word with a place where no piece fits is
unknown as a whole; with fewer pieces another beginning may be taken, and the word be read after
all: better than before, but not as before.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from babelpress.errors import BadModel

LOSSLESS = False
INSIDE = "##"  # what a piece that does not begin a word begins with


def fits(rules: Mapping[str, Any]) -> bool:
    """Whether the file says so."""
    return rules["model"].get("type") == "WordPiece"


def check(model: Mapping[str, Any]) -> None:
    """Raise BadModel for another mark of pieces inside words, or none for unknown words."""
    if model.get("continuing_subword_prefix") != INSIDE:
        raise BadModel(
            f"the tokenizer's WordPiece marks pieces inside words with "
            f"{model.get('continuing_subword_prefix')!r}, and only {INSIDE} is known here. Leave "
            "out trim."
        )
    if model.get("unk_token") not in model["vocab"]:
        raise BadModel(
            "the tokenizer's WordPiece has no piece for unknown words, and text with one cannot be "
            "read at all. Leave out trim."
        )


def always(model: Mapping[str, Any]) -> set[str]:
    """The unknown piece."""
    return {model["unk_token"]}


def parts(model: Mapping[str, Any]) -> Callable[[str], set[str]]:  # noqa: ARG001
    """Nothing: no piece is made of others."""
    return lambda _: set()


def rewrite(model: Mapping[str, Any], kept: Collection[str]) -> dict[str, Any]:
    """Those pieces, numbered anew in their order."""
    stays = set(kept)
    order = sorted((each for each in model["vocab"] if each in stays), key=model["vocab"].get)
    return {**model, "vocab": {piece: number for number, piece in enumerate(order)}}


def spelled(piece: str) -> str:
    """What a piece reads as text."""
    return piece.removeprefix(INSIDE) or piece
