"""A tokenizer.json with fewer pieces: its model, its added tokens, and every id that it names.

Which new id a token has is read off the new tokenizer itself, by the text of the token: whatever
way the `tokenizers` library numbers them, ids and rows cannot come apart.

Tested in tests/trim/test_rules.py.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tokenizers import Tokenizer

from babelpress.errors import BadModel

# Tokens that stand for no text, and that nobody has given a use yet.
PLACEHOLDER = re.compile(r"<unused_?\d+>|\[unused\d+\]|<\|?reserved_special_token_\d+\|?>")
POSTS = ("TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel", "Sequence")

Rules = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """A tokenizer.json, and the id of every token in it, those of the model and added ones."""

    rules: Rules
    ids: Mapping[str, int]

    @classmethod
    def of(cls, rules: Rules) -> "Known":
        """With the ids that the `tokenizers` library gives them: it takes seconds for many."""
        return cls(rules, tokens(rules))

    @property
    def special(self) -> set[str]:
        """The added tokens: control, special and user-defined ones alike."""
        return {each["content"] for each in self.rules["added_tokens"]}

    @property
    def placeholders(self) -> set[str]:
        """The tokens, added or not, that are placeholders by their text."""
        return {each for each in self.ids if PLACEHOLDER.fullmatch(each)}

    @property
    def named(self) -> set[int]:
        """The ids that post-processor and padding name, which have to stay."""
        padding = self.rules.get("padding") or {}
        around = _of_post(self.rules.get("post_processor"))
        return {*around, *([padding["pad_id"]] if padding else [])}


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The new tokenizer.json, and the old id of every new one, which are 0 and so on."""

    rules: dict[str, Any]
    old: tuple[int, ...]

    @property
    def new(self) -> dict[int, int]:
        """The new id of every old one that stays."""
        return {old: number for number, old in enumerate(self.old)}


def tokens(rules: Rules) -> dict[str, int]:
    """The id of every token, those of the model and added ones."""
    return Tokenizer.from_str(json.dumps(rules)).get_vocab(with_added_tokens=True)


def check(rules: Rules, ids: Mapping[str, int] | None = None) -> None:
    """Raise BadModel for a part of the rules that names ids in a way that is not known here.

    And, where the `ids` of all tokens are given, for one that names an id of none.
    """
    kind = _odd_post(rules.get("post_processor"))
    if kind:
        raise BadModel(
            f"the tokenizer puts tokens around a text by a {kind}, whose ids cannot be rewritten "
            "safely. Leave out trim."
        )
    around = _of_post(rules.get("post_processor"))
    if ids is not None and (lost := around - set(ids.values())):
        raise BadModel(
            f"the tokenizer puts token {min(lost)} around a text, and none has that number. Mend "
            "tokenizer.json, or leave out trim."
        )


def _odd_post(post: Any) -> str:
    if post is None:
        return ""
    if post["type"] == "Sequence":
        return next(filter(None, map(_odd_post, post["processors"])), "")
    return "" if post["type"] in POSTS else str(post["type"])


def rewrite(known: Known, by: ModuleType, kept: Collection[str]) -> Rewritten:
    """The rules with those tokens alone; what they need to be read, and all that must stay, is in
    `kept` already.
    """
    rules, before = known.rules, known.ids
    stays = set(kept)
    added = [each for each in rules["added_tokens"] if each["content"] in stays]
    added.sort(key=lambda each: before[each["content"]])
    bare = {
        **rules,
        "added_tokens": [{**each, "id": number} for number, each in enumerate(added)],
        "model": by.rewrite(rules["model"], stays),
        "post_processor": None,
        "padding": None,
        "truncation": None,
    }
    after = tokens(_numbered(bare))
    old = tuple(before[token] for token in sorted(after, key=after.__getitem__))
    assert sorted(after.values()) == list(range(len(old))), "ids of a tokenizer have gaps"
    new = {each: number for number, each in enumerate(old)}
    whole = {
        **_numbered(bare),
        "post_processor": _post(rules.get("post_processor"), new),
        "padding": _padding(rules.get("padding"), new),
        "truncation": rules.get("truncation"),
    }
    return Rewritten(whole, old)


def _numbered(rules: dict[str, Any]) -> dict[str, Any]:
    """The same with the ids of added tokens that the library will give them."""
    model = rules["model"]
    pieces = model["vocab"]
    place = (
        dict(pieces)
        if isinstance(pieces, dict)
        else {piece: number for number, (piece, _) in enumerate(pieces)}
    )
    for each in rules["added_tokens"]:
        place.setdefault(each["content"], len(place))
    added = [{**each, "id": place[each["content"]]} for each in rules["added_tokens"]]
    return {**rules, "added_tokens": added}


def _post(post: Any, new: Mapping[int, int]) -> Any:
    """A post-processor with new ids."""
    if post is None:
        return None
    if post["type"] == "Sequence":
        return {**post, "processors": [_post(each, new) for each in post["processors"]]}
    if post["type"] == "TemplateProcessing":
        marks = {
            name: {**each, "ids": [new[number] for number in each["ids"]]}
            for name, each in post["special_tokens"].items()
        }
        return {**post, "special_tokens": marks}
    if post["type"] in ("BertProcessing", "RobertaProcessing"):
        ends = {key: [token, new[number]] for key, (token, number) in _ends(post).items()}
        return {**post, **ends}
    return post


def _ends(post: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    return {key: tuple(post[key]) for key in ("sep", "cls")}


def _padding(padding: Any, new: Mapping[int, int]) -> Any:
    if not padding or "pad_id" not in padding:
        return padding
    return {**padding, "pad_id": new.get(padding["pad_id"], 0)}


def _of_post(post: Any) -> set[int]:
    if post is None:
        return set()
    if post["type"] == "Sequence":
        return {number for each in post["processors"] for number in _of_post(each)}
    if post["type"] == "TemplateProcessing":
        return {number for each in post["special_tokens"].values() for number in each["ids"]}
    if post["type"] in ("BertProcessing", "RobertaProcessing"):
        return {number for _, number in _ends(post).values()}
    return set()
