"""Unigram: scores, the unknown piece, and the lowest score that unknown characters go by."""

import json

import pytest
import trimming
from tokenizers import Tokenizer

from babelpress.errors import BadModel
from babelpress.trim import _rules, unigram

KIND = "unigram"


def best(scores, text):
    """The segmentation with the largest sum by trying all of them; none has unknown characters."""
    if not text:
        return 0.0, []
    found = [
        (scores[text[:end]] + rest, [text[:end], *pieces])
        for end in range(1, len(text) + 1)
        if text[:end] in scores
        for rest, pieces in [best(scores, text[end:])]
        if rest > float("-inf")
    ]
    return max(found, default=(float("-inf"), []))


def test_fewer_pieces_read_a_word_as_the_best_of_all_ways_that_are_left():
    rules = trimming.rules(KIND)
    some = {piece for piece, _ in rules["model"]["vocab"][::2]}
    letters = {piece for piece, _ in rules["model"]["vocab"] if len(piece) == 1}
    kept = some | letters | unigram.always(rules["model"]) | _rules.Known.of(rules).special

    made = _rules.rewrite(_rules.Known.of(rules), unigram, kept)

    new = Tokenizer.from_str(json.dumps(made.rules))
    scores = {p: s for p, s in made.rules["model"]["vocab"] if p not in trimming.MARKS}
    old = dict(rules["model"]["vocab"])
    assert all(old[piece] == score for piece, score in made.rules["model"]["vocab"])
    words = {word for line in trimming.lines()[:60] for word in line.split()}
    for word in sorted(word for word in words if set(word) <= letters and len(word) < 12):
        assert new.encode(word, add_special_tokens=False).tokens == best(scores, f"▁{word}")[1]


def test_the_piece_with_the_lowest_score_stays_for_unknown_characters_go_by_it():
    """abcd is ab and cd (-30), unless d alone, which has no piece, may cost less than -29."""
    pieces = [["<unk>", 0.0], ["ab", -15.0], ["cd", -15.0], ["abc", -1.0], ["z", -30.0]]
    rules = {
        **trimming.rules(KIND),
        "model": {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": False},
        "added_tokens": [],
        "post_processor": None,
        "pre_tokenizer": None,
    }
    known, used = _rules.Known.of(rules), {"ab", "cd", "abc"}

    right = _rules.rewrite(known, unigram, used | unigram.always(rules["model"]))
    wrong = _rules.rewrite(known, unigram, used | {"<unk>"})

    def read(each):
        return Tokenizer.from_str(json.dumps(each)).encode("abcd").tokens

    assert unigram.always(rules["model"]) == {"<unk>", "z"}
    assert read(right.rules) == read(rules) == ["ab", "cd"]
    assert read(wrong.rules) == ["abc", "d"]


def test_two_pieces_of_the_same_text_are_one_line():
    model = {"vocab": [["<unk>", 0.0], ["a", -1.0], ["a", -2.0]], "unk_id": 0}

    with pytest.raises(BadModel, match="two pieces 'a'"):
        unigram.check(model)


def test_twins_in_a_large_vocabulary_are_found_in_no_time():
    """Counting each piece anew would take hours."""
    pieces = [[f"p{number}", -1.0] for number in range(300_000)]

    with pytest.raises(BadModel, match="two pieces 'p299999'"):
        unigram.check({"vocab": [*pieces, pieces[-1]], "unk_id": 0})
    unigram.check({"vocab": pieces, "unk_id": 0})
