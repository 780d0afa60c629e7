"""Unigram: XLM-R, mT5, XGLM, NLLB. A text is read as the pieces whose scores have the largest sum.

Fewer pieces leave fewer ways to read a text and no new score, so the best way stays the best where
its pieces stay. One score is not a piece's: an unknown character has that of the lowest piece, less
ten. So the lowest piece stays.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from babelpress.errors import BadModel
from babelpress.trim._pieces import BYTES, spelled

LOSSLESS = False
__all__ = ["LOSSLESS", "always", "check", "fits", "parts", "rewrite", "spelled"]


def fits(rules: Mapping[str, Any]) -> bool:
    """Whether the file says so."""
    return rules["model"].get("type") == "Unigram"


def check(model: Mapping[str, Any]) -> None:
    """Raise BadModel where two pieces are the same text, or none is the unknown one."""
    times = Counter(piece for piece, _ in model["vocab"])
    if (twin := next((each for each in times if times[each] > 1), None)) is not None:
        raise BadModel(
            f"the tokenizer has two pieces {twin!r}, so their rows cannot be told apart. Leave out "
            "trim."
        )
    if model.get("unk_id") is None:
        raise BadModel(
            "the tokenizer's Unigram has no unknown piece, and text that no piece covers has no "
            "reading at all. Leave out trim."
        )


def always(model: Mapping[str, Any]) -> set[str]:
    """The unknown piece, the one with the lowest score, and bytes where there are such pieces."""
    scores: list[tuple[str, float]] = model["vocab"]
    lowest, _ = min(scores, key=lambda each: each[1])
    bytes_ = set(BYTES) if model.get("byte_fallback") else set[str]()
    return {scores[model["unk_id"]][0], lowest, *(p for p, _ in scores if p in bytes_)}


def parts(model: Mapping[str, Any]) -> Callable[[str], set[str]]:  # noqa: ARG001
    """Nothing: no piece is made of others."""
    return lambda _: set()


def rewrite(model: Mapping[str, Any], kept: Collection[str]) -> dict[str, Any]:
    """Those pieces in their order, with their scores."""
    stays = set(kept)
    unknown, _ = model["vocab"][model["unk_id"]]
    left = [each for each in model["vocab"] if each[0] in stays]
    place = next(number for number, (piece, _) in enumerate(left) if piece == unknown)
    return {**model, "vocab": left, "unk_id": place}
