"""Sentences out of a file with a word and its label on a line, and blank lines between sentences.

2 columns   word, label, between them a space or a tab                       MasakhaNER
4 columns   word, part of speech, chunk, label; -DOCSTART- parts documents   CoNLL-2003
5 columns   number, word, label and two unused, between them tabs            Universal NER

Labels are O, B-TYPE and I-TYPE. A line of Universal NER that begins with # says something of the
sentence: `sent_id` is its name.

Tested in tests/text/test_labelled.py.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from babelpress.errors import BadCorpus
from babelpress.text import records

ENDINGS = (".conll", ".iob2", ".iob", ".bio")  # beside .txt
PLACES = {2: (0, 1), 4: (0, 3), 5: (1, 2)}  # of word and label, by the number of columns
LABEL = re.compile(r"O|[BI]-\S+")
BREAK = "-DOCSTART-"
NAME = re.compile(r"# *sent_id *= *(\S+)")


class Sentence(NamedTuple):
    """Words with a label each, the line where they begin, and their name where they have one."""

    line: int
    name: str
    words: tuple[str, ...]
    labels: tuple[str, ...]


def read(path: Path) -> Iterator[Sentence]:
    """The sentences of a file in order.

    Raises BadCorpus naming the line that has another number of columns, or a label that is none.
    """
    name, start = "", 0
    words: list[str] = []
    labels: list[str] = []
    columns = 0
    for number, text in records.lines(path):
        line = text.rstrip("\r\n")
        if not line.strip():
            if words:
                yield Sentence(start, name, tuple(words), tuple(labels))
            name, words, labels = "", [], []
            continue
        parts = line.split("\t") if "\t" in line else re.split(" +", line.strip(" "))
        if _says(line, parts):
            found = NAME.match(line)
            name = found[1] if found else name
            continue
        if parts[0] == BREAK:
            continue
        columns = columns or len(parts)
        word, label = _of(path, number, parts, columns)
        start = start if words else number
        words.append(word)
        labels.append(label)
    if words:
        yield Sentence(start, name, tuple(words), tuple(labels))


def _says(line: str, parts: Sequence[str]) -> bool:
    """Whether a line is about its sentence, and no word of it: words may begin with # too."""
    place = PLACES.get(len(parts))
    return line.startswith("#") and not (place and LABEL.fullmatch(parts[place[1]]))


def _of(path: Path, number: int, parts: Sequence[str], columns: int) -> tuple[str, str]:
    where = f"{path}, line {number}"
    if len(parts) not in PLACES:
        raise BadCorpus(
            f"{where} has {len(parts)} columns. A word and its label have 2 (word, label), 4 as in "
            "CoNLL-2003, or 5 as in Universal NER."
        )
    if len(parts) != columns:
        raise BadCorpus(
            f"{where} has {len(parts)} columns, and the lines before it have {columns}. Give every "
            "word its label."
        )
    word, label = (parts[place] for place in PLACES[columns])
    if not LABEL.fullmatch(label):
        raise BadCorpus(
            f"{where}: the label of '{word}' is '{label}'. It is O, or B- or I- and a type, as "
            "B-PER."
        )
    return word, label
