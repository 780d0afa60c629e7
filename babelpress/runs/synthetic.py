"""A store of synthetic text by language: a decoder writes it, it is sifted, a teacher labels it.

The idea of a store that a small model learns from is RetriKT's (Liu et al. 2023, arXiv:2310.15594).
Here no soft prompts are tuned and nothing is rewarded (no PPO): text is sampled after beginnings of
real sentences (text/self_written.py), then sifted. Nothing is looked up when the student is used:
the store is text to learn from, and no more.

    STORE/<language>/train.parquet   the texts: as a corpus, or as labelled text of the task that
                                     the teacher has a head for, with `probabilities` of all labels
    STORE/manifest.json              who wrote, who labelled, what was dropped and why; hashes

Raises nothing of its own that is not one line; the folder is whole or not there.

Shapes: D texts, W words of one, C labels.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from babelpress.errors import BadCorpus, BadSetting
from babelpress.evals import _spoken
from babelpress.evals._labels import OF_TEXTS, OF_WORDS, labels_of, logits
from babelpress.models.open import Opened
from babelpress.models.reading import sees_both_sides
from babelpress.models.weights import weights_hash
from babelpress.runs.open import open_any
from babelpress.system.files import hashes, new_folder, write_bytes, write_sealed
from babelpress.system.progress import Progress, silent
from babelpress.text import self_written
from babelpress.text.corpus import open_corpus
from babelpress.text.draw import fitting_length
from babelpress.text.labelled import Labelled, find, open_labelled
from babelpress.text.languages import select
from babelpress.text.sameness import key
from babelpress.text.synthetic import NO_TASK, UNSURE, sift

FILE = "manifest.json"
PROBABILITIES = "probabilities"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be written: how much in which languages, and what of it is kept.

    `tokens` are written of each language, in texts of `length` at most; `least` characters of a
    text are kept, and labels that the teacher gives a probability of `confidence` to: of words in
    the mean. `evaluation` is text that is kept apart.
    """

    languages: tuple[str, ...]
    tokens: int
    length: int
    seed: int
    top_p: float
    least: int
    confidence: float
    evaluation: str | None = None


@dataclass(frozen=True, slots=True)
class _Teacher:
    """A model with a head of a task, and the names of its labels."""

    opened: Opened
    task: str
    labels: tuple[str, ...]

    @property
    def by_word(self) -> bool:
        return find(self.task).by_word

    def probabilities(self, tag: str, texts: Sequence[str], progress: Progress) -> list[np.ndarray]:
        """Of each text (W, C); of a text with one label (1, C)."""
        documents = [
            Labelled(str(place), words, words)
            for place, words in enumerate(words_of(each, self.by_word) for each in texts)
        ]
        if not documents:
            return []
        found = logits(
            self.opened.model,
            self.opened.tokenizer,
            tag,
            documents,
            window=fitting_length(self.opened, 1 << 20),
            by_word=self.by_word,
            what="label",
            progress=progress,
        )
        return [softmax(each, axis=1) for each in found]


def write(
    writer: str,
    out: Path,
    asked: Asked,
    *,
    teacher: str | None = None,
    task: str | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write a store into a new folder; its manifest.

    Raises BadSetting for a writer that cannot write, a teacher without a task or the other way
    round, BadModel for a teacher without the head of the task, BadCorpus where nothing is left of a
    language.
    """
    if (teacher is None) != (task is None):
        raise BadSetting(NO_TASK)
    tags = select(asked.languages)
    labels = _open_teacher(teacher, task, device)
    opened = open_any(writer, device=device)
    if sees_both_sides(opened.model):
        raise BadSetting(
            f"{writer} reads text on both sides and cannot write any. Give a decoder, such as "
            "babel-mini."
        )
    apart = _apart(asked, task, tags)
    with new_folder(out) as new:
        rows = {
            tag: _language(
                opened, labels, tag, asked, apart(tag), new, progress, (place, len(tags))
            )
            for place, tag in enumerate(tags)
        }
        manifest = {
            "writer": {"name": writer, "fingerprint": weights_hash(opened.model)},
            "teacher": None if labels is None else _named(labels),
            "told_by": _spoken.by(),
            "seed": asked.seed,
            "tokens": asked.tokens,
            "length": asked.length,
            "top_p": asked.top_p,
            "least": asked.least,
            "confidence": asked.confidence,
            "evaluation": asked.evaluation,
            "languages": rows,
            "files": hashes(new),
        }
        write_sealed(new / FILE, manifest)
    return manifest


def words_of(text: str, by_word: bool) -> tuple[str, ...]:
    """What of a text is labelled: its words, between blanks, or the whole."""
    return tuple(text.split()) if by_word else (text,)


def _open_teacher(teacher: str | None, task: str | None, device: str) -> _Teacher | None:
    if teacher is None or task is None:
        return None
    wanted = OF_WORDS if find(task).by_word else OF_TEXTS
    opened = open_any(teacher, device=device)
    return _Teacher(opened, task, labels_of(opened.model, wanted))


def _named(teacher: _Teacher) -> dict[str, Any]:
    return {
        "name": teacher.opened.name,
        "fingerprint": weights_hash(teacher.opened.model),
        "task": teacher.task,
        "labels": list(teacher.labels),
    }


def _apart(asked: Asked, task: str | None, tags: Sequence[str]) -> Callable[[str], frozenset[str]]:
    """The keys of texts that are to be kept apart, by language."""
    src = asked.evaluation
    if src is None:
        return lambda _: frozenset()
    if task is None:
        corpus = open_corpus(src)
        corpus.require(tags)
        return lambda tag: frozenset(
            key(line)
            for split in ("valid", "test")
            for each in corpus.documents(tag, split)
            for line in (each.text, *each.text.split("\n"))
        )
    labelled = open_labelled(task, src)
    there = {split: labelled.languages(split) for split in ("valid", "test")}
    return lambda tag: frozenset(
        key(" ".join(each.words))
        for split, known in there.items()
        if tag in known
        for each in labelled.documents(tag, split)
    )


def _language(
    opened: Opened,
    teacher: _Teacher | None,
    tag: str,
    asked: Asked,
    apart: frozenset[str],
    folder: Path,
    progress: Progress,
    place: tuple[int, int],
) -> dict[str, Any]:
    """Write, sift and label one language; what the manifest tells of it."""
    progress("write: language", *place)
    ids = self_written.write(
        opened.model,
        opened.tokenizer,
        [tag],
        tokens=asked.tokens,
        length=fitting_length(opened, asked.length),
        seed=asked.seed,
        top_p=asked.top_p,
    )[tag]
    texts = [str(each) for each in opened.tokenizer.batch_decode(ids, skip_special_tokens=True)]
    found = sift(
        texts, least=asked.least, instead=lambda text: _spoken.instead(tag, text), apart=apart
    )
    kept, dropped = found.kept, dict(found.dropped)
    said: list[np.ndarray] = []
    if teacher is not None:
        every = teacher.probabilities(tag, kept, progress)
        sure = [float(each.max(1).mean()) >= asked.confidence for each in every]
        dropped[UNSURE] = sure.count(False)
        said = [each for each, yes in zip(every, sure, strict=True) if yes]
        kept = [each for each, yes in zip(kept, sure, strict=True) if yes]
    if not kept:
        named = ", ".join(f"{reason} {number}" for reason, number in dropped.items() if number)
        raise BadCorpus(
            f"nothing is left of {len(texts)} texts in {tag}: {named}. Raise --tokens, lower "
            "--least or --confidence, or take a writer that knows the language."
        )
    _save(folder / tag / "train.parquet", kept, said, teacher)
    progress("write: language", place[0] + 1, place[1])
    row: dict[str, Any] = {"written": len(texts), "kept": len(kept), "dropped": dropped}
    if said:
        row["confidence"] = round(float(np.mean([each.max(1).mean() for each in said])), 4)
    return row


def _save(
    path: Path, texts: Sequence[str], said: Sequence[np.ndarray], teacher: _Teacher | None
) -> None:
    """A table of texts, with labels and their probabilities where there are any."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # No two languages share an id: equal ids are translations.
    names = [f"written/{path.parent.name}/{number}" for number in range(len(texts))]
    columns: Mapping[str, Any] = {"id": names, "text": texts}
    if teacher is not None:
        columns = _labelled(names, texts, said, teacher)
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    write_bytes(path, buffer.getvalue())


def _labelled(
    ids: Sequence[str], texts: Sequence[str], said: Sequence[np.ndarray], teacher: _Teacher
) -> Mapping[str, Any]:
    """Columns as the task has them, and one with what the teacher says of every label."""
    task = find(teacher.task)
    words = [words_of(each, teacher.by_word) for each in texts]
    best = [[teacher.labels[place] for place in each.argmax(1)] for each in said]
    soft = [each.astype(np.float32).tolist() for each in said]
    names = {task.name: ids} if task.name else {}
    if task.by_word:
        return {**names, task.text: [list(w) for w in words], task.label: best, PROBABILITIES: soft}
    return {
        **names,
        task.text: [w[0] for w in words],
        task.label: [each[0] for each in best],
        PROBABILITIES: [each[0] for each in soft],
    }
