"""Tokenizers: opened as their file says, text to ids, what one does as a hash, how it is written.

transformers builds some tokenizers anew from the vocabulary of a `tokenizer.json`, by rules of the
class that a config names, and those of the file (a normalizer, where a space goes) are lost. So
ids are compared with what the `tokenizers` library makes of the file itself, and where they differ
the file is right: it is what the model was trained with, and what every other engine reads.

Text that spells a special token is text, here and wherever text is read: `encode` alone does it.

A tokenizer's files go along byte for byte. Written anew they would be of the newest transformers
alone, and what it has no use for (`tokenizer.model`, `merges.txt`) would be gone. Only where a
class does not do what the file says does tokenizer_config.json name the class that does, so that
who is served by transformers or vLLM has the tokens that were calibrated on and scored.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

from huggingface_hub import snapshot_download
from tokenizers import AddedToken
from tokenizers import Tokenizer as Rules
from tokenizers.models import BPE
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BatchEncoding,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from babelpress.errors import BadModel, BadRun
from babelpress.models import probes
from babelpress.system.files import fingerprint, sha256_text, write_bytes

# A tokenizer of transformers, whose own annotations allow more types than its attributes have.
Tokenizer: TypeAlias = Any

RULES = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
FOLLOWS = "PreTrainedTokenizerFast"  # as every transformers calls the class that adds no rule
# What a class may know by itself, and its settings need not say.
OF_CLASS = ("model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces")
BPE_SETTINGS = (
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",
    "byte_fallback",
    "ignore_merges",
)
# Hashes that were made, by that of the rules as a tokenizer writes them: a quarter of a million
# tokens take seconds, and a sweep asks for it in every recipe.
_hashes: dict[str, str] = {}
SAMPLE = 600  # tokens of the vocabulary that are read as text
# What a model folder holds besides weights and their config: nothing of it hangs on the weights.
FILES = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*.json",
    "vocab*.txt",
    "vocab.bpe",
    "merges.txt",
    "tekken.json",
    "*.tiktoken",
    "*.model",
    "tokenizer.model.*",
    "*.spm",
    "chat_template*.json",
    "*.jinja",
    "additional_chat_templates/*.jinja",
    "generation_config.json",
    "*processor_config.json",
)


@dataclass(frozen=True, slots=True)
class Read:
    """A tokenizer that does what its file says, and the files that go along with it, by name.

    `replaced` is the class that reads it as other tokens and that the files no longer name; empty
    where none does.
    """

    tokenizer: PreTrainedTokenizerBase
    files: Mapping[str, bytes]
    replaced: str = ""


def read_tokenizer(place: str, options: Mapping[str, Any]) -> Read:
    """The tokenizer of a folder or hub id; `options` are those of `from_pretrained`.

    Raises BadModel where its file cannot be followed.
    """
    tokenizer = AutoTokenizer.from_pretrained(place, **options)
    files = _files(place, options, tokenizer.vocab_files_names.values())
    # Of this class a tokenizer is read from the file as it is.
    if RULES not in files or type(tokenizer) is PreTrainedTokenizerFast:
        return Read(tokenizer, files)
    rules = _with_vocabulary_of(tokenizer, files[RULES]) or Rules.from_buffer(files[RULES])
    texts = [*probes.texts(), *_vocabulary(rules)]
    if encode(tokenizer, texts)["input_ids"] == _ids(rules, texts):
        return Read(tokenizer, files)
    return _by_file(tokenizer, files, place, options, texts)


def replaced_line(name: str) -> list[str]:
    """The line to tell the user of a class that files no longer name, where there is one."""
    if not name:
        return []
    return [f"{SETTINGS} names {FOLLOWS} now: {name} reads text as other tokens than {RULES} says"]


def _files(place: str, options: Mapping[str, Any], own: Sequence[str]) -> dict[str, bytes]:
    """Content by name: what the source has, read now, for it may be another when it is written."""
    wanted = [*FILES, *own]
    folder = Path(place)
    if not folder.is_dir():
        asked = {key: options[key] for key in ("revision", "local_files_only")}
        folder = Path(snapshot_download(place, allow_patterns=wanted, **asked))
    paths = {path for pattern in wanted for path in folder.glob(pattern) if path.is_file()}
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}


def _by_file(
    tokenizer: Tokenizer,
    files: dict[str, bytes],
    place: str,
    options: Mapping[str, Any],
    texts: Sequence[str],
) -> Read:
    """The tokenizer of a class that reads its file as it is, marks kept: loaded from what is
    written, as it will be by whoever is handed the folder.
    """
    name = type(tokenizer).__name__
    settings = {
        **json.loads(files.get(SETTINGS, b"{}")),
        **{word: getattr(tokenizer, word) for word in OF_CLASS},
        **tokenizer.special_tokens_map,
        "tokenizer_class": FOLLOWS,
    }
    settings.pop("auto_map", None)
    changed = {**files, SETTINGS: (json.dumps(settings, indent=2) + "\n").encode()}
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(tokenizer, Path(folder), changed)
        AutoConfig.from_pretrained(place, **options).save_pretrained(folder)
        made = AutoTokenizer.from_pretrained(folder)
    made.name_or_path = tokenizer.name_or_path
    found, said = encode(made, texts)["input_ids"], _ids(Rules.from_buffer(files[RULES]), texts)
    if found != said:
        text = next(t for t, one, other in zip(texts, found, said, strict=True) if one != other)
        raise BadModel(
            f"{place}: {name} reads {text[:20]!r} as other tokens than its {RULES} says. Remove "
            f"what its {SETTINGS} adds, or mend the file."
        )
    return Read(made, changed, name)


def _with_vocabulary_of(tokenizer: Tokenizer, content: bytes) -> Rules | None:
    """The rules of a tokenizer.json on a vocabulary that was read from it before.

    To read a quarter of a million tokens twice takes a second. None where this cannot be done:
    then the model of the file is no BPE, or has other settings.
    """
    begin, found, _ = content.partition(b'"vocab"')
    with suppress(ValueError):  # the word was another one's
        rules = json.loads(begin + b'"vocab":{},"merges":[]}}') if found else {"model": {}}
        pieces = tokenizer.backend_tokenizer.model if tokenizer.is_fast else None
        asked = [rules["model"].get(name) or None for name in BPE_SETTINGS]
        if not isinstance(pieces, BPE) or rules["model"].get("type") != "BPE":
            return None
        if asked != [getattr(pieces, name) or None for name in BPE_SETTINGS]:
            return None
        bare = Rules.from_str(json.dumps({**rules, "added_tokens": [], "post_processor": None}))
        made = Rules(pieces)
        for part in ("normalizer", "pre_tokenizer", "decoder"):
            if rules.get(part) is not None:
                setattr(made, part, getattr(bare, part))
        added = ({k: v for k, v in each.items() if k != "id"} for each in rules["added_tokens"])
        made.add_tokens([AddedToken(**each) for each in added])  # at once: each call costs 2 ms
        return made
    return None


def _vocabulary(rules: Rules) -> list[str]:
    """Tokens from all over the vocabulary as text, each after another one of them."""
    size = rules.get_vocab_size()
    ids = range(0, size, max(1, size // SAMPLE))
    return [
        rules.decode([one, other]) for one, other in zip(ids, [*ids[7:], *ids[:7]], strict=True)
    ]


def _ids(rules: Rules, texts: Sequence[str]) -> list[list[int]]:
    """What the `tokenizers` library makes of texts, by the rule of `encode`."""
    rules.no_truncation()
    rules.no_padding()
    rules.encode_special_tokens = True
    return [each.ids for each in rules.encode_batch(list(texts), add_special_tokens=False)]


def encode(
    tokenizer: Tokenizer, texts: Sequence[str], *, offsets: bool = False, target: bool = False
) -> BatchEncoding:
    """`input_ids` of texts, and `offset_mapping` if asked for; no mark is put before or behind.

    Some tokenizers of translation have other pieces for the `target` than for the source.

    Text that spells a special token, such as "</s>", is read as text. A model of pieces that has
    the token among its pieces would find it there, so it gets the token's characters.
    """
    read: dict[str, Any] = {"text_target": list(texts)} if target else {}
    encoded = tokenizer(
        *(() if target else (list(texts),)),
        **read,
        add_special_tokens=False,
        return_attention_mask=False,
        return_offsets_mapping=offsets,
        split_special_tokens=True,
        verbose=False,
    )
    marks = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    for row, ids in enumerate(encoded["input_ids"]):
        if not marks.isdisjoint(ids):
            _spell(tokenizer, encoded, row, marks)
    return encoded


def _spell(tokenizer: Tokenizer, encoded: BatchEncoding, row: int, marks: set[int]) -> None:
    """Put in place of marks the ids of their characters, one token each."""
    before = encoded["input_ids"][row]
    spans = encoded.get("offset_mapping", [[(0, 0)] * len(before)] * (row + 1))[row]
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    for number, (start, end) in zip(before, spans, strict=True):
        spelled = [number]
        if number in marks:
            pieces = tokenizer.backend_tokenizer.model
            letters = pieces.id_to_token(number)
            spelled = [token.id for letter in letters for token in pieces.tokenize(letter)]
        each = end - start == len(spelled)  # a token for every character of the text
        ids += spelled
        offsets += [
            (start + place, start + place + 1) if each else (start, end)
            for place in range(len(spelled))
        ]
    encoded["input_ids"][row] = ids
    if "offset_mapping" in encoded:
        encoded["offset_mapping"][row] = offsets


def vocabulary_of(model: Any) -> int:
    """How many tokens the model has embeddings for."""
    return cast(nn.Embedding, model.get_input_embeddings()).weight.shape[0]


def check_known(highest: int, known: int, where: str) -> None:
    """Raise BadModel where the highest of some ids is beyond the `known` embeddings of a model."""
    if highest >= known:
        raise BadModel(
            f"{where}: the tokenizer gave token {highest}, but the model knows {known} tokens. Use "
            "the tokenizer that belongs to the model."
        )


def save_tokenizer(
    tokenizer: PreTrainedTokenizerBase, folder: Path, files: Mapping[str, bytes]
) -> None:
    """Write the files of a tokenizer: those that it came with, or if there are none, new ones.

    Raises BadRun where the disk refuses.
    """
    for name, content in files.items():
        write_bytes(folder / name, content)
    if files:
        return
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:
        # What tokenizers raises for a full disk is of no narrower class; all else goes on.
        if type(error) is not Exception:
            raise
        raise BadRun(f"cannot write the tokenizer to {folder}: {error}.") from error


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """SHA-256 of what the tokenizer does: its rules where it is a fast one, else its vocabulary."""
    if not tokenizer.is_fast:
        return fingerprint(tokenizer.get_vocab())
    rules = tokenizer.backend_tokenizer.to_str()
    written = sha256_text(rules)
    if written not in _hashes:
        # The last call's truncation and padding are kept there; they are none of the tokenizer's.
        _hashes[written] = fingerprint({**json.loads(rules), "truncation": None, "padding": None})
    return _hashes[written]
