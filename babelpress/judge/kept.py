"""What an evaluation left in a folder: whole tallies, and those of the first documents drawn.

Tested in tests/judge/test_scores.py and tests/judge/test_until.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from babelpress.evals import Document
from babelpress.judge.scores import (
    BASELINES,
    TALLIES,
    UNTIL,
    facts_path,
    files_of,
    identity_of,
    read_results,
    sites,
    sites_path,
    tally_path,
    write_results,
)
from babelpress.numerics import sequential
from babelpress.numerics.tally import Tally
from babelpress.system.files import fingerprint, read_json, sha256_file, write_json, write_sealed
from babelpress.system.progress import Progress, remark

ASIDE = "aside"  # of tallies, those of other settings
BEGUN, IN_ROUNDS = "begun", "in_rounds"
DROPPED = "{} scores on {} were of another model, and are dropped"


@dataclass(frozen=True, slots=True)
class Draw:
    """The ids of documents in the order in which they are scored.

    The first `some` of them have a weight; others, which no score hangs on, come last.
    """

    order: tuple[str, ...]
    some: int

    @classmethod
    def of(cls, dense: Tally, seed: int = 0) -> "Draw":
        """The draw of what a dense model was scored on: its denominators are the weights."""
        order = sequential.drawn(dense.documents, dense.denominator_D, seed)
        some = int((dense.denominator_D > 0).sum())
        return cls(tuple(dense.documents[place] for place in order), some)

    def rounds(self) -> list[int]:
        """How many documents there are after each round."""
        return [*list(sequential.rounds(self.some))[:-1], len(self.order)]


@dataclass(frozen=True, slots=True)
class Begun:
    """The first documents of a draw, scored."""

    draw: Draw
    tally: Tally

    def joined(self, more: Tally, documents: Sequence[Document]) -> "Begun":
        """With those of the next round; in the order of the text."""
        both = {
            name: parts
            for each in (self.tally, more)
            for name, *parts in zip(
                each.documents, each.numerator_D, each.denominator_D, strict=True
            )
        }
        names = tuple(each.id for each in documents if each.id in both)
        parts_D2 = np.array([both[name] for name in names])
        return replace(self, tally=Tally(names, parts_D2[:, 0].copy(), parts_D2[:, 1].copy()))


@dataclass(frozen=True, slots=True)
class Kept:
    """The tallies of one evaluation on one corpus in a folder, and what each is of.

    That is written so that no tally is ever taken for one of another model or text, wherever a
    process dies. `texts` are hashes of documents, `files` those of tallies, and `baselines` what
    scores are held against, by language; `begun` are languages of which only some documents are
    scored. Those that were scored in rounds, all by now, are `in_rounds`: a document's score hangs
    in its last digits on what it is read beside.
    """

    folder: Path
    name: str
    corpus: str
    identity: dict[str, Any]
    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    begun: dict[str, dict[str, Any]] = field(default_factory=dict)
    in_rounds: list[str] = field(default_factory=list)

    @classmethod
    def open(
        cls,
        folder: Path,
        name: str,
        corpus: str,
        identity: dict[str, Any],
        progress: Progress,
    ) -> "Kept":
        """What is there of the same model and settings.

        On this corpus what is of other settings is set aside, and came of the same ones before is
        brought back; what is of another model is dropped, on all corpora.
        """
        _drop_other_models(folder, name, corpus, identity, progress)
        path = facts_path(folder, name, corpus)
        there = identity_of(folder, name, corpus)
        if path.exists() and there != identity:
            said = DROPPED.format(name, corpus)
            if there.get("model") == identity["model"]:
                other = _other_settings(there, identity)
                said = f"scores with {other} are set aside; the same call has them again"
                _set_aside(folder, name, corpus, there)
            _drop(folder, name, corpus)
            remark(progress, said)
        if not path.exists():
            _bring_back(folder, name, corpus, identity)
        if not path.exists():
            kept = cls(folder, name, corpus, identity)
            kept._note()
            return kept
        found = read_json(path)
        return cls(
            folder,
            name,
            corpus,
            identity,
            found["texts"],
            found.get("files", {}),
            found.get(BASELINES, {}),
            found.get(BEGUN, {}),
            found.get(IN_ROUNDS, []),
        )

    def has(self, tag: str, documents: Sequence[Document]) -> bool:
        """Whether the tally of exactly this text is there, as it was written."""
        return self.texts.get(tag) == _hash(documents) and self._is_sound(tag)

    def first(self, tag: str, documents: Sequence[Document]) -> "Begun | None":
        """Of exactly this text the documents that are scored, where that is some of them."""
        there = self.begun.get(tag)
        if not there or there["text"] != _hash(documents) or not self._is_sound(tag):
            return None
        return Begun(Draw(tuple(there["order"]), there["some"]), self.tally(tag))

    def _is_sound(self, tag: str) -> bool:
        path = self._path(tag)
        return path.exists() and self.files.get(tag, "") in ("", sha256_file(path))

    def put(
        self,
        tag: str,
        documents: Sequence[Document],
        tally: Tally,
        baselines: Mapping[str, float],
    ) -> None:
        """Keep a tally, and what its score is held against."""
        self._write(tag, tally)
        self.texts[tag] = _hash(documents)
        if baselines:
            self.baselines[tag] = dict(baselines)
        self._note()

    def put_first(
        self, tag: str, documents: Sequence[Document], found: "Begun", until: Mapping[str, Any]
    ) -> None:
        """Keep the tally of the first documents drawn; `until` says why there are no more."""
        self._write(tag, found.tally)
        self.begun[tag] = {
            "text": _hash(documents),
            "order": list(found.draw.order),
            "some": found.draw.some,
            UNTIL: dict(until),
        }
        self._note()

    def put_last(self, tag: str, documents: Sequence[Document], tally: Tally) -> None:
        """Keep a tally that was scored in rounds, the last one too."""
        self.in_rounds[:] = sorted({*self.in_rounds, tag})
        self.put(tag, documents, tally, {})

    def put_until(self, tag: str, until: Mapping[str, Any]) -> None:
        """Say anew why no more documents are scored."""
        self.begun[tag][UNTIL] = dict(until)
        self._note()

    def until(self, tag: str) -> dict[str, Any]:
        """Why not all documents of a language are scored; empty where they are."""
        return self.begun.get(tag, {}).get(UNTIL, {})

    def _write(self, tag: str, tally: Tally) -> None:
        """Write a tally that is not yet known to be of anything."""
        there = [self.texts.pop(tag, None), self.begun.pop(tag, None)]
        if any(there):
            self._note()
        tally.save(self._path(tag))
        self.files[tag] = sha256_file(self._path(tag))

    def put_sites(self, tag: str, shares: Mapping[str, float]) -> None:
        """Keep the parts of a language's score: those at every site, or in every wrong language."""
        by_language = {**sites(self.folder, self.name, self.corpus), tag: dict(shares)}
        write_json(sites_path(self.folder, self.name, self.corpus), by_language)

    def tally(self, tag: str) -> Tally:
        """The tally of a language that is kept."""
        return Tally.load(self._path(tag))

    def _note(self) -> None:
        value: dict[str, Any] = {
            "identity": self.identity,
            "texts": self.texts,
            "files": self.files,
            **({BASELINES: self.baselines} if self.baselines else {}),
            **({BEGUN: self.begun} if self.begun else {}),
            **({IN_ROUNDS: self.in_rounds} if self.in_rounds else {}),
        }
        write_sealed(facts_path(self.folder, self.name, self.corpus), value)

    def _path(self, tag: str) -> Path:
        row = {"evaluation": self.name, "corpus": self.corpus, "language": tag}
        return tally_path(self.folder, row)


def _drop_other_models(
    folder: Path, name: str, corpus: str, identity: Mapping[str, Any], progress: Progress
) -> None:
    """Drop the scores of this evaluation on other corpora that are of another model."""
    for other in {row.get("corpus", "") for row in read_results(folder)} - {corpus}:
        path = facts_path(folder, name, other)
        if path.exists() and read_json(path)["identity"]["model"] != identity["model"]:
            _drop(folder, name, other)
            remark(progress, DROPPED.format(name, other))


def _drop(folder: Path, name: str, corpus: str) -> None:
    """Drop the scores of an evaluation on a corpus: rows first, so that none lacks its tally."""
    rows, files = read_results(folder), files_of(folder, name, corpus)
    gone = (name, corpus)
    write_results(folder, [r for r in rows if (r["evaluation"], r.get("corpus", "")) != gone])
    for path in files:
        path.unlink()


def _other_settings(there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """What scores were taken with, where it differs from what is asked for."""
    keys = [key for key in {**there, **asked} if there.get(key) != asked.get(key)]
    told = [
        f"{key} {there[key]}" if isinstance(there.get(key), int | str) else f"other {key}"
        for key in keys
    ]
    return ", ".join(told)


def _aside(folder: Path, identity: Mapping[str, Any]) -> Path:
    return folder / TALLIES / ASIDE / fingerprint(identity)


def _set_aside(folder: Path, name: str, corpus: str, identity: Mapping[str, Any]) -> None:
    """Move the files of an evaluation on a corpus to where they are found by their settings.

    What they are of goes last: until then they are scores that can be told.
    """
    place, facts = _aside(folder, identity), facts_path(folder, name, corpus)
    place.mkdir(parents=True, exist_ok=True)
    for path in sorted(files_of(folder, name, corpus), key=lambda path: path == facts):
        path.replace(place / path.name)


def _bring_back(folder: Path, name: str, corpus: str, identity: Mapping[str, Any]) -> None:
    """Move them back, what they are of last; nothing where there are none."""
    place, facts = _aside(folder, identity), facts_path(folder, name, corpus)
    if not (place / facts.name).exists():
        return
    for path in sorted(place.iterdir(), key=lambda path: path.name == facts.name):
        path.replace(facts.with_name(path.name))
    place.rmdir()


def _hash(documents: Sequence[Document]) -> str:
    return fingerprint([[document.id, document.text] for document in documents])
