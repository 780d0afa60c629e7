"""The files of a tokenizer beside tokenizer.json: rewritten, or dropped and named.

    tokenizer_config.json, added_tokens.json   ids are renumbered
    processor_config.json and its like         the same
    vocab.json, merges.txt, vocab.txt          written anew from the rules
    *.model, *.spm                             rewritten by the package sentencepiece, if there
    tekken.json, *.tiktoken, vocab.bpe         dropped: what reads them reads tokenizer.json too

Tested in tests/trim/test_files.py.
"""

import json
from collections.abc import Collection, Mapping
from fnmatch import fnmatch
from importlib import import_module
from typing import Any

from babelpress.models import token_ids
from babelpress.models.tokenizers import RULES, SETTINGS
from babelpress.trim._bpe import pairs
from babelpress.trim._rules import Rewritten

GENERATION = "generation_config.json"
NAMING = (GENERATION, "*processor_config.json")  # ids, by their keys
SENTENCEPIECE = ("*.model", "*.spm", "tokenizer.model.*")
DROPPED = ("tekken.json", "*.tiktoken", "vocab.bpe", "vocab*.txt", "vocab*.json", "merges.txt")


def rewrite(
    files: Mapping[str, bytes], made: Rewritten, dropped: Collection[str]
) -> tuple[dict[str, bytes], list[str]]:
    """All files for the new tokenizer, and the names of those that had to go.

    `dropped` are the tokens that are gone.
    """
    found: dict[str, bytes] = {RULES: _json(made.rules)}
    gone: list[str] = []
    for name, content in files.items():
        if name == RULES:
            continue
        new = _rewritten(name, content, made, frozenset(dropped))
        if new is None:
            gone.append(name)
        else:
            found[name] = new
    return dict(sorted(found.items())), gone


def _rewritten(name: str, content: bytes, made: Rewritten, dropped: frozenset[str]) -> bytes | None:
    """A file for the new tokenizer; None where it cannot be written."""
    model, new = made.rules["model"], made.new
    if name == SETTINGS:
        return _json(_settings(json.loads(content), new))
    if any(fnmatch(name, each) for each in NAMING):
        return _json(token_ids.renumbered(json.loads(content), new))
    if name == "added_tokens.json":
        known = {token: new[old] for token, old in json.loads(content).items() if old in new}
        return _json(known)
    if name == "vocab.json" and model["type"] == "BPE":
        return _json(model["vocab"])
    if name == "merges.txt" and model["type"] == "BPE":
        lines = [" ".join(pair) for pair in pairs(model)]
        return "\n".join(["#version: 0.2", *lines, ""]).encode()
    if name == "vocab.txt" and model["type"] == "WordPiece":
        return "\n".join([*sorted(model["vocab"], key=model["vocab"].get), ""]).encode()
    if any(fnmatch(name, each) for each in SENTENCEPIECE):
        return _sentencepiece(content, dropped)
    return None if any(fnmatch(name, each) for each in DROPPED) else content


def _settings(settings: dict[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
    """A tokenizer_config.json with new ids of the tokens that it knows by their numbers."""
    found = token_ids.renumbered(
        {key: value for key, value in settings.items() if key != "added_tokens_decoder"}, new
    )
    if "added_tokens_decoder" in settings:
        known = settings["added_tokens_decoder"].items()
        kept = {new[int(old)]: each for old, each in known if int(old) in new}
        found["added_tokens_decoder"] = {str(number): kept[number] for number in sorted(kept)}
    return found


def _sentencepiece(content: bytes, dropped: frozenset[str]) -> bytes | None:
    """A model of SentencePiece without some pieces; None without its package, or another file."""
    try:
        messages: Any = import_module("google.protobuf.message")
        package: Any = import_module("sentencepiece.sentencepiece_model_pb2")
    except ImportError:
        return None
    model: Any = package.ModelProto()
    try:
        model.ParseFromString(content)
    except messages.DecodeError:
        return None
    left = [each for each in model.pieces if each.piece not in dropped]
    del model.pieces[:]
    model.pieces.extend(left)
    model.trainer_spec.vocab_size = len(left)
    _untested(model)
    return model.SerializeToString()


def _untested(model: Any) -> None:
    """Take out readings of texts by all pieces, which some readers check.

    Newer packages do not know the field, and what they do not know may be of pieces that are gone.
    """
    if "self_test_data" in model.DESCRIPTOR.fields_by_name:
        model.ClearField("self_test_data")
    model.DiscardUnknownFields()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
