"""BPE on bytes: GPT-2, Llama 3, Qwen, BLOOM. Every text can be read, if in more pieces.

A piece is written with a character for each of its bytes, so one may begin or end in the middle of
a character of the text.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

from babelpress.trim._bpe import check, parts, rewrite

LOSSLESS = True
__all__ = ["LOSSLESS", "always", "check", "fits", "parts", "rewrite", "spelled"]


def fits(rules: Mapping[str, Any]) -> bool:
    """Whether bytes are what is merged."""
    places = (rules.get("pre_tokenizer"), rules.get("normalizer"))
    return rules["model"].get("type") == "BPE" and any(_bytes(each) for each in places)


def _bytes(part: Any) -> bool:
    """Whether a part of the rules, or one within it, makes bytes of a text."""
    if isinstance(part, list):
        return any(map(_bytes, part))
    if not isinstance(part, dict):
        return False
    return part.get("type") == "ByteLevel" or any(map(_bytes, part.values()))


def always(model: Mapping[str, Any]) -> set[str]:
    """The 256 bytes, and the unknown piece where there is one."""
    kept = {*_alphabet(), model.get("unk_token")}
    return {piece for piece in model["vocab"] if piece in kept}


def spelled(piece: str) -> str | None:
    """The text whose bytes a piece is; None where they are no whole characters."""
    alphabet = _alphabet()
    if not all(each in alphabet for each in piece):
        return None
    try:
        return bytes(alphabet[each] for each in piece).decode()
    except UnicodeDecodeError:
        return None


@cache
def _alphabet() -> dict[str, int]:
    """The character that stands for each byte: itself where it can be seen, else one after 255."""
    known = sorted(map(ord, ByteLevel.alphabet()))
    own = [each for each in known if each < 256]
    others = [each for each in range(256) if each not in own]
    moved = [each for each in known if each >= 256]
    return {chr(c): b for c, b in (*zip(own, own, strict=True), *zip(moved, others, strict=True))}
