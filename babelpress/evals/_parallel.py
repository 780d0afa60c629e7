"""Sentences of a language beside the same sentences in English.

Records of equal src and id have equal content (text/corpus.py); a record without an id, or whose id
English lacks, has no counterpart and is left out. Pairs go by document as all text does, so that a
bootstrap over documents never parts the sentences of one.

Some pairs may be set aside as examples: the first of the train split, else, where that has none
(FLORES is wholly test), the first of the test split, which then are not scored. As many are set
aside whatever number is used, so that scores with one and with four examples are of the same
sentences.

Tested in tests/evals/test_translate.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from babelpress.errors import BadCorpus
from babelpress.text.corpus import Corpus, Sentence, open_corpus
from babelpress.text.languages import ENGLISH


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence in a language, and in English."""

    id: str
    text: str
    english: str


@dataclass(frozen=True, slots=True)
class PairedDocument:
    """The pairs of one document; `examples` are of the whole language, and scored nowhere."""

    id: str
    pairs: tuple[Pair, ...]
    examples: tuple[Pair, ...] = ()

    @property
    def text(self) -> str:
        """Both sides of all, examples first: with others a score is another one."""
        return "\n".join(f"{each.text}\n{each.english}" for each in (*self.examples, *self.pairs))


class Parallel:
    """A corpus as pairs with English; `examples` pairs a language are set aside."""

    def __init__(self, corpus: Corpus, examples: int = 0):
        self._corpus = corpus
        self._examples = examples
        self._english: dict[str, Sentence] = {}

    @property
    def name(self) -> str:
        """How the corpus was asked for."""
        return self._corpus.name

    def says(self) -> tuple[str, ...]:
        """A sentence about what lies here and is not read; none where all is."""
        return self._corpus.says()

    def languages(self) -> list[str]:
        """All languages but English, which is the other side of every pair."""
        return [tag for tag in self._corpus.languages() if tag != ENGLISH]

    def require(self, tags: Iterable[str]) -> None:
        """Raises BadCorpus for English, for a language without a file, or without English."""
        wanted = list(tags)
        if ENGLISH not in self._corpus.languages():
            raise BadCorpus(
                f"{self.name} has no English (eng_Latn), which every other language is paired "
                "with. Add its file, with the ids of the others, or name another corpus."
            )
        if ENGLISH in wanted:
            raise BadCorpus(
                "English is the other side of every pair, so it has no score of its own here. "
                "Name other languages with --languages."
            )
        self._corpus.require(wanted)

    def documents(self, tag: str, split: str) -> list[PairedDocument]:
        """The documents of a language that have pairs, in the order of its file.

        Raises BadCorpus where no sentence of the split has the id of an English one, or all that
        have are set aside.
        """
        self.require([tag])
        pairs: dict[str, list[tuple[str, Pair]]] = {}
        for mine in self._corpus.sentences(tag):
            theirs = self._of_english().get(mine.id) if mine.id else None
            if theirs is not None and theirs.split == mine.split:
                pair = Pair(mine.id, mine.text, theirs.text)
                pairs.setdefault(mine.split, []).append((mine.document, pair))
        kept = pairs.get(split, [])
        aside = [pair for _, pair in pairs.get("train", kept)[: self._examples]]
        left = [(document, pair) for document, pair in kept if pair not in aside]
        if not left:
            raise _too_few(self.name, tag, split, len(kept))
        grouped: dict[str, list[Pair]] = {}
        for document, pair in left:
            grouped.setdefault(document, []).append(pair)
        return [PairedDocument(id, tuple(some), tuple(aside)) for id, some in grouped.items()]

    def _of_english(self) -> dict[str, Sentence]:
        """English sentences by id; of several with one id the first."""
        if not self._english:
            for each in self._corpus.sentences(ENGLISH):
                if each.id:
                    self._english.setdefault(each.id, each)
        return self._english


def open_parallel(corpus: str, examples: int = 0) -> Parallel:
    """Open a corpus as pairs, without reading its text yet. Raises as `open_corpus`."""
    return Parallel(open_corpus(corpus), examples)


def _too_few(name: str, tag: str, split: str, there: int) -> BadCorpus:
    if there:
        return BadCorpus(
            f"{name} has {there} sentences in {tag} with the id of an English one, and all are "
            "taken as examples. Name a corpus with more, or one that has them in its train split."
        )
    return BadCorpus(
        f"{name} has no sentence of its {split} split in {tag} with the id of an English one. "
        f"Name a parallel corpus, such as FLORES (--corpus 'FOLDER?src=flores'), or leave it out."
    )
