"""Vocabularies for GGUF, and the names for ways to cut text."""

import json

import pico
import pytest
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import AddedToken, PreTrainedTokenizerFast

from babelpress.errors import BadModel
from babelpress.export._gguf_tokens import CONTROL, NORMAL, UNUSED, USER_DEFINED, vocabulary
from babelpress.models import gguf_splits as splits
from babelpress.models.names import EMBEDDED
from babelpress.models.open import open_model

MERGES = [("j", "u"), ("y", "a"), ("ju", "u"), ("Ġ", "ya")]
FIRST = 3  # after <bos>, <eos> and <pad>


def tokenizer(*cuts, merges=MERGES, ignore_merges=False, whole=(), normalizer=None, around=None):
    """A byte-level BPE with a few merges; `whole` are tokens that no merging makes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*pico.SPECIAL, *alphabet, *(a + b for a, b in merges), *whole]
    backend = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=merges,
            ignore_merges=ignore_merges,
        )
    )
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*cuts, bytes_only])
    backend.decoder = decoders.ByteLevel()
    if normalizer is not None:
        backend.normalizer = normalizer
    if around is not None:
        ids = [(token, tokens.index(token)) for token in pico.SPECIAL]
        backend.post_processor = processors.TemplateProcessing(single=around, special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )


def split(regex):
    return pre_tokenizers.Split(Regex(regex), "isolated")


def rules(made):
    return json.loads(made.backend_tokenizer.to_str())


def test_tokens_types_and_merges_are_in_the_order_of_ids():
    made = tokenizer(split(splits.GPT2))
    made.add_tokens([AddedToken("juu ya", special=False)])
    size = len(made)

    found = vocabulary(made, size + 2, "")

    assert found.tokens[:4] == ["<bos>", "<eos>", "<pad>", "!"]
    assert found.tokens[size - 5 : size] == ["ju", "ya", "juu", "Ġya", "juu ya"]
    assert found.types[:FIRST] == [CONTROL] * FIRST
    assert set(found.types[FIRST : size - 1]) == {NORMAL}
    assert found.types[size - 1 :] == [USER_DEFINED, UNUSED, UNUSED]
    assert len(set(found.tokens)) == size + 2
    assert found.merges == ["j u", "y a", "ju u", "Ġ ya"]
    assert found.special == {"bos": 0, "eos": 1, "pad": 2}
    assert found.pre == "gpt-2"


@pytest.mark.parametrize(
    ("around", "expected"),
    [
        (None, (False, False)),
        ("<bos> $A", (True, False)),
        ("$A <eos>", (False, True)),
        ("<bos> $A <eos>", (True, True)),
    ],
)
def test_bos_and_eos_are_added_where_the_tokenizer_adds_them(around, expected):
    made = tokenizer(split(splits.GPT2), around=around)

    found = vocabulary(made, len(made), "")

    assert (found.add_bos, found.add_eos) == expected


@pytest.mark.parametrize(
    ("around", "expected"),
    [
        ("<bos> $A <eos>", []),
        ("<bos> <pad> $A <eos>", ["<pad>"]),
        ("<pad> $A <pad>", ["<pad>", "<pad>"]),
        ("<eos> $A <bos>", ["<eos>", "<bos>"]),
    ],
)
def test_what_else_comes_around_a_text_is_told(around, expected):
    made = tokenizer(split(splits.GPT2), around=around)

    assert vocabulary(made, len(made), "").around == expected


def test_a_normalizer_and_a_chat_template_are_told():
    made = tokenizer(split(splits.QWEN2), normalizer=normalizers.NFC())
    made.chat_template = "{{ messages }}"

    found = vocabulary(made, len(made), "")

    assert (found.pre, found.normalizer) == ("qwen2", "NFC")
    assert found.template == "{{ messages }}"


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused():
    made = tokenizer(split(splits.GPT2))

    with pytest.raises(BadModel, match=f"has {len(made) - 1} embeddings"):
        vocabulary(made, len(made) - 1, "")


def test_a_mark_without_an_embedding_is_left_out_but_not_bos():
    made = tokenizer(split(splits.GPT2))
    rows = len(made)
    made.add_special_tokens({"pad_token": "[PAD]"})

    found = vocabulary(made, rows, "")

    assert found.left_out == ["[PAD]"] and len(found.tokens) == len(found.types) == rows
    assert found.special == {"bos": 0, "eos": 1}
    for change in (lambda: made.add_special_tokens({"bos_token": "[BOS]"}), made_word(made)):
        change()
        with pytest.raises(BadModel, match=f"has {rows} embeddings"):
            vocabulary(made, rows, "")
        made.bos_token = "<bos>"


def made_word(made):
    return lambda: made.add_tokens([AddedToken("juu ya", special=False)])


def test_what_is_no_byte_level_bpe_is_refused():
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.5)], unk_id=0))
    characters = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))

    for backend, words in ((unigram, "is Unigram"), (characters, "is BPE on characters")):
        made = PreTrainedTokenizerFast(tokenizer_object=backend)
        with pytest.raises(BadModel, match=words):
            vocabulary(made, 300, "")


def test_a_vocabulary_without_merges_is_refused():
    with pytest.raises(BadModel, match="no merges"):
        vocabulary(pico.tokenizer(), pico.VOCABULARY, "gpt-2")


def test_babel_mini_gets_the_name_that_keeps_marks_with_their_letters():
    made = open_model(EMBEDDED).tokenizer

    assert rules(made)["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] == splits.GPT4O
    assert vocabulary(made, 8192, "").pre == "granite-embed-multi-97m"
    assert vocabulary(made, 8192, "gpt-4o").pre == "gpt-4o"


@pytest.mark.parametrize(
    ("cuts", "name"),
    [
        ([pre_tokenizers.ByteLevel(add_prefix_space=False)], "gpt-2"),
        ([pre_tokenizers.Digits(True), split(splits.GPT2)], "smollm"),
        ([split(r"\p{N}"), split(splits.GPT2)], "smollm"),
        ([split(splits.LLAMA3)], "llama-bpe"),
        ([split(splits.QWEN35)], "qwen35"),
        ([pre_tokenizers.Split(Regex(splits.QWEN2), "removed", invert=True)], "qwen2"),
    ],
)
def test_a_way_to_cut_text_is_found_by_its_regexes(cuts, name):
    assert splits.find(rules(tokenizer(*cuts))) == name


def test_whole_words_are_taken_only_where_that_changes_nothing():
    reached, unreached = (
        tokenizer(split(splits.LLAMA3)),
        tokenizer(split(splits.LLAMA3), whole=["ndege"]),
    )

    assert splits.find(rules(reached)) == "llama-bpe"
    assert splits.find(rules(unreached)) == "smaug-bpe"


def test_a_tokenizer_that_takes_whole_words_keeps_doing_so():
    made = tokenizer(split(splits.LLAMA3), whole=["ndege"], ignore_merges=True)
    other = tokenizer(split(splits.QWEN2), whole=["ndege"], ignore_merges=True)

    assert splits.find(rules(made)) == "llama-bpe"
    with pytest.raises(BadModel, match="--option pre=NAME"):
        splits.find(rules(other))


@pytest.mark.parametrize(
    "cut",
    [
        split(r"\w+|\s+"),
        pre_tokenizers.Metaspace(),
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.Split(Regex(splits.QWEN2), "merged_with_next"),
    ],
)
def test_a_way_that_has_no_name_is_refused_but_can_be_given(cut):
    made = tokenizer(cut)

    with pytest.raises(BadModel, match="--option pre=NAME"):
        vocabulary(made, len(made), "")
    assert vocabulary(made, len(made), "mpt").pre == "mpt"


def test_no_cut_at_all_has_no_name():
    with pytest.raises(BadModel, match="no regex at all"):
        splits.find(rules(tokenizer()))


def test_only_two_names_are_known_to_cut_at_marks():
    assert [pre.name for pre in splits.KNOWN if splits.cuts_marks(pre.name)] == ["gpt-4o", "tekken"]
    assert not splits.cuts_marks("mpt")
