"""The documents of a language, from wherever its text lies.

A corpus is named by `SRC[?FIELD=A,B][&FIELD!=C]`, where SRC is

embedded             the everyday sentences inside the package
FOLDER               <language>.jsonl and other kinds (records.py), named as paths.py says
hub:ID[@REVISION]    the parquet files of a data set on the hub, streamed, pinned to one commit

A record has `text` (or a field of TEXT_FIELDS) and, optionally, `id`, `src`, `doc` and `split`
(train, valid, test). A document is all records of equal src, doc and split, in order, joined by a
newline; a record without doc is a document of its own. A document without a split gets one from the
hash of its name, so in every language and on every machine the same: 90 % train, 5 % valid, 5 %
test. Whatever lies in a corpus and is not read is in `left_out`, with the reason.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from babelpress.errors import BadCorpus
from babelpress.system.files import DATA, fingerprint, sha256_text
from babelpress.text import folders, languages, readers
from babelpress.text.languages import ENGLISH
from babelpress.text.paths import SPLIT_NAMES, SPLITS
from babelpress.text.readers import Found, LeftOut, listed
from babelpress.text.records import text_of
from babelpress.text.shots import SELF, shots_of

EMBEDDED = DATA / "embedded" / "everyday"
UNNAMED = "text-"  # ids of documents that nothing but their text tells apart


@dataclass(frozen=True, slots=True)
class Document:
    """One document. `id` is SRC/DOC, equal in two languages where the content is equal."""

    id: str
    language: str
    src: str
    split: str
    text: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """One record. `id` is SRC/ID of its own, equal in two languages where the content is equal.

    It is empty where the record has no id; `document` is the id of the document that it is of.
    """

    id: str
    document: str
    src: str
    split: str
    text: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Keeps the records whose field is (or, negated, is not) one of these values."""

    field: str
    values: frozenset[str]
    negated: bool

    def keeps(self, fields: Mapping[str, object]) -> bool:
        return (_word(fields.get(self.field, "")) in self.values) != self.negated

    def __str__(self) -> str:
        return f"{self.field}{'!' * self.negated}={','.join(sorted(self.values))}"


class Corpus:
    """Text by language. Files are opened when a language is asked for, not before."""

    def __init__(self, name: str, found: Found, filters: Sequence[Filter] = ()):
        self._name = name
        self._sources = dict(sorted(found.sources.items()))
        self.left_out = tuple(found.left_out)
        self._several = dict(found.several)
        self._filters = tuple(sorted(filters, key=str))
        self._prints: dict[str, str] = {}
        # Train and test of a language are asked for one after the other: one is remembered.
        self._last: tuple[str, dict[str, list[Document]]] = ("", {})

    @property
    def name(self) -> str:
        """How it was asked for; of a hub data set with the commit that was found."""
        return self._name

    def says(self) -> tuple[str, ...]:
        """A sentence about what lies here and is not read; none where all is."""
        return LeftOut.says(self.name, self.left_out)

    def _aside(self) -> str:
        """What is left out, after another sentence."""
        words = LeftOut.words(self.left_out)
        return f" Not read and {words}" if words else ""

    def names_of(self, tag: str) -> tuple[str, ...]:
        """The names that the text of a language goes by, where they are several (en-GB, en-US)."""
        return self._several.get(tag, ())

    def damage(self, tag: str) -> str:
        """What can be seen to be wrong with the files of a language without reading them."""
        try:
            self._sources[tag].check()
        except BadCorpus as error:
            return str(error)
        return ""

    def languages(self) -> list[str]:
        """The canonical tags of all languages that have a file, in order of the tags."""
        return list(self._sources)

    def documents(self, tag: str, split: str) -> list[Document]:
        """The documents of a language and split, in the order of the file; may be none.

        Raises BadCorpus where the language has no file or its file is broken.
        """
        assert split in SPLITS, split
        self.require([tag])
        if self._last[0] != tag:
            self._last = (tag, documents_of(tag, self.sentences(tag)))
        return list(self._last[1].get(split, ()))

    def fingerprint(self, tags: Iterable[str]) -> str:
        """SHA-256 over the bytes of these languages' files, and the filters on them."""
        wanted = sorted(set(tags))
        self.require(wanted)
        for tag in wanted:
            if tag not in self._prints:
                self._prints[tag] = self._sources[tag].fingerprint()
        used = {tag: self._prints[tag] for tag in wanted}
        return fingerprint({"files": used, "filters": [str(each) for each in self._filters]})

    def require(self, tags: Iterable[str]) -> None:
        """Raises BadCorpus that names every language without a file, and what there is."""
        missing = [tag for tag in dict.fromkeys(tags) if tag not in self._sources]
        if missing:
            raise BadCorpus(
                f"{self._name} has no text in {listed(missing)}. It has {listed(self._sources)}. "
                "Add a file for each, or leave them out of --languages."
                f"{self._aside()}"
            )

    def sentences(self, tag: str) -> Iterator[Sentence]:
        """The records of a language one by one, in the order of the file, of all splits.

        Raises BadCorpus where the language has no file or its file is broken.
        """
        self.require([tag])
        seen: Counter[str] = Counter()
        fields_seen: dict[str, None] = {}
        for place, line, fields in self._sources[tag].records():
            text = _text(place, line, fields)
            if self._filters:
                fields_seen |= dict.fromkeys(fields)
            if not text.strip() or not all(each.keeps(fields) for each in self._filters):
                continue
            _check_names(place, line, fields)
            src = str(fields.get("src") or "")
            name = _document_name(src, text, fields, seen)
            split = _split(place, line, fields, name)
            yield Sentence(_record_name(src, fields), name, src, split, text)
        self._check_filters(tag, fields_seen)

    def _check_filters(self, tag: str, fields: Mapping[str, None]) -> None:
        """Raise BadCorpus for a filter on what no record has: it keeps or drops nothing."""
        for each in self._filters:
            if each.field not in fields:
                raise BadCorpus(
                    f"no record of {tag} in {self._name} has a field '{each.field}' to filter by. "
                    f"They have {listed(' '.join(name.split()) for name in fields)}. Name one of "
                    "these, or take the filter off."
                )


def documents_of(tag: str, sentences: Iterable[Sentence]) -> dict[str, list[Document]]:
    """The documents that the sentences of a language are of, by split, each in their order."""
    texts: dict[tuple[str, str], list[str]] = {}
    srcs: dict[str, str] = {}
    for each in sentences:
        srcs.setdefault(each.document, each.src)
        texts.setdefault((each.document, each.split), []).append(each.text)
    found: dict[str, list[Document]] = {}
    for (name, split), lines in texts.items():
        document = Document(name, tag, srcs[name], split, "\n".join(lines))
        found.setdefault(split, []).append(document)
    return found


def open_corpus(src: str) -> Corpus:
    """Open a corpus by its name (see above) without reading its text yet.

    Raises BadCorpus where there is none, where nothing in it is named after a language, where two
    files say that they are the same, or where the hub cannot be reached.
    """
    refuse_shots(src)
    place, _, query = src.partition("?")
    filters = _filters(src, query)
    if place.startswith("hub:"):
        name, found = readers.hub_files(place, _known)
        return Corpus(name + src[len(place) :], found, filters)
    folder = EMBEDDED if place == "embedded" else Path(place)
    return Corpus(src, folders.folder_files(folder, _known), filters)


def open_source(src: str) -> Corpus:
    """What a calibration has its languages of; where the model writes its text, `embedded`.

    Of demonstrations it is the corpus whose sentences are shown.
    """
    shots = shots_of(src)
    return open_corpus("embedded" if src == SELF else shots.src if shots else src)


def refuse_shots(src: str) -> None:
    """Raise BadCorpus for demonstrations, where they are no calibration text."""
    if shots := shots_of(src):
        raise BadCorpus(
            f"{src} is text to calibrate on, and no corpus for anything else. Name the corpus "
            f"itself: {shots.src}."
        )


def require_english(corpus: Corpus) -> None:
    """Raise BadCorpus for a corpus without the other side of every demonstration."""
    if ENGLISH not in corpus.languages():
        raise BadCorpus(
            f"{corpus.name} has no {ENGLISH}, which demonstrations show beside every language. It "
            f"has {listed(corpus.languages())}. Add a file of the same sentences in English."
        )


def read_of(src: str, tags: Iterable[str]) -> list[str]:
    """The languages of a corpus that a calibration in some reads: demonstrations need English.

    A direction of translation reads both of its own.
    """
    read = [tag for each in tags for tag in languages.sides(each)]
    return list(dict.fromkeys((*read, ENGLISH) if shots_of(src) else read))


def _filters(src: str, query: str) -> list[Filter]:
    found: list[Filter] = []
    for part in query.split("&") if query else []:
        field, equals, values = part.partition("=")
        if not (equals and values and field.rstrip("!")):
            raise BadCorpus(
                f"'{part}' in {src} is no filter. Write FIELD=VALUE[,VALUE] or FIELD!=VALUE, "
                "joined by &, for example text?src=ntrex,tico19."
            )
        found.append(Filter(field.rstrip("!"), frozenset(values.split(",")), field.endswith("!")))
    return found


def _known(name: str) -> str | None:
    """The tag that a name stands for."""
    language = languages.known(name)
    return language.tag if language else None


def _text(name: str, line: int, fields: Mapping[str, object]) -> str:
    text = text_of(fields)
    if not isinstance(text, str):
        raise BadCorpus(
            f"{name}, line {line} has no field 'text' that is a string. "
            f"It has {listed(' '.join(each.split()) for each in fields) or 'no field'}."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadCorpus(
            f"{name}, line {line} is not valid UTF-8: half a surrogate pair at character "
            f"{error.start + 1} of its text."
        ) from error
    return text


def _check_names(name: str, line: int, fields: Mapping[str, object]) -> None:
    """Raise BadCorpus for an id, src or doc that is no word or number."""
    for field in ("id", "src", "doc"):
        value = fields.get(field)
        if isinstance(value, str) and value.isascii():
            continue
        word = _word(value)
        if word is None or not _is_utf8(word):
            raise BadCorpus(
                f"{name}, line {line} has a field '{field}' that is neither a word nor a number "
                "in valid UTF-8."
            )


def _word(value: object) -> str | None:
    """A value as a word; None for lists and mappings."""
    return None if isinstance(value, list | dict) else str(value)


def _is_utf8(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _document_name(src: str, text: str, fields: Mapping[str, object], seen: Counter[str]) -> str:
    """SRC/DOC; without doc the record's id, else the hash of its text, made unique by a number."""
    prefix = f"{src}/" if src else ""
    doc = fields.get("doc")
    if doc is not None and doc != "":
        return f"{prefix}{doc}"
    own = fields.get("id")
    name = f"{UNNAMED}{sha256_text(text)[:16]}" if own is None or own == "" else f"{prefix}{own}"
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}#{seen[name]}"


def _record_name(src: str, fields: Mapping[str, object]) -> str:
    """SRC/ID, where an id does not begin so by itself; empty for a record without one."""
    own = "" if fields.get("id") is None else str(fields["id"])
    return f"{src}/{own}" if own and src and not own.startswith(f"{src}/") else own


def _split(name: str, line: int, fields: Mapping[str, object], document: str) -> str:
    given = fields.get("split")
    if given is None or given == "":
        # Of "text-1234#2" the text alone decides, so that equal texts are in one split.
        return _hashed_split(document.partition("#")[0])
    if not isinstance(given, str) or given not in SPLIT_NAMES:
        raise BadCorpus(
            f"{name}, line {line} has the split {given!r}. Known: {', '.join(SPLITS)}; or leave "
            "it out, and documents are split by the hash of their name."
        )
    return SPLIT_NAMES[given]


def _hashed_split(document: str) -> str:
    percent = int.from_bytes(hashlib.sha256(document.encode()).digest()[:8]) % 100
    return "train" if percent < 90 else "valid" if percent < 95 else "test"
