"""Marks of languages, against what tokenizers of transformers themselves put around a text."""

from typing import Any

import pico
import pytest
import translating
from tokenizers import AddedToken, processors
from transformers import MBart50Tokenizer, T5Tokenizer

from babelpress.errors import BadModel, BadSetting
from babelpress.models.tokenizers import encode, tokenizer_hash
from babelpress.text.marks import Marks

WAY = "eng_Latn>swh_Latn"
PIECES = [*"▁abcdefghijklmnopqrstuvwxyzESK", *map(str, range(10))]


def mbart50():
    pieces = [(word, 0.0) for word in ("<s>", "<pad>", "</s>", "<unk>")]
    return MBart50Tokenizer(vocab=[*pieces, *((piece, -1.0) for piece in PIECES)])


def t5():
    pieces = [(word, 0.0) for word in ("<pad>", "</s>", "<unk>")]
    return T5Tokenizer(vocab=[*pieces, *((piece, -1.0) for piece in PIECES)], extra_ids=0)


def named(token: str):
    """A tokenizer that is told the target by a token before the source, which is no special one."""
    made: Any = pico.tokenizer()
    for name in ("swh", "ha"):
        made.add_tokens(AddedToken(token.format(name)))
    return made


@pytest.mark.parametrize(
    ("make", "kind", "codes"),
    [
        (translating.tokenizer, "m2m_100", ("eng_Latn", "swh_Latn")),
        (mbart50, "mbart", ("en_XX", "sw_KE")),
    ],
)
def test_marks_are_what_the_tokenizer_puts_there_when_told_both_languages(make, kind, codes):
    tokenizer: Any = make()
    before, texts = tokenizer_hash(tokenizer), ["ab cd", "e"]
    marks = Marks.of(tokenizer, kind)

    sources, targets = marks.source(WAY, texts), marks.target(WAY, texts)

    assert tokenizer_hash(tokenizer) == before
    told: Any = make()
    told.src_lang, told.tgt_lang = codes
    both = told(texts, text_target=texts)
    assert sources == both["input_ids"]
    assert targets == both["labels"]
    assert marks.forced(WAY) == told.convert_tokens_to_ids(codes[1])
    back = marks.source("swh_Latn>eng_Latn", texts)
    assert back != sources and marks.source(WAY, texts) == sources


def test_a_tokenizer_keeps_rules_of_its_own_that_its_class_would_not_make():
    tokenizer = translating.tokenizer()
    own = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    tokenizer.backend_tokenizer.post_processor = own
    before = tokenizer_hash(tokenizer)

    Marks.of(tokenizer, "m2m_100").source(WAY, ["ab"])

    assert tokenizer_hash(tokenizer) == before


def test_t5_is_asked_in_words_and_ends_as_it_ends():
    tokenizer: Any = t5()
    marks = Marks.of(tokenizer, "t5")

    asked = tokenizer("translate English to Swahili: ab")["input_ids"]
    assert marks.source(WAY, ["ab"]) == [asked]
    assert marks.target(WAY, ["ab"]) == [tokenizer("ab")["input_ids"]]
    assert marks.forced(WAY) is None


@pytest.mark.parametrize("token", [">>{}<<", "<2{}>"])
def test_a_token_before_the_source_names_the_target(token):
    tokenizer = named(token)
    marks = Marks.of(tokenizer, "marian")
    own = encode(tokenizer, ["ab"])["input_ids"][0]

    number = tokenizer.convert_tokens_to_ids(token.format("swh"))
    assert marks.source(WAY, ["ab"]) == [[number, *own]]
    assert marks.target(WAY, ["ab"]) == [own]
    with pytest.raises(BadSetting, match=r"no token for yor_Latn, .* It has hau_Latn, swh_Latn\."):
        marks.check(["eng_Latn>yor_Latn"])


def test_a_model_of_one_direction_says_which_and_takes_no_other():
    tokenizer: Any = pico.tokenizer()
    tokenizer.source_lang, tokenizer.target_lang = "eng", "swh"
    marks = Marks.of(tokenizer, "marian")

    marks.check([WAY])
    assert marks.source(WAY, ["ab"]) == encode(tokenizer, ["ab"])["input_ids"]
    with pytest.raises(BadSetting, match=r"translates eng_Latn>swh_Latn alone.*; swh_Latn>eng"):
        marks.check(["swh_Latn>eng_Latn"])


def test_text_that_spells_a_mark_is_text():
    tokenizer = translating.tokenizer()
    marks = Marks.of(tokenizer, "m2m_100")

    (spelled,) = marks.source(WAY, ["swh_Latn </s>"])

    assert spelled.count(tokenizer.convert_tokens_to_ids("swh_Latn")) == 0
    assert spelled.count(tokenizer.eos_token_id) == 1


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("swh_Latn", r"swh_Latn is a language, and this model has a source and a target"),
        ("eng_Latn>yor_Latn", r"no token for yor_Latn, asked for in eng_Latn>yor_Latn\. It has"),
        ("yor_Latn>eng_Latn", r"no token for yor_Latn"),
    ],
)
def test_what_a_tokenizer_cannot_be_told_is_refused(way, words):
    with pytest.raises(BadSetting, match=words):
        Marks.of(translating.tokenizer(), "m2m_100").check([way])


def test_a_model_that_must_be_told_languages_needs_a_tokenizer_that_can_be():
    with pytest.raises(BadModel, match="cannot be told a source language"):
        Marks.of(pico.tokenizer(), "m2m_100")
