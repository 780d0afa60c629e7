"""The train sentences of a language by id, to be paired with those of another that have equal ids.

Tested in tests/text/test_demonstrations.py and tests/text/test_translations.py.
"""

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256

from babelpress.text.audit import Finding, in_both, missing, several_names, shared
from babelpress.text.corpus import Corpus, Sentence, documents_of
from babelpress.text.sameness import keys


@dataclass(frozen=True, slots=True)
class Side:
    """The train sentences of a language by id, without those whose lines are test text.

    `records` counts those that are left, and those among them that have no id or one that an
    earlier one has.
    """

    language: str
    sentences: dict[str, Sentence]
    records: int
    findings: list[Finding]

    @classmethod
    def of(cls, corpus: Corpus, tag: str, evaluation: Corpus | None) -> "Side":
        sentences = list(corpus.sentences(tag))
        own = documents_of(tag, sentences)
        train, test = (own.get(split, []) for split in ("train", "test"))
        if evaluation is not None:
            test = evaluation.documents(tag, "test") if tag in evaluation.languages() else []
        heldout = {each for document in test for each in keys(document.text)}
        found: dict[str, Sentence] = {}
        records = 0
        dropped: Counter[str] = Counter()
        for each in sentences:
            if each.split != "train":
                continue
            known = sum(line in heldout for line in keys(each.text))
            dropped[each.document] += known
            records += not known
            if each.id and not known:
                found.setdefault(each.id, each)
        findings = [
            *([] if train else [missing(corpus, tag)]),
            *several_names(tag, corpus.names_of(tag)),
            *shared(tag, train, test, "warning" if evaluation is None else "error"),
            *in_both(tag, dropped),
        ]
        return cls(tag, found, records, findings)


def order(name: str, seed: int) -> bytes:
    """Where a sentence stands by its id: in every language the same ones come first."""
    return sha256(f"{seed}\n{name}".encode()).digest()
