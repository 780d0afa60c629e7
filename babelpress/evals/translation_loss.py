"""Translation loss: bits per byte of a translation, given the sentence that it is of.

The decoder of an encoder-decoder is shown the reference up to each token and has to predict that
token; the negative log-likelihoods of the tokens of the text, in bits, are divided by the UTF-8
bytes of the text, by direction of translation (eng_Latn>swh_Latn). Marks, those of languages and of
the end among them, carry no bytes and are not scored. So it is bits_per_byte with a source, and one
model can be compared with another that was made of it, direction by direction, without a
translation being written.

Sentences are read one by one, each beside the record of equal id in the other language, both of the
test split; a document is all pairs of equal `doc`. By default languages are scored out of English
and into it; --languages 'sw>ha' names another direction.

Shapes: D documents.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadCorpus, BadModel
from babelpress.evals._targets import nats_of
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent
from babelpress.text.corpus import Corpus, Sentence, open_corpus
from babelpress.text.languages import sides
from babelpress.text.translations import Ways

METRIC = "translation_bits_per_byte"
SPOKEN = "bits per byte of the translation"
LOWER_IS_BETTER = True
PAIRED = "only"


@dataclass(frozen=True, slots=True)
class PairedText:
    """The sentences of one document and their translations: (source, target) texts."""

    id: str
    pairs: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """Both sides of all pairs: with another source a score is another one."""
        return "\n".join(f"{source}\n{target}" for source, target in self.pairs)


class Directions:
    """The pairs of a corpus by direction of translation."""

    def __init__(self, corpus: Corpus):
        self._corpus = corpus
        self._read: dict[str, dict[str, Sentence]] = {}

    @property
    def name(self) -> str:
        """How the corpus was asked for."""
        return self._corpus.name

    def says(self) -> tuple[str, ...]:
        """A sentence about what lies here and is not read; none where all is."""
        return self._corpus.says()

    def languages(self) -> list[str]:
        """The directions with English. Raises BadCorpus for a corpus without it."""
        return Ways(self._corpus).languages()

    def require(self, tags: Iterable[str]) -> None:
        """Raise BadCorpus for a language without a file, or one that is no direction."""
        for way in tags:
            if len(sides(way)) == 1:
                raise BadCorpus(
                    f"{way} is a language, and translation_loss scores directions. Write "
                    f"--languages '{way}>LANG'."
                )
            self._corpus.require(sides(way))

    def documents(self, tag: str, split: str) -> list[PairedText]:
        """The documents of a direction that have pairs, in the order of the target's file.

        Raises BadCorpus where no sentence of the split has an id that the other language has.
        """
        self.require([tag])
        source, target = sides(tag)
        read, grouped = self._sentences(source, split), {}
        for name, each in self._sentences(target, split).items():
            if name in read:
                grouped.setdefault(each.document, []).append((read[name].text, each.text))
        if not grouped:
            raise BadCorpus(
                f"{self.name} has no sentence of its {split} split with one id in {source} and "
                f"{target}. Name a parallel corpus, such as FLORES, or leave {tag} out."
            )
        return [PairedText(name, tuple(pairs)) for name, pairs in grouped.items()]

    def _sentences(self, tag: str, split: str) -> dict[str, Sentence]:
        """The sentences of a language by id; of several with one id the first."""
        if tag not in self._read:
            found: dict[str, Sentence] = {}
            for each in self._corpus.sentences(tag):
                if each.id:
                    found.setdefault(each.id, each)
            self._read[tag] = found
        return {name: each for name, each in self._read[tag].items() if each.split == split}


def texts(corpus: str) -> Directions:
    """Pairs of the test split of a corpus, by direction of translation."""
    return Directions(open_corpus(corpus))


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[PairedText]],
    *,
    window: int,
    memory_mb: int = 256,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of bits over bytes per direction.

    `window` is how many tokens a side may have. Logits take at most `memory_mb` (2^20 bytes), but
    one pair is always read. Raises BadModel for what is no encoder-decoder, BadSetting for a
    direction that the tokenizer has no token for or a sentence that does not fit, NotFinite naming
    the document.
    """
    if not model.config.is_encoder_decoder:
        raise BadModel(
            f"{model.config.model_type} is no encoder-decoder, whose translations are scored by "
            "translation_loss. Score it with --on bits_per_byte, or --on translate."
        )
    nats = nats_of(
        model,
        tokenizer,
        documents,
        window=window,
        what="translation_loss",
        memory_mb=memory_mb,
        progress=progress,
    )
    return {way: _tally(documents[way], nats_D) for way, nats_D in nats.items()}


def _tally(documents: Sequence[PairedText], nats_D: np.ndarray) -> Tally:
    names = tuple(each.id for each in documents)
    sizes = [sum(len(target.encode()) for _, target in each.pairs) for each in documents]
    return Tally(names, nats_D / math.log(2), np.array(sizes, dtype=float))
