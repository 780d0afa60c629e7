"""Byte-level BPE: merges on the way to a piece, bytes, words taken whole."""

import json
import random

import pytest
import trimming
from tokenizers import Tokenizer

from babelpress.trim import _bpe, _rules, byte_level_bpe

KIND = "byte_level_bpe"


def slow_parents(model):
    """Of a vocabulary with one merge a piece: its two halves, and theirs, and so on."""
    made = {left + right: (left, right) for left, right in _bpe.pairs(model)}

    def of(piece):
        if piece not in made:
            return {piece}
        left, right = made[piece]
        return {piece, *of(left), *of(right)}

    return of


def test_parts_of_a_piece_are_its_halves_and_theirs():
    model = trimming.rules(KIND)["model"]
    parts, slow = byte_level_bpe.parts(model), slow_parents(model)

    for piece in model["vocab"]:
        if piece not in trimming.MARKS:
            assert parts(piece) == slow(piece)


def test_merging_is_that_of_the_library():
    model = trimming.rules(KIND)["model"]
    backend = Tokenizer.from_str(trimming.trained(KIND))
    ranks = {pair: rank for rank, pair in enumerate(_bpe.pairs(model))}
    words = {
        word
        for line in trimming.lines()
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(line)
    }

    for word in [*sorted(words)[:400], "ĠaaaaaĠaa", "ÃÃÃ©"]:
        _, left = _bpe.merged(word, ranks)
        assert left == [token.value for token in backend.model.tokenize(word)]


@pytest.mark.parametrize("seed", range(3))
def test_without_the_merges_on_the_way_text_is_read_as_others(seed):
    """What the law of all trimmers would find if parts were forgotten."""
    rules = trimming.rules(KIND)
    old = Tokenizer.from_str(trimming.trained(KIND))
    text = random.Random(seed).choice([line for line in trimming.lines() if len(line) > 40])
    before = old.encode(text, add_special_tokens=False)
    kept = (
        byte_level_bpe.always(rules["model"]) | set(before.tokens) | _rules.Known.of(rules).special
    )

    made = _rules.rewrite(_rules.Known.of(rules), byte_level_bpe, kept)

    after = Tokenizer.from_str(json.dumps(made.rules)).encode(text, add_special_tokens=False)
    assert [made.old[number] for number in after.ids] != before.ids


def test_merges_stay_in_their_order_and_their_form():
    rules = trimming.rules(KIND)
    model = rules["model"]
    as_text = {**model, "merges": [" ".join(pair) for pair in model["merges"]]}
    some = {piece for number, piece in enumerate(model["vocab"]) if number % 3}
    kept = some | byte_level_bpe.always(model)

    pairs, lines = (byte_level_bpe.rewrite(each, kept)["merges"] for each in (model, as_text))

    assert lines == [" ".join(pair) for pair in pairs]
    whole = [
        pair for pair in model["merges"] if {*pair, "".join(pair)} <= kept & set(model["vocab"])
    ]
    assert pairs == whole
    assert 0 < len(pairs) < len(model["merges"])


def test_words_that_are_taken_whole_stay_so():
    """Llama 3 takes a word that is a piece without merging, also one that no merging makes."""
    rules = trimming.rules(KIND)
    model = rules["model"]
    model["vocab"] = {**model["vocab"], "Ġqzx": len(model["vocab"])}
    model["ignore_merges"] = True
    old = Tokenizer.from_str(json.dumps(rules))
    used = old.encode("the qzx", add_special_tokens=False).tokens
    parts = byte_level_bpe.parts(model)
    kept = {each for piece in used for each in (piece, *parts(piece))}

    made = _rules.rewrite(
        _rules.Known.of(rules),
        byte_level_bpe,
        kept | byte_level_bpe.always(model) | _rules.Known.of(rules).special,
    )

    assert parts("Ġqzx") == set()
    new = Tokenizer.from_str(json.dumps(made.rules))
    assert new.encode("the qzx", add_special_tokens=False).tokens == used


def test_every_byte_stays_and_is_spelled():
    model = trimming.rules(KIND)["model"]

    assert len(byte_level_bpe.always(model)) == 256
    assert byte_level_bpe.spelled("Ġa") == " a"
    assert byte_level_bpe.spelled("à¤¨") == "न"
    assert byte_level_bpe.spelled("à¤") is None
    assert byte_level_bpe.spelled("<|endoftext|>न") is None
    assert sorted(byte_level_bpe._alphabet().values()) == list(range(256))
