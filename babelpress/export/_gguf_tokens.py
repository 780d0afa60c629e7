"""The vocabulary of a BPE as GGUF has it: tokens, their types, merges or scores, special ids.

Of a byte-level BPE llama.cpp has the merges; of a SentencePiece BPE the scores that stand for them
(_gguf_pieces.py).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from babelpress.errors import BadModel, BadSetting
from babelpress.export import _gguf_pieces as pieces
from babelpress.models import gguf_splits as splits
from babelpress.models.gguf_tokens import (
    BYTE_LEVEL,
    CONTROL,
    NORMAL,
    PIECES,
    UNUSED,
    USER_DEFINED,
)

PROBE = "a"  # any text: what a tokenizer puts around it is what it puts around all text


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All that GGUF asks of a tokenizer; `special` are ids by bos, eos, unk and pad.

    A byte-level BPE has `merges`, another one `scores` and perhaps a space before a text.
    """

    kind: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    scores: list[float]
    space_before: bool
    special: dict[str, int]
    add_bos: bool
    add_eos: bool
    pre: str
    template: str | None
    normalizer: str | None  # what llama.cpp will not do
    left_out: list[str]  # marks that the model has no embeddings for
    around: list[str]  # what the tokenizer puts around a text and llama.cpp does not

    def write(self, writer: Any) -> None:
        """Hand it to a GGUFWriter."""
        writer.add_tokenizer_model(self.kind)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.kind == BYTE_LEVEL:
            writer.add_token_merges(self.merges)
        else:
            writer.add_token_scores(self.scores)
            writer.add_add_space_prefix(self.space_before)
        for name, number in self.special.items():
            getattr(writer, f"add_{name}_token_id")(number)
        writer.add_add_bos_token(self.add_bos)
        writer.add_add_eos_token(self.add_eos)
        if self.template is not None:
            writer.add_chat_template(self.template)


def vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int, pre: str) -> Vocabulary:
    """The vocabulary for a model with `rows` embeddings; `pre` overrides the name that is found.

    Rows without a token get one that is never used; marks that have no row, as padding may, are
    left out, but for BOS and EOS. Raises BadModel for a tokenizer that is no BPE, does not fit the
    model, cuts text in a way that has no name, or has merges that no scores stand for.
    """
    rules = _rules(tokenizer)
    kind = PIECES if pieces.fits(rules) else BYTE_LEVEL
    if kind == PIECES and pre:
        raise BadSetting(
            f"pre={pre} has no effect: the tokenizer is a SentencePiece BPE, which cuts no words. "
            "Leave it out."
        )
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    added = {each["id"]: each["special"] for each in rules["added_tokens"]}
    special = _special(tokenizer)
    beyond = sorted(number for number in by_id if number >= rows)
    ends = {special.get("bos"), special.get("eos")}
    if needed := [number for number in beyond if not added.get(number) or number in ends]:
        raise BadModel(
            f"the tokenizer has a token {needed[-1]}, but the model has {rows} embeddings. Use the "
            "tokenizer that belongs to the model."
        )
    tokens = [by_id.get(number, f"[unused {number}]") for number in range(rows)]
    types = [_type(number, by_id, added) for number in range(rows)]
    add_bos, add_eos, odd = _around(tokenizer)
    scores: list[float] = []
    if kind == PIECES:
        types = pieces.types(rules, tokens, types)
        scores = pieces.scores(rules, tokens, types)
    return Vocabulary(
        kind,
        tokens,
        types,
        [] if scores else [" ".join(each) for each in _pairs(rules)],
        scores,
        kind == PIECES and pieces.space_before(rules),
        {name: number for name, number in special.items() if number < rows},
        add_bos,
        add_eos,
        pre or (splits.find(rules) if kind == BYTE_LEVEL else pieces.PRE),
        _template(tokenizer),
        pieces.left_out(rules) if kind == PIECES else _normalizer(rules),
        [by_id[number] for number in beyond],
        [by_id.get(number, str(number)) for number in odd],
    )


def _rules(tokenizer: Any) -> Mapping[str, Any]:
    """The tokenizer.json. Raises BadModel where it holds no BPE that llama.cpp has."""
    if not tokenizer.is_fast:
        raise BadModel(
            f"{type(tokenizer).__name__} has no tokenizer.json, which GGUF export reads."
        )
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    model = rules["model"]
    known = pieces.fits(rules) or '"ByteLevel"' in json.dumps(rules["pre_tokenizer"])
    if model["type"] != "BPE" or not known:
        kind = "BPE on characters" if model["type"] == "BPE" else model["type"]
        raise BadModel(
            f"the tokenizer is {kind}; GGUF export writes byte-level BPE, and SentencePiece BPE "
            "that falls back to bytes. Convert the safetensors export with llama.cpp's "
            "convert_hf_to_gguf.py."
        )
    if not model["merges"]:
        raise BadModel("the tokenizer has no merges, and llama.cpp loads no BPE without them.")
    return rules


def _pairs(rules: Mapping[str, Any]) -> list[Sequence[str]]:
    """The merges, which older files have as words with a space between."""
    merges = rules["model"]["merges"]
    return [each.split(" ", 1) if isinstance(each, str) else each for each in merges]


def _normalizer(rules: Mapping[str, Any]) -> str | None:
    return None if rules["normalizer"] is None else rules["normalizer"]["type"]


def _type(number: int, by_id: Mapping[int, str], added: Mapping[int, bool]) -> int:
    if number not in by_id:
        return UNUSED
    if number not in added:
        return NORMAL
    return CONTROL if added[number] else USER_DEFINED


def _special(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    ids: dict[str, Any] = {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "unk": tokenizer.unk_token_id,
        "pad": tokenizer.pad_token_id,
    }
    return {name: number for name, number in ids.items() if number is not None}


def _around(tokenizer: PreTrainedTokenizerBase) -> tuple[bool, bool, list[int]]:
    """Whether the tokenizer puts BOS before and EOS behind a text by itself; what else it puts."""
    bare: list[int] = list(tokenizer(PROBE, add_special_tokens=False)["input_ids"])
    whole: list[int] = list(tokenizer(PROBE)["input_ids"])
    place = next(
        (n for n in range(len(whole)) if whole[n : n + len(bare)] == bare), len(whole)
    )  # of the text itself
    before, behind = whole[:place], whole[place + len(bare) :]
    begins = before[:1] == [tokenizer.bos_token_id]
    ends = behind[-1:] == [tokenizer.eos_token_id]
    return begins, ends, [*before[begins:], *behind[: len(behind) - ends]]


def _template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    template: Any = tokenizer.chat_template
    return template.get("default") if isinstance(template, dict) else template
