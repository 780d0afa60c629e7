"""Train babel-mini's tokenizer: byte-level BPE on the train text of all languages, unbalanced.

    python benchmarks/reference/tokenizer.py TEXT_FOLDER OUT.json [VOCABULARY]

The pre-tokenizer is the pattern that llama.cpp knows as `gpt-4o`: it keeps combining marks with
their letters, so a Devanagari or Thai syllable is not cut at its vowel sign.
"""

import sys
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from babelpress.text.corpus import open_corpus

SPECIAL = ["<|bos|>", "<|eos|>", "<|pad|>"]
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CLITIC = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERN = "|".join(
    [
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CLITIC}",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CLITIC}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)


def texts(folder: str) -> Iterator[str]:
    """Every train record of every language, one line each."""
    corpus = open_corpus(folder)
    for language in corpus.languages():
        for document in corpus.documents(language, "train"):
            yield from document.text.split("\n")


def main(folder: str, out: str, vocabulary: str = "8192") -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=int(vocabulary),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts(folder), trainer)
    tokenizer.save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
