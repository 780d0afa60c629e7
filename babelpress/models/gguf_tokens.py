"""The tokenizer of a GGUF file, as a tokenizer.json that reads text as llama.cpp does.

Byte-level BPE (`gpt2`) has its merges in the file, and the way to cut words by its name
(gguf_splits.py); there llama.cpp takes the original regex, or a narrower one of its own, and here
the original is taken, which the model was trained with. SentencePiece BPE (`llama`) has scores: of
all neighbours that together are a token those with the highest score are joined first, from the
left. So every way to part a token in two is a merge, and scores give their order.

Tested in tests/models/test_gguf_tokens.py.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from babelpress.errors import BadModel
from babelpress.models import gguf_splits as splits
from babelpress.models.gguf_header import AGAIN, Header

BYTE_LEVEL, PIECES = "gpt2", "llama"  # tokenizers by llama.cpp's names
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # token types of GGUF
NEVER_MERGED = (UNKNOWN, CONTROL, BYTE)
FILLED = re.compile(r"\[(PAD|unused )\d+\]")  # rows of a model that no token has
SPACE = "▁"
BEGINS = ("llama-bpe", "tekken")  # names under which BOS comes first where a file does not say
SPECIAL = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad", "mask": "mask"}

Rules = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Words:
    """What a file says of its tokens, by id."""

    tokens: Sequence[str]
    types: Sequence[int]
    scores: Sequence[float]

    def vocabulary(self) -> dict[str, int]:
        """Ids of all tokens but those that only fill rows."""
        return {token: number for number, token in enumerate(self.tokens) if self.real(number)}

    def real(self, number: int) -> bool:
        """Whether a row has a token."""
        return self.types[number] != UNUSED or not FILLED.fullmatch(self.tokens[number])

    def added(self) -> list[dict[str, Any]]:
        """Tokens that are found in text before all else: special ones, and those of users."""
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        return [
            {"id": number, "content": self.tokens[number], **flags, "special": kind != USER_DEFINED}
            for number, kind in enumerate(self.types)
            if kind in (UNKNOWN, CONTROL, USER_DEFINED)
        ]


def tokenizer(header: Header) -> PreTrainedTokenizerBase:
    """The tokenizer of a file, ready to be used. Raises BadModel where it cannot be told."""
    made_rules = rules(header)  # which checks ids too
    named = {
        f"{ours}_token": header.metadata["tokenizer.ggml.tokens"][number]
        for theirs, ours in SPECIAL.items()
        if (number := header.metadata.get(f"tokenizer.ggml.{theirs}_token_id")) is not None
    }
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(made_rules)),
        clean_up_tokenization_spaces=False,
        **named,
    )
    made.chat_template = header.metadata.get("tokenizer.chat_template")
    return made


def rules(header: Header) -> Rules:
    """The tokenizer.json. Raises BadModel for a file without one, or of a kind not known here."""
    kind = header.metadata.get("tokenizer.ggml.model")
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if kind in (None, "none", "no_vocab") or not tokens:
        raise BadModel(
            f"{header.path} has no tokenizer (tokenizer.ggml.tokens). Give a GGUF file that was "
            "made with its vocabulary."
        )
    if kind not in (BYTE_LEVEL, PIECES):
        raise BadModel(
            f"{header.path} has a tokenizer of the kind '{kind}': read from GGUF are {BYTE_LEVEL} "
            f"(byte-level BPE) and {PIECES} (SentencePiece BPE). Give its safetensors folder."
        )
    words = _Words(
        tokens,
        header.metadata.get("tokenizer.ggml.token_type") or [NORMAL] * len(tokens),
        header.metadata.get("tokenizer.ggml.scores") or [0.0] * len(tokens),
    )
    _check(header, words)
    made = _byte_level(header, words) if kind == BYTE_LEVEL else _pieces(header, words)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": words.added(),
        **made,
        "post_processor": _around(header, kind),
    }


def _check(header: Header, words: _Words) -> None:
    several = {len(words.tokens), len(words.types), len(words.scores)}
    if len(several) > 1:
        raise BadModel(f"{header.path} is damaged: tokens, types and scores differ in number.")
    seen: dict[str, int] = {}
    for number, token in enumerate(words.tokens):
        if (first := seen.setdefault(token, number)) != number and words.real(number):
            raise BadModel(
                f"{header.path}: tokens {first} and {number} are both {token[:20]!r}, so text "
                "could be read either way. Give its safetensors folder."
            )
    for name in SPECIAL:
        key = f"tokenizer.ggml.{name}_token_id"
        found = header.metadata.get(key)
        if found is not None and not (isinstance(found, int) and 0 <= found < len(words.tokens)):
            raise BadModel(
                f"{header.path}: {key} is {found!r}, and there are {len(words.tokens)} tokens. "
                f"{AGAIN}"
            )


# ---- byte-level BPE ------------------------------------------------------------------------


def _byte_level(header: Header, words: _Words) -> Rules:
    name = header.metadata.get("tokenizer.ggml.pre", "default")
    if (pre := splits.called(name)) is None:
        raise BadModel(
            f"{header.path} cuts words in the way that llama.cpp calls '{name}', which is not "
            f"known here: {', '.join(each.name for each in splits.KNOWN)} are. Give its "
            "safetensors folder."
        )
    merges = header.metadata.get("tokenizer.ggml.merges")
    if not merges:
        raise BadModel(f"{header.path} has no merges, and without them no text can be read.")
    cuts = [
        {"type": "Split", "pattern": {"Regex": each}, "behavior": "Isolated", "invert": False}
        for each in pre.regexes
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    model = {"ignore_merges": pre.ignore_merges, "byte_fallback": False, "unk_token": None}
    return {
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [*cuts, {**level, "use_regex": False}],
        },
        "decoder": {**level, "use_regex": True},
        "model": _bpe(words, [each.split(" ", 1) for each in merges], model),
    }


# ---- SentencePiece BPE ---------------------------------------------------------------------


def _pieces(header: Header, words: _Words) -> Rules:
    prefix = bool(header.metadata.get("tokenizer.ggml.add_space_prefix", True))
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    before = [{"type": "Prepend", "prepend": SPACE}] if prefix else []
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    unknown = header.metadata.get("tokenizer.ggml.unknown_token_id")
    named = next((each for each, kind in enumerate(words.types) if kind == UNKNOWN), unknown)
    settings = {
        "ignore_merges": False,
        "byte_fallback": True,
        "unk_token": None if named is None else words.tokens[named],
    }
    merges = list(merges_of(words.vocabulary(), words.types, words.scores))
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*before, replace]},
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip],
        },
        "model": _bpe(words, merges, settings),
    }


def merges_of(
    ids: Mapping[str, int], types: Sequence[int], scores: Sequence[float]
) -> Iterator[tuple[str, str]]:
    """All pairs of tokens that are a third one, by its score, the highest first.

    Of one token the longest left part comes first, and of equal scores the lower id: llama.cpp
    takes the left one in the text then, which no order of merges says.
    """
    able = [token for token, number in ids.items() if types[number] not in NEVER_MERGED]
    for token in sorted(able, key=lambda each: (-scores[ids[each]], ids[each])):
        for place in range(len(token) - 1, 0, -1):
            if token[:place] in ids and token[place:] in ids:
                yield token[:place], token[place:]


# ---- both ----------------------------------------------------------------------------------


def _bpe(words: _Words, merges: Sequence[Sequence[str]], settings: Mapping[str, Any]) -> Rules:
    return {
        "type": "BPE",
        "dropout": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        **settings,
        "vocab": words.vocabulary(),
        "merges": [list(each) for each in merges],
    }


def _around(header: Header, kind: str) -> Rules | None:
    """What comes before and behind a text."""
    pre = splits.called(header.metadata.get("tokenizer.ggml.pre", ""))
    begins = kind == PIECES or (pre is not None and pre.name in BEGINS)
    sides = {"bos": begins, "eos": False}
    marks = {}
    for name, usual in sides.items():
        number = header.metadata.get(f"tokenizer.ggml.{name}_token_id")
        if header.metadata.get(f"tokenizer.ggml.add_{name}_token", usual) and number is not None:
            marks[name] = (header.metadata["tokenizer.ggml.tokens"][number], number)
    if not marks:
        return None

    def template(*letters: str) -> list[Rules]:
        found: list[Rules] = []
        for kind_id, letter in enumerate(letters):
            parts: list[Rules] = [{"Sequence": {"id": letter, "type_id": kind_id}}]
            if "bos" in marks:
                parts.insert(0, {"SpecialToken": {"id": marks["bos"][0], "type_id": kind_id}})
            if "eos" in marks:
                parts.append({"SpecialToken": {"id": marks["eos"][0], "type_id": kind_id}})
            found += parts
        return found

    return {
        "type": "TemplateProcessing",
        "single": template("A"),
        "pair": template("A", "B"),
        "special_tokens": {
            token: {"id": token, "ids": [number], "tokens": [token]}
            for token, number in marks.values()
        },
    }
