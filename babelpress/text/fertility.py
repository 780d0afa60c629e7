"""How many tokens a tokenizer needs for a language: fertility per byte and per word.

A word is what white space divides, so tokens per word mean nothing for scripts written without
spaces (Thai, Chinese, Japanese): compare bytes there. Read fertility with the share of unknown
tokens beside it: a vocabulary that lacks a script is short, and blind.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from babelpress.errors import BadCorpus
from babelpress.models.tokenizers import Tokenizer, encode
from babelpress.text.corpus import Document


@dataclass(frozen=True, slots=True)
class Fertility:
    """Ratios of sums over documents; `unknown` is a share of tokens."""

    tokens_per_byte: float
    tokens_per_word: float
    unknown: float


def measure(tokenizer: Tokenizer, documents: Sequence[Document], language: str) -> Fertility:
    """Fertility on these documents, without special tokens.

    Raises BadCorpus, naming the language, where they hold no word or the tokenizer sees none of it.
    """
    texts = [document.text for document in documents]
    words = sum(len(text.split()) for text in texts)
    if not words:
        raise BadCorpus(
            f"{language} has no word to measure fertility on. Add text to its test split, or leave "
            "the language out."
        )
    encoded = encode(tokenizer, texts)["input_ids"]
    tokens = sum(map(len, encoded))
    if not tokens:
        raise BadCorpus(
            f"the tokenizer drops every character of {language}. Leave the language out, or take a "
            "model that was made for it."
        )
    unknown = sum(ids.count(tokenizer.unk_token_id) for ids in encoded)
    return Fertility(
        tokens / sum(len(text.encode()) for text in texts), tokens / words, unknown / tokens
    )
