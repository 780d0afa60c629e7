"""Train the tokenizer of babel-mini-encoder: Unigram pieces, as XLM-R's, on its train text.

    python -m benchmarks.reference.encoder.tokenizer TEXT_FOLDER OUT_FOLDER [VOCABULARY]

Words begin with a mark for the space before them; `<s>` and `</s>` stand around a text, or two.
"""

import sys
from collections.abc import Iterator

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers.decoders import Metaspace
from transformers import PreTrainedTokenizerFast

from babelpress.text.corpus import open_corpus
from babelpress.text.languages import select

LANGUAGES = "am,ha,ig,om,so,sw,yo,zu"
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # in XLM-R's order, but for the mask
POSITIONS = 256


def texts(folder: str) -> Iterator[str]:
    """Every train record of the eight languages, unbalanced."""
    corpus = open_corpus(folder)
    for tag in select(LANGUAGES):
        for document in corpus.documents(tag, "train"):
            yield from document.text.split("\n")


def trained(folder: str, vocabulary: int) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), unk_token="<unk>"
    )
    tokenizer.train_from_iterator(texts(folder), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(name, SPECIAL.index(name)) for name in ("<s>", "</s>")],
    )
    return tokenizer


def main(folder: str, out: str, vocabulary: str = "6144") -> None:
    PreTrainedTokenizerFast(
        tokenizer_object=trained(folder, int(vocabulary)),
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=POSITIONS,
    ).save_pretrained(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
