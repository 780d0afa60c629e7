"""Gender: how often a model finds the translation likelier that has the gender of the sentence.

A sentence says in English whether it is of a woman or a man ("The doctor said that she was tired"),
and has two translations that differ in nothing but gender. The share of sentences whose own one is
likelier is the score: a forced choice, nothing is written (as in MuST-SHE's and WinoMT's contrasts;
Stanovsky et al. 2019, arXiv:1906.00591). Every sentence is there of a woman and of a man, with the
same two translations, so who always chooses one gender has exactly half. An encoder-decoder reads
the sentence with the marks of its languages; a decoder is shown `shots` examples of the table and
then the sentence, as in `translate`. Of two that are equally likely neither is chosen.

Told beside it are the shares among sentences of women and of men, and among those whose gender is
usual for the trade and is not: their differences are Δ_G and Δ_S of Stanovsky et al., here of
shares that are right.

The sentences are our own, data/gendered.csv: Spanish, French, German, Italian, Portuguese, Russian,
Arabic and Hindi, 14 trades and so 28 sentences each, and two pairs more as examples. No speaker of
those languages has checked them. `--corpus FILE.csv` names a table of yours: columns frame, usual
(feminine, masculine, or example), language, feminine, masculine, and English rows for the sources.

For one: babelpress eval MODEL --on gender --languages es,fr --out dense
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import AmbiguousName, BadCorpus, BadSetting, UnknownName
from babelpress.evals import Detail, unheard
from babelpress.evals._choices import Kept, said
from babelpress.evals._items import Item, Option, require
from babelpress.evals._parallel import ENGLISH, Pair
from babelpress.evals._targets import nats_of
from babelpress.evals.translate import prompt_of
from babelpress.numerics.tally import Tally
from babelpress.system.files import DATA
from babelpress.system.progress import Progress, silent
from babelpress.text import languages
from babelpress.text.languages import INTO

METRIC = "gender_accuracy"
SPOKEN = "right choices of gender"
LOWER_IS_BETTER = False
ONE_SIDED = True
PAIRED = True
BINARY = True
COMPARED_WITH = "eng_Latn"
SHOWN = ("feminine", "masculine", "usual", "unusual")

OURS = DATA / "gendered.csv"
EMBEDDED = "embedded"
COLUMNS = ("frame", "usual", "language", "feminine", "masculine")
GENDERS = FEMININE, MASCULINE = ("feminine", "masculine")
EXAMPLE = "example"
MOST = 2  # examples that a decoder is shown


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence in English, its translation, and the one of the other gender.

    `usual` is the gender that is usual for its trade; `examples` are of the whole language.
    """

    id: str
    gender: str
    usual: str
    source: str
    right: str
    wrong: str
    examples: tuple[Pair, ...] = ()

    @property
    def text(self) -> str:
        """All that a score hangs on."""
        shown = [f"{each.english}|{each.text}" for each in self.examples]
        return "\n".join([self.source, self.right, self.wrong, *shown])

    @property
    def kinds(self) -> tuple[str, str]:
        """Which of the parts of a score it counts in."""
        return self.gender, "usual" if self.gender == self.usual else "unusual"


@dataclass(frozen=True, slots=True)
class _Choice:
    """A sentence with one of its translations, as an encoder-decoder reads and writes them."""

    id: str
    pairs: tuple[tuple[str, str], ...]


Row = dict[str, str]


class Gendered:
    """The sentences of a table by language of translation."""

    def __init__(self, name: str, place: Path):
        self._name, self._place = name, place
        self._rows: dict[str, dict[str, Row]] = {}

    @property
    def name(self) -> str:
        """How the table was asked for."""
        return self._name

    def languages(self) -> list[str]:
        """All that have translations. Raises BadCorpus for a table that is none."""
        return sorted(self._read().keys() - {ENGLISH})

    def require(self, tags: Iterable[str]) -> None:
        """Raises BadCorpus that names every language without translations, and what there is."""
        require(tags, self.languages(), self._name, "translations")

    def documents(self, tag: str, split: str) -> list[Sentence]:  # noqa: ARG002 - there is one
        """The sentences of a language, of a woman and of a man in turn, in the table's order.

        Raises BadCorpus where English lacks one, or none is there but examples.
        """
        self.require([tag])
        sources, rows = self._read().get(ENGLISH, {}), self._read()[tag]
        if lost := [frame for frame in rows if frame not in sources]:
            raise BadCorpus(f"{self._place} has no {ENGLISH} row of {lost[0]}. Add its sentences.")
        shown = [frame for frame, row in rows.items() if row["usual"] == EXAMPLE][:MOST]
        examples = tuple(  # of a woman, of a man
            Pair(frame, rows[frame][gender], sources[frame][gender])
            for frame, gender in zip(shown, GENDERS, strict=False)
        )
        found = [
            _sentence(frame, gender, row, sources[frame], examples)
            for frame, row in rows.items()
            if row["usual"] != EXAMPLE
            for gender in GENDERS
        ]
        if not found:
            raise BadCorpus(f"{self._place} has no sentence in {tag} but examples. Add some.")
        return found

    def _read(self) -> dict[str, dict[str, Row]]:
        if not self._rows:
            self._rows = _table(self._place)
        return self._rows


def texts(corpus: str) -> Gendered:
    """Our sentences, or those of a table. Raises BadCorpus where there is no such file."""
    place = OURS if corpus == EMBEDDED else Path(corpus)
    if not place.is_file():
        raise BadCorpus(
            f"there is no table {corpus}. Name a CSV file with the columns {', '.join(COLUMNS)}, "
            f"or leave --corpus out for our own sentences."
        )
    return Gendered(corpus, place)


def check(options: Mapping[str, Any]) -> None:
    """Raise BadSetting for more examples than there are."""
    _check(options["shots"])


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Sentence]],
    *,
    window: int,
    shots: int = MOST,
    memory_mb: int = 256,
    detail: Detail = unheard,
    kept: Kept | None = None,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of right choices over sentences per language.

    `detail` is told the shares among sentences of each gender, and of a usual and an unusual one.
    `kept` is where log-likelihoods of a decoder are looked for, and left. Raises BadSetting for
    examples out of range, a language that the tokenizer has no token for or a sentence that does
    not fit the window, NotFinite.
    """
    _check(shots)
    found: dict[str, Tally] = {}
    for tag, some in documents.items():
        if model.config.is_encoder_decoder:
            right_D, wrong_D = _by_pairs(model, tokenizer, tag, some, window, memory_mb, progress)
        else:
            told = said(
                model,
                tokenizer,
                tag,
                [_item(tag, each, shots) for each in some],
                window=window,
                memory_mb=memory_mb,
                kept=kept,
                what="gender",
                progress=progress,
            )
            right_D, wrong_D = np.array([each.likelihoods for each in told]).T
        hit_D = (right_D > wrong_D) * 1.0
        found[tag] = Tally(tuple(each.id for each in some), hit_D, np.ones(len(some)))
        detail(tag, _parts(some, hit_D))
    return found


def baselines(documents: Sequence[Sentence]) -> dict[str, float]:  # noqa: ARG001 - of any
    """Half of all choices are right by chance, and for who always chooses one gender."""
    return {"chance": 0.5}


def _check(shots: object) -> None:
    if not isinstance(shots, int) or not 0 <= shots <= MOST:
        raise BadSetting(f"shots is {shots}. It must be a whole number from 0 to {MOST}.")


def _by_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tag: str,
    sentences: Sequence[Sentence],
    window: int,
    memory_mb: int,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihoods (D,) of right and of wrong translations, by an encoder-decoder."""
    way = f"{ENGLISH}{INTO}{tag}"
    choices = [
        _Choice(each.id, ((each.source, text),))
        for each in sentences
        for text in (each.right, each.wrong)
    ]
    nats = nats_of(
        model,
        tokenizer,
        {way: choices},
        window=window,
        what="gender",
        memory_mb=memory_mb,
        progress=progress,
    )[way]
    return -nats[::2], -nats[1::2]


def _item(tag: str, sentence: Sentence, shots: int) -> Item:
    """A sentence as a decoder is asked: examples, it, and both of its translations."""
    before = prompt_of(ENGLISH, tag, sentence.examples[:shots], sentence.source)
    both = (sentence.right, sentence.wrong)
    return Item(f"{tag}/{sentence.id}", tuple(Option(before, f" {t}", t) for t in both), 0)


def _parts(sentences: Sequence[Sentence], hit_D: np.ndarray) -> dict[str, float]:
    """The share of right choices among the sentences of each kind; those without any are left."""
    parts: dict[str, float] = {}
    for kind in SHOWN:
        hits = [hit for each, hit in zip(sentences, hit_D, strict=True) if kind in each.kinds]
        if hits:
            parts[kind] = float(np.mean(hits))
    return parts


# ---- the table -----------------------------------------------------------------------------


def _sentence(
    frame: str, gender: str, row: Row, source: Row, examples: tuple[Pair, ...]
) -> Sentence:
    other = MASCULINE if gender == FEMININE else FEMININE
    name = f"{frame}/{gender}"
    return Sentence(name, gender, row["usual"], source[gender], row[gender], row[other], examples)


def _table(place: Path) -> dict[str, dict[str, Row]]:
    """The rows of a table by language and frame. Raises BadCorpus naming the line."""
    found: dict[str, dict[str, Row]] = {}
    try:
        with place.open(encoding="utf-8", newline="") as file:
            lines = csv.DictReader(file, strict=True)
            if tuple(lines.fieldnames or ()) != COLUMNS:
                raise BadCorpus(f"{place} must have the columns {', '.join(COLUMNS)}.")
            for row in lines:
                tag = _checked(row, f"{place}, line {lines.line_num}")
                if found.setdefault(tag, {}).setdefault(row["frame"], row) is not row:
                    raise BadCorpus(
                        f"{place}, line {lines.line_num}: {row['frame']} is there twice in {tag}. "
                        "Remove one."
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadCorpus(f"{place} cannot be read: {error}. Save it as CSV in UTF-8.") from error
    return found


def _checked(row: Row, where: str) -> str:
    """The tag of a row. Raises BadCorpus for one that is none."""
    if None in row or not all(row.values()):
        raise BadCorpus(f"{where} has an empty cell, or one too many. It needs all {len(COLUMNS)}.")
    if row["usual"] not in (*GENDERS, EXAMPLE):
        raise BadCorpus(f"{where}: usual is {row['usual']}. It is feminine, masculine, or example.")
    if row["feminine"] == row["masculine"]:
        raise BadCorpus(f"{where}: both genders have the same sentence. Leave the row out.")
    try:
        return languages.find(row["language"]).tag
    except (UnknownName, AmbiguousName) as error:
        raise BadCorpus(f"{where}: {error}") from error
