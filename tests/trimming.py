"""Small tokenizers of every model that can be trimmed, trained on the embedded text."""

import json
from functools import cache

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from babelpress.text.corpus import open_corpus
from babelpress.trim import TRIMMERS
from babelpress.trim._pieces import BYTES

KINDS = tuple(TRIMMERS.names())
LANGUAGES = ("eng_Latn", "swh_Latn", "hin_Deva", "amh_Ethi")
MARKS = ["<pad>", "<eos>", "<bos>", "<unk>"]
SIZE = 700


@cache
def texts(tag, split="train"):
    """Documents of the embedded text."""
    return tuple(each.text for each in open_corpus("embedded").documents(tag, split))


@cache
def lines():
    """Sentences of all languages."""
    return tuple(line for tag in LANGUAGES for text in texts(tag) for line in text.splitlines())


@cache
def trained(kind):
    """The tokenizer.json of a small tokenizer of a kind, as text."""
    return {
        "byte_level_bpe": _byte_level,
        "sentencepiece_bpe": _sentencepiece,
        "unigram": _unigram,
        "wordpiece": _wordpiece,
    }[kind]().to_str()


def rules(kind):
    """The same as rules of its own."""
    return json.loads(trained(kind))


def tokenizer(kind, **options):
    """The same as transformers has it."""
    marks = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(trained(kind)), unk_token="<unk>", **marks, **options
    )


def _around(backend):
    ids = [(mark, backend.token_to_id(mark)) for mark in ("<bos>", "<eos>")]
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=ids
    )
    return backend


def _byte_level():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=MARKS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(lines(), trainer)
    return _around(backend)


def _sentencepiece():
    """As Gemma has it: a piece has a merge for every way to cut it into two others."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE + 256,
        special_tokens=[*MARKS, *BYTES],
        limit_alphabet=150,
        show_progress=False,
    )
    backend.train_from_iterator([f"▁{line.replace(' ', '▁')}" for line in lines()], trainer)
    made = json.loads(backend.to_str())
    pieces = made["model"]["vocab"]
    made["model"]["merges"] = [
        [piece[:cut], piece[cut:]]
        for piece in sorted(pieces, key=pieces.get)
        if piece not in (*MARKS, *BYTES)
        for cut in range(1, len(piece))
        if piece[:cut] in pieces and piece[cut:] in pieces
    ]
    made["added_tokens"] = made["added_tokens"][: len(MARKS)]  # bytes are no added tokens
    return _around(Tokenizer.from_str(json.dumps(made)))


def _unigram():
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=SIZE, special_tokens=MARKS, unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(lines(), trainer)
    return _around(backend)


def _wordpiece():
    backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=2 * SIZE, special_tokens=MARKS, limit_alphabet=1000, show_progress=False
    )
    backend.train_from_iterator(lines(), trainer)
    return _around(backend)
