"""WordPiece: the longest piece first, and words that are unknown as a whole."""

import json

import pytest
import trimming
from tokenizers import Tokenizer

from babelpress.errors import BadModel
from babelpress.trim import _rules, wordpiece

KIND = "wordpiece"


def longest(vocabulary, word):
    """The definition: the longest piece that a word begins with, then of the rest."""
    pieces, rest = [], word
    while rest:
        mark = "##" if pieces else ""
        ends = (end for end in range(len(rest), 0, -1) if mark + rest[:end] in vocabulary)
        end = next(ends, None)
        if end is None:
            return ["<unk>"]
        pieces.append(mark + rest[:end])
        rest = rest[end:]
    return pieces


def test_fewer_pieces_read_words_as_the_definition_does():
    rules = trimming.rules(KIND)
    kept = {*list(rules["model"]["vocab"])[::2], *trimming.MARKS}

    made = _rules.rewrite(_rules.Known.of(rules), wordpiece, kept)

    new = Tokenizer.from_str(json.dumps(made.rules))
    vocabulary = made.rules["model"]["vocab"]
    words = {w for line in trimming.lines() for w, _ in new.pre_tokenizer.pre_tokenize_str(line)}
    found = {word: new.encode(word, add_special_tokens=False).tokens for word in words}
    assert all(tokens == longest(vocabulary, word) for word, tokens in found.items())
    assert ["<unk>"] in found.values()


def test_a_word_that_was_unknown_may_be_read_with_fewer_pieces():
    """abc begins as ab, after which no piece is c; without ab it is a and ##bc."""
    model = {
        "type": "WordPiece",
        "unk_token": "<unk>",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {each: n for n, each in enumerate(["<unk>", "a", "ab", "##bc"])},
    }
    rules = {**trimming.rules(KIND), "added_tokens": [], "post_processor": None, "model": model}
    made = _rules.rewrite(_rules.Known.of(rules), wordpiece, {"<unk>", "a", "##bc"})

    old, new = (Tokenizer.from_str(json.dumps(each)) for each in (rules, made.rules))

    assert old.encode("abc").tokens == ["<unk>"]
    assert new.encode("abc").tokens == ["a", "##bc"]


def test_a_vocabulary_without_an_unknown_piece_is_one_line():
    model = {"vocab": {"a": 0}, "unk_token": "[UNK]", "continuing_subword_prefix": "##"}

    with pytest.raises(BadModel, match="has no piece for unknown words"):
        wordpiece.check(model)
