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
    """b has no piece of its own: with ab it is read, or a and an unknown one are."""
    pieces = [["<unk>", 0.0], ["▁", -1.0], ["a", -2.0], ["ab", -15.0], ["z", -9.0]]
    rules = {
        **trimming.rules(KIND),
        "model": {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": False},
        "added_tokens": [],
        "post_processor": None,
    }
    text = "ab bb"
    old = Tokenizer.from_str(json.dumps(rules))
    used = set(old.encode(text).tokens)

    assert unigram.always(rules["model"]) == {"<unk>", "ab"}
    rules["model"]["vocab"][3][1] = -8.0  # now z is the lowest
    old = Tokenizer.from_str(json.dumps(rules))
    used = {"▁", "ab", "<unk>"}
    made = _rules.rewrite(_rules.Known.of(rules), unigram, used | unigram.always(rules["model"]))
    lost = _rules.rewrite(_rules.Known.of(rules), unigram, used)
    before = old.encode(text).ids
    after, other = (
        [each.old[n] for n in Tokenizer.from_str(json.dumps(each.rules)).encode(text).ids]
        for each in (made, lost)
    )
    assert "z" in unigram.always(rules["model"])
    assert after == before
    assert made.rules["model"]["unk_id"] == 0
    assert other == before or other != after


def test_two_pieces_of_the_same_text_are_one_line():
    model = {"vocab": [["<unk>", 0.0], ["a", -1.0], ["a", -2.0]], "unk_id": 0}

    with pytest.raises(BadModel, match="two pieces 'a'"):
        unigram.check(model)
