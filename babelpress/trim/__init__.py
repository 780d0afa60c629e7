"""Tokenizer models that can be trimmed. The folder is the registry: `trim/unigram.py` is `unigram`.

A trimmer takes the `model` of a tokenizer.json, and is a module with

    def fits(rules) -> bool         whether the file holds a model of this kind
    def check(model) -> None        raises BadModel for settings that cannot be rewritten safely;
                                    a trimmer may lack it
    def always(model) -> set        pieces that stay whatever the text uses: bytes, the unknown one
    def parts(model) -> callable    the pieces on the way to one: they stay where it stays
    def rewrite(model, kept) -> model   the same model with those pieces alone, in their order
    def spelled(piece) -> str | None    what a piece reads as text; None where it is part of one
    LOSSLESS = True                 where text that no piece covers is read as bytes

All are pure. The promise that each keeps, and that its test holds against the `tokenizers` library:
text whose pieces are all kept is read as the same pieces. But a word that was unknown to
WordPiece may be read by the pieces that are left.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from babelpress.errors import BadModel
from babelpress.registry import Registry

TRIMMERS = Registry(__name__, __path__, "tokenizer model", ("rewrite",))


def trimmer(rules: Mapping[str, Any], name: str) -> ModuleType:
    """The trimmer of a tokenizer.json; `name` is what a message calls the model.

    Raises BadModel for a kind that none knows, and for settings that cannot be rewritten safely.
    """
    found = [TRIMMERS.module(each) for each in TRIMMERS.names()]
    fitting = next((each for each in found if each.fits(rules)), None)
    if fitting is None:
        kinds = ", ".join(each.replace("_", " ") for each in TRIMMERS.names())
        raise BadModel(
            f"the tokenizer of {name} is a {kind_of(rules)}, which cannot be trimmed safely. "
            f"Known: {kinds}. Leave out trim."
        )
    if (check := getattr(fitting, "check", None)) is not None:
        check(rules["model"])
    return fitting


def kind_of(rules: Mapping[str, Any]) -> str:
    """What a tokenizer.json calls its model, for a message."""
    kind = str(rules["model"].get("type", "model of no known type"))
    return "BPE on characters without byte fallback" if kind == "BPE" else kind
