"""The pairs that babel-mini-mt learns from: train sentences of equal ids in a language and English.

    python -m benchmarks.reference.mt.pairs TEXT_FOLDER [LANGUAGES]

tells how many pairs every language has, by source. A sentence whose line stands in the test split
of FLORES is left out, in either language; so are the books of the Old Testament, whose verses are
numbered differently by tradition.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from babelpress.text.corpus import open_corpus
from babelpress.text.languages import ENGLISH, select
from babelpress.text.pairing import Side

LANGUAGES = "es,it,pt,fr,ru,ar,sw,de,so,ha"  # by how many pairs they have, the most first
HELD_OUT = "?src=flores"
NEW_TESTAMENT = (
    *("MAT", "MRK", "LUK", "JHN", "ACT", "ROM", "1CO", "2CO", "GAL", "EPH", "PHP", "COL", "1TH"),
    *("2TH", "1TI", "2TI", "TIT", "PHM", "HEB", "JAS", "1PE", "2PE", "1JN", "2JN", "3JN", "JUD"),
    "REV",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence in English and in the language itself."""

    src: str
    english: str
    own: str


def pairs_of(folder: str, tags: Sequence[str]) -> dict[str, list[Pair]]:
    """The pairs of every language with English, in the order of its file."""
    corpus, heldout = open_corpus(folder), open_corpus(folder + HELD_OUT)
    english = Side.of(corpus, ENGLISH, heldout).sentences
    found: dict[str, list[Pair]] = {}
    for tag in tags:
        own = Side.of(corpus, tag, heldout).sentences
        found[tag] = [
            Pair(each.src, english[name].text, each.text)
            for name, each in own.items()
            if name in english and (each.src != "bible" or _book(each.document) in NEW_TESTAMENT)
        ]
    return found


def _book(document: str) -> str:
    """The book of a document of scripture, as MRK of bible/MRK."""
    return document.rpartition("/")[2]


def main(folder: str, tags: str = LANGUAGES) -> None:
    for tag, some in pairs_of(folder, select(tags)).items():
        sources = Counter(each.src for each in some)
        said = ", ".join(f"{name} {number:,}" for name, number in sources.most_common())
        print(f"{tag}: {len(some):,} pairs ({said})")


if __name__ == "__main__":
    main(*sys.argv[1:])
