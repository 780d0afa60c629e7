"""Scores in the place of merges, and SentencePiece tokenizers that no scores stand for."""

import copy

import pytest
import trimming

from babelpress.errors import BadModel, BadSetting
from babelpress.export import _gguf_pieces as pieces
from babelpress.export._gguf_tokens import vocabulary
from babelpress.models.gguf_tokens import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED


def rules(**model):
    made = copy.deepcopy(trimming.rules("sentencepiece_bpe"))
    made["model"] |= model
    return made


def tokens_of(made):
    return sorted(made["model"]["vocab"], key=made["model"]["vocab"].get)


def test_scores_are_in_the_order_of_merges():
    made = rules()
    tokens = tokens_of(made)
    found = dict(zip(tokens, pieces.scores(made, tokens, [NORMAL] * len(tokens)), strict=True))

    order = list(dict.fromkeys(a + b for a, b in made["model"]["merges"]))
    assert [found[each] for each in order] == [-float(place) for place in range(len(order))]
    others = [each for each in tokens if each not in set(order)]
    assert max(found[each] for each in others) < min(found[each] for each in order)


def test_bytes_and_the_unknown_token_have_types_of_their_own():
    found = vocabulary(trimming.tokenizer("sentencepiece_bpe"), 956, "")
    types = dict(zip(found.tokens, found.types, strict=True))

    assert types["<0x41>"] == BYTE
    assert types["<unk>"] == UNKNOWN
    assert types["<bos>"] == CONTROL
    assert types["a"] == NORMAL
    assert (found.pre, found.kind, found.merges) == ("default", "llama", [])
    assert found.add_bos and found.add_eos


def test_a_run_of_spaces_is_printed_as_spaces():
    made = rules()
    made["model"]["merges"].insert(0, ["▁", "▁"])
    before = [USER_DEFINED, USER_DEFINED, NORMAL]

    found = pieces.types(made, ["▁▁", "▁x▁", "a"], before)

    assert found == [NORMAL, USER_DEFINED, NORMAL]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda merges: merges[:-1], "never merges"),
        (lambda merges: [*merges, merges[0]], "before and after"),
    ],
)
def test_merges_that_no_scores_stand_for_are_one_line(change, words):
    made = rules()
    made["model"]["merges"] = change(made["model"]["merges"])
    tokens = tokens_of(made)

    with pytest.raises(BadModel, match=words):
        pieces.scores(made, tokens, [NORMAL] * len(tokens))


@pytest.mark.parametrize(
    ("part", "before", "left_out"),
    [
        ({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, False, None),
        ({"type": "Prepend", "prepend": "▁"}, True, None),
        ({"type": "NFKC"}, False, "NFKC"),
        (
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False},
            True,
            None,
        ),
        (
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True},
            False,
            "Metaspace",
        ),
    ],
)
def test_what_is_done_before_pieces_is_known(part, before, left_out):
    escape = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    made = rules() | {"pre_tokenizer": None}
    made["model"]["vocab"]["a▁b"] = 9999  # a piece across words
    made["normalizer"] = {"type": "Sequence", "normalizers": [part, escape]}

    assert pieces.fits(made)
    assert pieces.space_before(made) == before
    assert pieces.left_out(made) == left_out


@pytest.mark.parametrize(
    "made",
    [
        rules(byte_fallback=False),
        rules() | {"normalizer": None, "pre_tokenizer": None},
        rules(vocab={"a": 0}),
        trimming.rules("byte_level_bpe"),
        trimming.rules("unigram"),
    ],
)
def test_other_tokenizers_are_none_of_this_kind(made):
    assert not pieces.fits(made)


def test_a_way_to_cut_words_has_no_effect():
    with pytest.raises(BadSetting, match="pre=gpt-2 has no effect"):
        vocabulary(trimming.tokenizer("sentencepiece_bpe"), 956, "gpt-2")
