"""Fertility against counts made by hand."""

import pico
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from babelpress.errors import BadCorpus
from babelpress.text import fertility
from babelpress.text.corpus import Document


def documents(*texts):
    return [Document(f"d{i}", "swh_Latn", "made", "test", text) for i, text in enumerate(texts)]


def words_only(*vocabulary, unknown="?"):
    """A tokenizer of whole words."""
    known = {word: index for index, word in enumerate([unknown, *vocabulary])}
    backend = Tokenizer(models.WordLevel(known, unk_token=unknown))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token=unknown)


def test_a_byte_tokenizer_has_one_token_a_byte_in_any_script():
    found = fertility.measure(pico.tokenizer(), documents("jua kali", "ጤና ይስጥልኝ"), "swh_Latn")

    num_bytes = len(b"jua kali") + len("ጤና ይስጥልኝ".encode())
    assert found.tokens_per_byte == 1.0
    assert found.tokens_per_word == num_bytes / 4
    assert found.unknown == 0.0


def test_ratios_are_of_sums_over_documents_not_means_of_ratios():
    tokenizer = words_only("jua", "kali", "sana")

    found = fertility.measure(tokenizer, documents("jua", "kali sana leo kali"), "swh_Latn")

    assert found.tokens_per_byte == 5 / (3 + 18)
    assert found.tokens_per_word == 1.0
    assert found.unknown == 1 / 5


def test_special_tokens_are_not_counted():
    tokenizer = pico.tokenizer()
    tokenizer.add_bos_token = True

    assert fertility.measure(tokenizer, documents("abc de"), "swh_Latn").tokens_per_word == 3.0


@pytest.mark.parametrize("texts", [(), ("  \n ",)])
def test_no_word_is_an_error_that_names_the_language(texts):
    with pytest.raises(BadCorpus, match="yor_Latn has no word"):
        fertility.measure(pico.tokenizer(), documents(*texts), "yor_Latn")


def test_a_tokenizer_that_drops_everything_is_an_error_that_names_the_language():
    blind = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0}, [])))

    with pytest.raises(BadCorpus, match="drops every character of tha_Thai"):
        fertility.measure(blind, documents("สวัสดี"), "tha_Thai")
