"""Train the tokenizer of babel-mini-mt: BPE pieces and one token a language, as NLLB's has them.

    python -m benchmarks.reference.mt.tokenizer TEXT_FOLDER OUT_FOLDER [VOCABULARY]

It reads the train pairs that the model is trained on (pairs.py), the English of each language
anew: so half of what it learns is English, and half the others. A language's token, as `swh_Latn`,
stands before what is read in it and before what is written in it.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import NllbTokenizer

from babelpress.text.languages import ENGLISH, select
from benchmarks.reference.mt.pairs import LANGUAGES, Pair, pairs_of

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # in NLLB's order
POSITIONS = 512


def texts(pairs: dict[str, list[Pair]]) -> Iterator[str]:
    """Both sides of every pair."""
    for some in pairs.values():
        for each in some:
            yield from (each.english, each.own)


def trained(pairs: dict[str, list[Pair]], vocabulary: int) -> NllbTokenizer:
    """A tokenizer of so many tokens; those of languages and the mask are among them."""
    codes = [ENGLISH, *pairs]
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    # Apart only while pieces are learnt: then none joins a letter and a full stop.
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(codes) - 1, special_tokens=list(SPECIAL), show_progress=False
    )
    learner.train_from_iterator(texts(pairs), trainer)
    learnt = json.loads(learner.to_str())["model"]
    merges: Any = [tuple(each) for each in learnt["merges"]]  # as `tokenizers` takes them
    return NllbTokenizer(
        vocab=learnt["vocab"],
        merges=merges,
        additional_special_tokens=codes,
        src_lang=ENGLISH,
        model_max_length=POSITIONS,
    )


def main(folder: str, out: str, vocabulary: str = "8192") -> None:
    tokenizer = trained(pairs_of(folder, select(LANGUAGES)), int(vocabulary))
    tokenizer.save_pretrained(out)
    print(len(tokenizer), "tokens in", out)


if __name__ == "__main__":
    main(*sys.argv[1:])
