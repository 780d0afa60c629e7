"""Labelled text of a task by language: what encoders are fine-tuned on and scored with.

ner         names in sentences    a word and its label on a line (conll.py), or `tokens`, `ner_tags`
topic       the topic of a text   `category`, `text`; `index_id` names the text in every language
sentiment   the feeling of one    `tweet`, `label`

Tables are .tsv, .csv, .jsonl or .parquet. Columns are those of MasakhaNER 2.0 (Adelani et al. 2022,
arXiv:2210.12391), Universal NER (Mayhew et al. 2024, arXiv:2311.09122), SIB-200 (Adelani et al.
2023, arXiv:2309.07445) and AfriSenti (Muhammad et al. 2023, arXiv:2302.08956), in folders and on
the hub; labels may be numbers there, whose names the parquet files say. A folder or hub:ID is laid
out as a corpus is (paths.py), and its paths say the split: train, dev, test. Train is read of files
that say so and of no others. A language with no dev file has a tenth of its train texts for it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from babelpress.errors import BadCorpus, UnknownName
from babelpress.system.files import sha256_text
from babelpress.text import conll, folders, languages, readers, records
from babelpress.text.readers import HubFiles, LeftOut, LocalFiles, listed

SIB200 = (
    *("science/technology", "travel", "politics", "sports", "health", "entertainment"),
    "geography",
)
AFRISENTI = ("positive", "neutral", "negative")
MASAKHANER = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-DATE", "I-DATE")
OUTSIDE = "O"  # the label of a word that is in no name
SENTENCES = (".txt", *conll.ENDINGS)
TENTH = 10
Source = LocalFiles | HubFiles


@dataclass(frozen=True, slots=True)
class Task:
    """A task: its data set on the hub, its columns, the labels that it has there.

    `text` is the column with the text, or its words, `label` that of its label, or theirs, `name`
    one that names the text alike in all languages, where rows have it. Other data may have other
    labels.
    """

    hub: str
    text: str
    label: str
    labels: tuple[str, ...]
    name: str = ""
    by_word: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a table must have."""
        return (self.text, self.label)


TASKS = {
    "ner": Task(
        "masakhane/masakhaner2@refs/convert/parquet", "tokens", "ner_tags", MASAKHANER, by_word=True
    ),
    "topic": Task(
        "Davlan/sib200@refs/convert/parquet", "text", "category", SIB200, name="index_id"
    ),
    "sentiment": Task("masakhane/afrisenti@refs/convert/parquet", "tweet", "label", AFRISENTI),
}


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and its label, or the words of a sentence and theirs; the id is its own."""

    id: str
    words: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def text(self) -> str:
        """All that a score depends on."""
        both = zip(self.words, self.labels, strict=True)
        return "\n".join(f"{word}\t{label}" for word, label in both)


def find(name: str) -> Task:
    """The task of this name. Raises UnknownName."""
    if name not in TASKS:
        raise UnknownName("task", name, TASKS, "babelpress/text/labelled.py")
    return TASKS[name]


def in_order(task: str, labels: Iterable[str]) -> tuple[str, ...]:
    """Labels as a head has them: those of the task where these are all of them, else sorted.

    Of names O comes first, and every type has B- and I-.
    """
    there = set(labels)
    known = find(task)
    if there <= set(known.labels):
        return known.labels
    if not known.by_word:
        return tuple(sorted(there))
    types = sorted({label[2:] for label in there if label != OUTSIDE})
    return (OUTSIDE, *(f"{begin}-{each}" for each in types for begin in "BI"))


class LabelledCorpus:
    """Labelled texts of a task. Files are opened when a language is asked for, not before."""

    def __init__(
        self,
        task: str,
        name: str,
        sources: Mapping[str, Source],
        left_out: Sequence[LeftOut] = (),
        folder: Path | None = None,
    ):
        self._task, self._name, self._left_out = task, name, tuple(left_out)
        self._sources, self._folder = dict(sorted(sources.items())), folder
        self._numbered: dict[str, None] = {}  # what was read whose numbers have names by order

    @property
    def task(self) -> str:
        """The name of the task."""
        return self._task

    @property
    def name(self) -> str:
        """How it was asked for; of a hub data set with the commit that was found."""
        return self._name

    def found(self) -> dict[str, str]:
        """The task, which who asked may have left open."""
        return {"task": self._task}

    def says(self) -> tuple[str, ...]:
        """A sentence about what lies here and is not read; none where all is.

        And one about labels that are numbers without names, once such were read.
        """
        own = LeftOut.says(self._name, self._left_out)
        return (*own, _by_order(self._task, [*self._numbered])) if self._numbered else own

    def languages(self, split: str = "test") -> list[str]:
        """The canonical tags of all languages that have rows of a split, in order."""
        return [tag for tag in self._sources if any(map(_holds, _paths(self._of(tag, split))))]

    def require(self, tags: Iterable[str], split: str = "test") -> None:
        """Raise BadCorpus that names every language without rows of a split, and those with."""
        there = self.languages(split)
        if missing := [tag for tag in dict.fromkeys(tags) if tag not in there]:
            raise BadCorpus(
                f"{self._name} has no {split} rows of {self._task} in {listed(missing)}. It has "
                f"{listed(there) or 'none in any language'}. Leave the others out of --languages."
            )

    def held_out(self, tag: str) -> bool:
        """Whether a language has no valid files, and so a part of its train texts for them."""
        return not any(map(_holds, _paths(self._of(tag, "valid"))))

    def documents(self, tag: str, split: str) -> list[Labelled]:
        """The texts of a language in one split (train, valid or test).

        Files may be sorted by label, so the order is that of the hashes of names: the first so many
        are a sample then. Raises BadCorpus naming the line of a row that is none.
        """
        parted = split != "test" and self.held_out(tag)
        read = "train" if parted else split
        self.require([tag], read)
        found: dict[str, Labelled] = {}
        for where, each in _texts(self._of(tag, read), self._task, tag, read, self._numbered):
            if each.id in found:
                raise BadCorpus(f"{where}: {each.id} is there twice. Remove one.")
            found[each.id] = each
        rows = sorted(found.values(), key=lambda each: sha256_text(each.id))
        if parted:
            number = max(1, len(rows) // TENTH)
            rows = rows[:number] if split == "valid" else rows[number:]
        if not rows:
            raise BadCorpus(
                f"{self._name} has no {split} row in {tag}. Leave it out of --languages."
            )
        return rows

    def _of(self, tag: str, split: str) -> Source:
        return _of(self._sources[tag], self._folder, split)


def _holds(path: Path | str) -> bool:
    """Whether a file has a row, as far as its first lines tell; of the hub nothing is here."""
    ending = records.ending(str(path), conll.ENDINGS) or ""
    if isinstance(path, str) or ending == ".parquet":
        return True
    head = ending.startswith((".tsv", ".csv"))  # names of columns
    return (
        len([*islice((line for _, line in records.lines(path) if line.strip()), 1 + head)]) > head
    )


def open_labelled(task: str, corpus: str, among: Sequence[str] = tuple(TASKS)) -> LabelledCorpus:
    """Open the labelled texts of a task in a folder or on the hub, without reading them yet.

    An empty `task` is the one `among` these that the corpus is of: then one row of it is read.
    Raises UnknownName for a task that is none, BadCorpus where there is no such folder or data set,
    nothing in it is named after a language, or its columns are those of no task.
    """
    if task:
        find(task)
    if corpus.startswith("hub:"):
        name, found = readers.hub_files(corpus, _tag)
        folder = None
    else:
        name, folder = corpus, Path(corpus)
        if corpus == "embedded" or not folder.is_dir():
            what = "is inside the package" if corpus == "embedded" else f"is a folder {corpus}"
            raise BadCorpus(
                f"no labelled text {what}. Name a folder of it with --corpus, or take it from the "
                f"hub: --corpus hub:{TASKS[task or among[0]].hub}"
            )
        found = folders.folder_files(folder, _tag, conll.ENDINGS)
    sources: dict[str, Any] = dict(found.sources)
    task = task or _task_of(name, [_of(each, folder, "test") for each in sources.values()], among)
    return LabelledCorpus(task, name, sources, found.left_out, folder)


def _of(source: Source, folder: Path | None, split: str) -> Source:
    """The files of one split; test may be what names none."""
    unsplit, also = split == "test", conll.ENDINGS
    return readers.of_split(source, folder, _tag, split, unsplit=unsplit, also=also)


def _texts(
    source: Source, name: str, tag: str, split: str, numbered: dict[str, None]
) -> Iterator[tuple[str, Labelled]]:
    """Labelled texts, each with where it stands; `numbered` gets places whose labels lack names."""
    number = 0
    for part in _parts(source):
        lone = part.files[0][1][0] if isinstance(part, LocalFiles) else None
        if lone is not None and TASKS[name].by_word and _is_sentences(lone):
            for each in conll.read(lone):
                number += 1
                id = f"{name}/{tag}/{each.name or f'{split}-{number}'}"
                yield f"{lone}, line {each.line}", Labelled(id, each.words, each.labels)
            continue
        for row, words, labels in _rows(part, name, numbered):
            number += 1
            own = row.fields.get(TASKS[name].name)
            id = f"{name}/{tag}/{split}-{number}" if own is None else f"{name}/{own}"
            yield _where(row), Labelled(id, words, labels)


def _parts(source: Source) -> list[Source]:
    """A source for every file of a folder, or the one of a hub data set."""
    if isinstance(source, HubFiles):
        return [source]
    return [LocalFiles(((None, (path,)),)) for path in _paths(source)]


def _rows(
    source: Source, name: str, numbered: dict[str, None]
) -> Iterator[tuple[records.Record, tuple[str, ...], tuple[str, ...]]]:
    """Rows of a table with their words, or one text, and their labels."""
    task = TASKS[name]
    classes: tuple[str, ...] | None = None
    for row in source.records():
        _check_columns(name, row)
        values, texts = _listed(task, row.fields[task.label]), _listed(task, row.fields[task.text])
        if classes is None and any(isinstance(each, int) for each in values):
            classes = source.classes(task.label)
            if not classes:
                classes = task.labels
                numbered[row.place] = None
        labels = tuple(_label(row, each, classes or ()) for each in values)
        if not all(isinstance(each, str) for each in texts):
            raise BadCorpus(f"{_where(row)}: its {task.text} is no text. Mend the row.")
        words = tuple(each if task.by_word else each.strip() for each in texts)
        if len(words) != len(labels):
            raise BadCorpus(
                f"{_where(row)} has {len(words)} {task.text} and {len(labels)} {task.label}. Give "
                "every word its label."
            )
        if not any(words):
            raise BadCorpus(f"{_where(row)} has no text. Remove the row.")
        yield row, words, labels


def _by_order(name: str, places: Sequence[str]) -> str:
    """The sentence about numbers that were taken as labels in the order of the published data."""
    more = f" and {len(places) - 1} files more have" if len(places) > 1 else " has"
    order = ", ".join(f"{place} {label}" for place, label in enumerate(TASKS[name].labels))
    return (
        f"{places[0]}{more} numbers for labels and no names of them: they were taken as "
        f"{TASKS[name].hub.partition('@')[0]} has them, {order}. Where they mean others give names."
    )


def _listed(task: Task, value: Any) -> list[Any]:
    return list(value) if task.by_word and isinstance(value, list) else [value]


def _label(row: records.Record, value: object, classes: Sequence[str]) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, int) and 0 <= value < len(classes):
        return classes[value]
    raise BadCorpus(f"{_where(row)}: its label is {value!r}, which names none. Mend the row.")


def _check_columns(name: str, row: records.Record) -> None:
    if lacking := [each for each in TASKS[name].columns if each not in row.fields]:
        raise BadCorpus(
            f"{_where(row)} has the columns {_has(row)}, and {name} needs {' and '.join(lacking)}. "
            f"Name the data set of {name} with --corpus, or another --task."
        )


def _has(row: records.Record) -> str:
    return ", ".join(" ".join(each.split()) for each in row.fields) or "none"


def _where(row: records.Record) -> str:
    return f"{row.place}, line {row.line}"


def _task_of(name: str, sources: Iterable[Source], among: Sequence[str]) -> str:
    """The task of which the first row is. Raises BadCorpus for none."""
    for source in sources:
        for row in source.records():
            for task in among:
                if set(TASKS[task].columns) <= set(row.fields):
                    return task
            needs = "; ".join(f"{task} has {', '.join(TASKS[task].columns)}" for task in among)
            raise BadCorpus(
                f"{_where(row)} has the columns {_has(row)}, which are those of no task: {needs}. "
                "Name another data set with --corpus."
            )
    raise BadCorpus(f"{name} has no row. Name another data set with --corpus.")


def _is_sentences(path: Path) -> bool:
    return (records.ending(path.name, conll.ENDINGS) or "").startswith(SENTENCES)


def _paths(source: Source) -> list[Any]:
    grouped = source.files if isinstance(source, LocalFiles) else source.paths
    return [path for _, some in grouped for path in some]


def _tag(name: str) -> str | None:
    """The tag that a name stands for."""
    language = languages.known(name)
    return language.tag if language else None


def trained_on(task: str, corpus: str, wanted: Sequence[str]) -> list[str]:
    """The languages asked for (groups allowed), or all with train rows, of labelled text.

    Raises what `open_labelled` raises, BadCorpus for a language without train rows.
    """
    found = open_labelled(task, corpus)
    there = found.languages("train")
    tags = languages.select(wanted, among=there) if wanted else there
    found.require(tags, "train")
    if not tags:
        raise BadCorpus(
            f"{found.name} has no train rows of {task} in any language. Name another folder with "
            "--corpus."
        )
    return tags
