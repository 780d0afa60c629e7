"""Score a model in every language, and keep what was measured.

Tested in tests/judge/test_scores.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babelpress import evals
from babelpress.errors import BadSetting
from babelpress.evals import Document, Finds, Says, Texts
from babelpress.evals._labels import no_head, remembering
from babelpress.evals._windows import check_kind, check_tokens
from babelpress.judge import costs
from babelpress.judge.likelihoods import Likelihoods
from babelpress.judge.scores import (
    BASELINES,
    RESULTS,
    TALLIES,
    Row,
    facts_path,
    files_of,
    identity_of,
    read_results,
    sites,
    sites_path,
    tally_path,
    write_results,
)
from babelpress.judge.settings import MOMENTS, EvaluationSettings
from babelpress.models.open import Opened
from babelpress.models.reading import sees_both_sides
from babelpress.models.tokenizers import tokenizer_hash
from babelpress.models.weights import weights_hash
from babelpress.moments.ranges import Ranges
from babelpress.numerics.tally import Tally
from babelpress.registry import taken
from babelpress.system.claims import PARTIAL, held, remove_partials
from babelpress.system.files import fingerprint, read_json, sha256_file, write_json, write_sealed
from babelpress.system.progress import Progress, remark, silent
from babelpress.system.surroundings import machine
from babelpress.text.corpus import open_corpus
from babelpress.text.draw import fitting_length
from babelpress.text.languages import select

ASIDE = "aside"  # of tallies, those of other settings
DROPPED = "{} scores on {} were of another model, and are dropped"
WINDOW = 1024  # tokens in a window, where the model has as many positions


def evaluate(
    opened: Opened,
    out: Path,
    asked: EvaluationSettings,
    *,
    memory_mb: int = 256,
    ranges: Ranges | None = None,
    progress: Progress = silent,
) -> list[Row]:
    """Score a model and keep every tally; gives the rows of results.jsonl.

    `ranges` are for evaluations that need them. What was measured before on the same model and text
    is not measured again; scores on other corpora stay, those of other settings are set aside until
    they are asked for again, those of another model are dropped. Before anything is scored raises
    BadSetting, BadCorpus naming a language that is not there, or BadModel for an encoder where one
    evaluation is of next tokens.
    """
    for name in asked.on:
        if evals.facts(name).needs_ranges and ranges is None:
            raise BadSetting(f"{name} must know what calibration saw: {MOMENTS}")
    wanted = wanted_of(asked)
    scoring = evals.through(asked.on, asked.options)
    check_heads(scoring, type(opened.model).__name__)
    both_sides = any(map(evals.one_sided, scoring)) and sees_both_sides(opened.model)
    check_kind(scoring, opened.model.config.to_dict(), both_sides=both_sides)
    model = {
        "model": weights_hash(opened.model),
        "tokenizer": tokenizer_hash(opened.tokenizer),
    }
    found: list[Row] = []
    with held(out), remembering():
        remove_partials(out, names=f".{RESULTS}{PARTIAL}")
        remove_partials(out / TALLIES)
        for each in wanted:
            looked = ranges if evals.facts(each.name).needs_ranges else None
            said = _said(each.texts)
            work = _Work.of(opened, model, each, asked, memory_mb, looked)
            for line in _said(each.texts)[len(said) :]:  # known only when documents were read
                remark(progress, line)
            found += _score(opened, out, work, progress)
        costs.keep(out, opened, model["model"])
    return found


def check_heads(on: Sequence[str], architecture: str) -> None:
    """Raise BadModel where a class of models lacks the head that an evaluation scores."""
    for wanted in map(evals.head, on):
        if not architecture.endswith(wanted):
            raise no_head(architecture, wanted)


def texts_of(name: str, corpus: str, given: Mapping[str, Any]) -> Texts:
    """The documents of an evaluation: its own, else the test split of a corpus.

    Of the options given those that are of its texts are taken.
    """
    own = evals.EVALUATIONS.optional(name, "texts")
    return own(corpus, **taken(own, given)) if own else open_corpus(corpus)


def _said(texts: Texts) -> tuple[str, ...]:
    """What texts say of themselves."""
    return tuple(texts.says()) if isinstance(texts, Says) else ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """One evaluation: its texts, its languages that have a score, and its options as they came out.

    No document is read yet.
    """

    name: str
    texts: Texts
    tags: tuple[str, ...]
    options: dict[str, Any]


def wanted_of(asked: EvaluationSettings) -> list[Wanted]:
    """Every evaluation asked for, with its texts opened.

    A language that an evaluation compares others with is left out where others are asked for too.
    Raises BadSetting for an option that cannot be, BadSetting or BadCorpus naming a language that
    is not there, or one that stands alone.
    """
    given = evals.options_of(asked.on, asked.options)
    for name in asked.on:
        evals.check(name, given[name])
    found: list[Wanted] = []
    for name in asked.on:
        texts, options = texts_of(name, asked.corpus, given[name]), given[name]
        pivot = evals.compared_with(name, options)
        tags = texts.languages()
        if asked.languages:
            tags = select(asked.languages, among=sorted({*tags, *([pivot] if pivot else [])}))
            tags = [tag for tag in tags if tag != pivot] or tags
        texts.require(tags)
        if isinstance(texts, Finds):
            options = {**options, **texts.found()}
        found.append(Wanted(name, texts, tuple(tags), options))
    return found


@dataclass(frozen=True, slots=True)
class _Work:
    """One evaluation of one model: its documents by language, and what it is given."""

    name: str
    corpus: str
    documents: Mapping[str, Sequence[Document]]
    identity: dict[str, Any]
    given: dict[str, Any]
    metric: str
    ranges: Ranges | None

    @classmethod
    def of(
        cls,
        opened: Opened,
        model: Mapping[str, str],
        wanted: Wanted,
        asked: EvaluationSettings,
        memory_mb: int,
        ranges: Ranges | None,
    ) -> "_Work":
        name, texts, options = wanted.name, wanted.texts, wanted.options
        documents = {tag: asked.taken(tag, texts.documents(tag, "test")) for tag in wanted.tags}
        window = asked.window or fitting_length(opened, WINDOW)
        made_with = evals.made_with(name, options)
        if evals.is_timed(name):
            made_with |= machine(opened.model.device)
        usual = evals.options(name)
        own = {key: value for key, value in options.items() if value != usual.get(key)}
        identity = {
            **model,
            "corpus": texts.name,
            "documents": asked.documents,
            **({"skip": asked.skip} if asked.skip else {}),
            "window": window,
            **({"options": own} if own else {}),
            **({"made_with": made_with} if made_with else {}),
            **({"ranges": ranges.fingerprint()} if ranges else {}),
        }
        common = {"window": window, "memory_mb": memory_mb}
        given = {key: value for key, value in common.items() if evals.accepts(name, key)}
        given |= taken(evals.EVALUATIONS.get(name), options)
        metric = evals.metric(name, options)
        return cls(name, texts.name, documents, identity, given, metric, ranges)


def _score(opened: Opened, out: Path, work: _Work, progress: Progress) -> list[Row]:
    """Score what is not there yet, and write the rows."""
    check_tokens(opened.model, opened.tokenizer, work.documents)
    kept, tags = _Kept.open(out, work, progress), list(work.documents)
    measure = evals.EVALUATIONS.get(work.name)
    given = dict(work.given)
    if evals.accepts(work.name, "kept"):
        given["kept"] = Likelihoods.open(out, work.identity["model"], work.identity["tokenizer"])
    for done, tag in enumerate(tags):
        documents = work.documents[tag]
        # Times are measured anew whenever they are asked for: the machine may be another by now.
        if evals.is_timed(work.name) or not kept.has(tag, documents):
            looked: dict[str, Any] = {"ranges": work.ranges.largest} if work.ranges else {}
            if evals.accepts(work.name, "detail"):
                looked["detail"] = kept.put_sites
            measured = measure(opened.model, opened.tokenizer, {tag: documents}, **given, **looked)
            kept.put(tag, documents, measured[tag], evals.baselines(work.name, documents))
        progress(f"eval {work.name}: language", done + 1, len(tags))
    back = sorted(set(kept.texts) - set(tags))  # they may have been set aside, rows and all
    new = [_row(opened.name, tag, work, kept) for tag in [*tags, *back]]
    others = [row for row in read_results(out) if not _is_of(row, work, [*tags, *back])]
    write_results(out, others + new)
    return [row for row in read_results(out) if _is_of(row, work, tags)]


def _is_of(row: Row, work: _Work, tags: Sequence[str]) -> bool:
    """Whether a row is of this evaluation on this corpus, in one of these languages."""
    same = (row["evaluation"], row.get("corpus", "")) == (work.name, work.corpus)
    return same and row["language"] in tags


def _row(model: str, tag: str, work: _Work, kept: "_Kept") -> Row:
    tally, held_against = kept.tally(tag), kept.baselines.get(tag, {})
    return {
        "model": model,
        "language": tag,
        "evaluation": work.name,
        "corpus": work.corpus,
        "metric": work.metric,
        "value": tally.value,
        "numerator": float(tally.numerator_D.sum()),
        "denominator": float(tally.denominator_D.sum()),
        "documents": len(tally.documents),
        "seed": None,
        "made_with": work.identity.get("made_with"),
        **{key: held_against.get(key) for key in evals.HELD_AGAINST},
    }


@dataclass(frozen=True, slots=True)
class _Kept:
    """The tallies of one evaluation on one corpus in a folder, and what each is of.

    That is written so that no tally is ever taken for one of another model or text, wherever a
    process dies. `texts` are hashes of documents, `files` those of tallies, and `baselines` what
    scores are held against, by language.
    """

    folder: Path
    name: str
    corpus: str
    identity: dict[str, Any]
    texts: dict[str, str]
    files: dict[str, str]
    baselines: dict[str, dict[str, float]]

    @classmethod
    def open(cls, folder: Path, work: _Work, progress: Progress) -> "_Kept":
        """What is there of the same model and settings.

        On this corpus what is of other settings is set aside, and came of the same ones before is
        brought back; what is of another model is dropped, on all corpora.
        """
        _drop_other_models(folder, work, progress)
        path = facts_path(folder, work.name, work.corpus)
        there = identity_of(folder, work.name, work.corpus)
        if path.exists() and there != work.identity:
            said = DROPPED.format(work.name, work.corpus)
            if there.get("model") == work.identity["model"]:
                other = _other_settings(there, work.identity)
                said = f"scores with {other} are set aside; the same call has them again"
                _set_aside(folder, work.name, work.corpus, there)
            _drop(folder, work.name, work.corpus)
            remark(progress, said)
        if not path.exists():
            _bring_back(folder, work.name, work.corpus, work.identity)
        if path.exists():
            found = read_json(path)
            texts, files = found["texts"], found.get("files", {})
            held_against = found.get(BASELINES, {})
            return cls(folder, work.name, work.corpus, work.identity, texts, files, held_against)
        kept = cls(folder, work.name, work.corpus, work.identity, {}, {}, {})
        kept._note()
        return kept

    def has(self, tag: str, documents: Sequence[Document]) -> bool:
        """Whether the tally of exactly this text is there, as it was written."""
        path = self._path(tag)
        there = self.texts.get(tag) == _hash(documents) and path.exists()
        return there and self.files.get(tag, "") in ("", sha256_file(path))

    def put(
        self,
        tag: str,
        documents: Sequence[Document],
        tally: Tally,
        baselines: Mapping[str, float],
    ) -> None:
        """Keep a tally, and what its score is held against."""
        if self.texts.pop(tag, None):
            self._note()
        tally.save(self._path(tag))
        self.files[tag] = sha256_file(self._path(tag))
        self.texts[tag] = _hash(documents)
        if baselines:
            self.baselines[tag] = dict(baselines)
        self._note()

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
        }
        write_sealed(facts_path(self.folder, self.name, self.corpus), value)

    def _path(self, tag: str) -> Path:
        row = {"evaluation": self.name, "corpus": self.corpus, "language": tag}
        return tally_path(self.folder, row)


def _drop_other_models(folder: Path, work: _Work, progress: Progress) -> None:
    """Drop the scores of this evaluation on other corpora that are of another model."""
    for corpus in {row.get("corpus", "") for row in read_results(folder)} - {work.corpus}:
        path = facts_path(folder, work.name, corpus)
        if path.exists() and read_json(path)["identity"]["model"] != work.identity["model"]:
            _drop(folder, work.name, corpus)
            remark(progress, DROPPED.format(work.name, corpus))


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
