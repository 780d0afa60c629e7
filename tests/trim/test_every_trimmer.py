"""Laws of all trimmers: text whose pieces are all kept is read as the same pieces."""

import json
import random

import pytest
import trimming
from tokenizers import Tokenizer

from babelpress.errors import BadModel
from babelpress.models import probes
from babelpress.trim import TRIMMERS, _rules, trimmer

every = pytest.mark.parametrize("kind", trimming.KINDS)
ODD = ("naïve ﬁn 字典 x", "Ωmega 12345", "<bos> hi </s>", "🙂👩‍🚀", "ab\u0301c", "##a ▁b _c")


def closed(by, model, pieces):
    """Pieces with all that stays and all that they need."""
    parts = by.parts(model)
    return {each for piece in {*by.always(model), *pieces} for each in (piece, *parts(piece))}


def read(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


@every
def test_a_tokenizer_is_known_by_its_file(kind):
    by = trimmer(trimming.rules(kind), "a model")

    assert by is TRIMMERS.module(kind)


@every
@pytest.mark.parametrize("seed", [0, 1])
def test_text_whose_pieces_are_kept_is_read_as_before_by_brute_force(kind, seed):
    """Pieces of a third of the sentences stay; what these and others are read as is compared."""
    rules = trimming.rules(kind)
    by, old = trimmer(rules, "a model"), Tokenizer.from_str(trimming.trained(kind))
    some = random.Random(seed).sample(trimming.lines(), len(trimming.lines()) // 3)
    used = {token for text in some for token in read(old, text).tokens}
    kept = closed(by, rules["model"], used | _rules.Known.of(rules).special)

    made = _rules.rewrite(_rules.Known.of(rules), by, kept)

    new = Tokenizer.from_str(json.dumps(made.rules))
    assert new.get_vocab_size() == len(made.old) < old.get_vocab_size()
    same = others = 0
    for text in (*trimming.lines(), *ODD, *probes.texts()):
        before, after = read(old, text), read(new, text)
        if set(before.ids) <= made.new.keys() and not (
            kind == "wordpiece" and "<unk>" in before.tokens
        ):
            assert [made.old[number] for number in after.ids] == before.ids, text
            assert new.decode(after.ids) == old.decode(before.ids)
            same += 1
        else:
            others += 1
    assert same >= len(some)
    assert others


@every
def test_ids_are_numbered_from_zero_in_the_order_that_they_had(kind):
    rules = trimming.rules(kind)
    by = trimmer(rules, "a model")
    used = read(Tokenizer.from_str(trimming.trained(kind)), trimming.lines()[0]).tokens

    made = _rules.rewrite(
        _rules.Known.of(rules),
        by,
        closed(by, rules["model"], used) | _rules.Known.of(rules).special,
    )

    before, after = _rules.tokens(rules), _rules.tokens(made.rules)
    assert list(made.old) == sorted(made.old)
    assert {token: made.old[number] for token, number in after.items()} == {
        token: before[token] for token in after
    }


@every
def test_all_pieces_kept_is_the_same_tokenizer(kind):
    rules = trimming.rules(kind)
    by = trimmer(rules, "a model")

    made = _rules.rewrite(_rules.Known.of(rules), by, _rules.tokens(rules))

    assert made.rules["model"] == rules["model"]
    assert made.rules == rules
    assert made.old == tuple(range(len(made.old)))


@every
def test_an_entry_is_pure(kind):
    rules = trimming.rules(kind)
    by = trimmer(rules, "a model")

    _rules.rewrite(
        _rules.Known.of(rules),
        by,
        closed(by, rules["model"], ["a"]) | _rules.Known.of(rules).special,
    )

    assert rules == trimming.rules(kind)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"type": "WordLevel", "vocab": {}}, "is a WordLevel, which cannot be trimmed safely."),
        (
            {"type": "BPE", "vocab": {}, "merges": []},
            "is a BPE on characters without byte fallback",
        ),
    ],
)
def test_a_model_that_none_knows_is_one_line(model, words):
    with pytest.raises(BadModel, match=words) as caught:
        trimmer({"model": model, "pre_tokenizer": None}, "it")

    assert "Known: byte level bpe, sentencepiece bpe, unigram, wordpiece." in str(caught.value)


@every
def test_settings_that_cannot_be_rewritten_are_one_line(kind):
    rules = trimming.rules(kind)
    changed = {
        "unigram": {"unk_id": None},
        "wordpiece": {"continuing_subword_prefix": "@@"},
    }.get(kind, {"dropout": 0.1})
    rules["model"] |= changed

    with pytest.raises(BadModel, match="Leave out trim"):
        trimmer(rules, "it")
