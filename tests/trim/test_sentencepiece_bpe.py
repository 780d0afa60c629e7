"""BPE on characters with byte fallback: pieces with several merges, characters as bytes."""

import json

import trimming
from tokenizers import Tokenizer

from babelpress.trim import _bpe, _rules, sentencepiece_bpe
from babelpress.trim._pieces import BYTES

KIND = "sentencepiece_bpe"


def test_only_the_merges_that_are_used_are_parts():
    """Every piece has a merge for every way to cut it; one of them is on the way."""
    model = {
        "vocab": {piece: n for n, piece in enumerate(["a", "b", "c", "ab", "bc", "abc"])},
        "merges": [["a", "b"], ["b", "c"], ["a", "bc"], ["ab", "c"]],
    }

    assert sentencepiece_bpe.parts(model)("abc") == {"a", "b", "c", "ab", "abc"}


def test_of_the_same_merge_twice_the_last_counts_as_in_the_library():
    model = {
        "type": "BPE",
        "vocab": {piece: n for n, piece in enumerate(["a", "b", "c", "ab", "bc", "abc"])},
        "merges": [["a", "b"], ["b", "c"], ["a", "b"], ["a", "bc"]],
    }

    rules = {**trimming.rules(KIND), "model": model, "added_tokens": [], "post_processor": None}
    library = Tokenizer.from_str(json.dumps(rules))

    assert library.encode("abc").tokens == ["abc"]  # by bc, for ab would leave c over
    assert sentencepiece_bpe.parts(model)("abc") == {"a", "b", "c", "bc", "abc"}


def test_the_tokenizer_of_these_tests_has_several_merges_for_a_piece():
    pairs = _bpe.pairs(trimming.rules(KIND)["model"])

    assert len(pairs) > 1.1 * len({left + right for left, right in pairs})


def test_a_character_whose_piece_is_gone_is_read_as_its_bytes():
    rules = trimming.rules(KIND)
    stays = sentencepiece_bpe.always(rules["model"]) | _rules.Known.of(rules).special | {"a"}
    new = Tokenizer.from_str(
        json.dumps(_rules.rewrite(_rules.Known.of(rules), sentencepiece_bpe, stays).rules)
    )
    old = Tokenizer.from_str(trimming.trained(KIND))

    found = new.encode("aन", add_special_tokens=False)

    assert old.encode("aन", add_special_tokens=False).tokens == ["a", "न"]
    assert found.tokens == ["a", "<0xE0>", "<0xA4>", "<0xA8>"]
    assert new.decode(found.ids) == "aन"
    assert set(BYTES) <= stays


def test_a_vocabulary_that_lacks_a_byte_is_none_of_this_kind():
    rules = trimming.rules(KIND)
    assert sentencepiece_bpe.fits(rules)

    del rules["model"]["vocab"]["<0x41>"]

    assert not sentencepiece_bpe.fits(rules)
