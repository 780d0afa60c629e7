"""A tokenizer.json with fewer pieces: ids that other parts name, added tokens, padding."""

import json

import pytest
import trimming
from tokenizers import Tokenizer

from babelpress.errors import BadModel
from babelpress.trim import _rules, trimmer

ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def with_added(kind="byte_level_bpe", *names):
    """Rules with tokens behind those of the model, one of them special."""
    rules = trimming.rules(kind)
    size = len(_rules.tokens(rules))
    for number, name in enumerate(names or ("<late>", "<unused3>", "user word")):
        rules["added_tokens"].append(
            {"id": size + number, "content": name, "special": name[0] == "<", **ADDED}
        )
    return rules


def cut(rules, *gone):
    by = trimmer(rules, "it")
    always = by.always(rules["model"]) | _rules.Known.of(rules).special
    return _rules.rewrite(_rules.Known.of(rules), by, always - set(gone))


def test_added_tokens_come_behind_and_are_found_in_text():
    rules = with_added()

    made = cut(rules, "<unused3>")

    after = _rules.tokens(made.rules)
    assert after["<late>"] == len(after) - 2
    assert after["user word"] == len(after) - 1
    assert "<unused3>" not in after
    new = Tokenizer.from_str(json.dumps(made.rules))
    assert new.encode("a<late>user word").ids[2:4] == [after["<late>"], after["user word"]]
    for each in made.rules["added_tokens"]:
        assert after[each["content"]] == each["id"]


def test_placeholders_are_known_by_their_text():
    rules = with_added("byte_level_bpe", "<unused3>", "[unused12]", "<|reserved_special_token_4|>")

    assert _rules.Known.of(rules).placeholders == {
        "<unused3>",
        "[unused12]",
        "<|reserved_special_token_4|>",
    }
    assert not _rules.Known.of(
        with_added("byte_level_bpe", "<unusual>", "<extra_id_4>")
    ).placeholders


def test_a_template_puts_the_same_tokens_around():
    rules = with_added()
    late = len(_rules.tokens(rules)) - 3
    rules["post_processor"]["single"].append({"SpecialToken": {"id": "<late>", "type_id": 0}})
    rules["post_processor"]["special_tokens"]["<late>"] = {
        "id": "<late>",
        "ids": [late],
        "tokens": ["<late>"],
    }

    made = cut(rules)

    old, new = (Tokenizer.from_str(json.dumps(each)) for each in (rules, made.rules))
    assert [made.old[n] for n in new.encode("a").ids] == old.encode("a").ids
    assert new.encode("a").ids[-1] == _rules.tokens(made.rules)["<late>"] < late
    assert late in _rules.Known.of(rules).named


@pytest.mark.parametrize("kind", ["BertProcessing", "RobertaProcessing"])
def test_two_ends_keep_their_tokens(kind):
    rules = with_added("wordpiece", "<s>", "</s>")
    known = _rules.tokens(rules)
    more = {"trim_offsets": True, "add_prefix_space": False} if kind[0] == "R" else {}
    rules["post_processor"] = {
        "type": kind,
        "sep": ["</s>", known["</s>"]],
        "cls": ["<s>", known["<s>"]],
        **more,
    }

    made = cut(
        {**rules, "post_processor": {"type": "Sequence", "processors": [rules["post_processor"]]}}
    )

    after = _rules.tokens(made.rules)
    (post,) = made.rules["post_processor"]["processors"]
    assert post["sep"] == ["</s>", after["</s>"]]
    assert Tokenizer.from_str(json.dumps(made.rules)).encode("a").ids[0] == after["<s>"]
    assert {known["<s>"], known["</s>"]} <= _rules.Known.of(rules).named


def test_padding_has_the_new_id():
    rules = with_added()
    known = _rules.tokens(rules)
    rules["padding"] = {
        "strategy": {"Fixed": 8},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": known["<late>"],
        "pad_type_id": 0,
        "pad_token": "<late>",
    }

    made = cut(rules)

    assert made.rules["padding"]["pad_id"] == _rules.tokens(made.rules)["<late>"]
    assert known["<late>"] in _rules.Known.of(rules).named


def test_a_post_processor_that_is_not_known_is_one_line():
    rules = {**trimming.rules("unigram"), "post_processor": {"type": "OwnProcessing"}}

    with pytest.raises(BadModel, match="by a OwnProcessing, whose ids cannot be rewritten"):
        _rules.check(rules)


@pytest.mark.parametrize("inside", [False, True])
def test_a_post_processor_with_an_id_of_no_token_is_one_line(inside):
    rules = trimming.rules("unigram")
    post = {"type": "RobertaProcessing", "sep": ["</s>", 99_999], "cls": ["<bos>", 2]}
    post |= {"trim_offsets": True, "add_prefix_space": False}
    rules["post_processor"] = {"type": "Sequence", "processors": [post]} if inside else post

    with pytest.raises(BadModel, match="puts token 99999 around a text, and none has") as found:
        _rules.check(rules, _rules.tokens(rules))

    assert "\n" not in str(found.value)
    right = {**rules, "post_processor": {**post, "sep": ["<eos>", 1]}}
    _rules.check(right, _rules.tokens(right))
