"""BPE on characters that falls back to bytes: Gemma, Llama 2, Mistral. Every text can be read.

A character without a piece of its own is read as its bytes, which are pieces too (<0x41>).
"""

from collections.abc import Mapping
from typing import Any

from babelpress.trim._bpe import check, parts, rewrite
from babelpress.trim._pieces import BYTES, spelled

LOSSLESS = True
__all__ = ["LOSSLESS", "always", "check", "fits", "parts", "rewrite", "spelled"]


def fits(rules: Mapping[str, Any]) -> bool:
    """Whether characters are what is merged, and bytes what is left of unknown ones."""
    model = rules["model"]
    missing = set(BYTES) - set(model["vocab"]) if model.get("type") == "BPE" else set(BYTES)
    return bool(model.get("byte_fallback")) and not missing


def always(model: Mapping[str, Any]) -> set[str]:
    """The 256 bytes and the unknown piece."""
    kept = {*BYTES, model.get("unk_token")}
    return {piece for piece in model["vocab"] if piece in kept}
