"""Score a model in every language, and keep what was measured.

Tested in tests/judge/test_scores.py and tests/judge/test_until.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from babelpress import evals
from babelpress.errors import BadSetting
from babelpress.evals import Document, Finds, Says, Texts
from babelpress.evals._labels import no_head, remembering
from babelpress.evals._windows import check_kind, check_tokens
from babelpress.judge import costs
from babelpress.judge.kept import Begun, Draw, Kept
from babelpress.judge.likelihoods import Likelihoods
from babelpress.judge.scores import RESULTS, TALLIES, UNTIL, Row, read_results, write_results
from babelpress.judge.settings import MOMENTS, EvaluationSettings
from babelpress.models.open import Opened
from babelpress.models.reading import sees_both_sides
from babelpress.models.tokenizers import tokenizer_hash
from babelpress.models.weights import weights_hash
from babelpress.moments.ranges import Ranges
from babelpress.numerics.tally import Tally
from babelpress.registry import taken
from babelpress.system.claims import PARTIAL, held, remove_partials
from babelpress.system.progress import Progress, remark, silent
from babelpress.system.surroundings import machine
from babelpress.text.corpus import open_corpus
from babelpress.text.draw import fitting_length
from babelpress.text.languages import select

WINDOW = 1024  # tokens in a window, where the model has as many positions


class Asker(Protocol):
    """Who knows when enough documents are scored (until.py)."""

    def begin(
        self,
        name: str,
        corpus: str,
        identity: Mapping[str, Any],
        documents: Mapping[str, Sequence[Document]],
    ) -> Mapping[str, Draw]:
        """The draw of every language. Raises where the question cannot be asked of these."""
        ...

    def most(self, tag: str) -> int:
        """How many documents of a language to score at most."""
        ...

    def unknown(self, tallies: Mapping[str, Tally]) -> list[str]:
        """The languages of which more has to be scored."""
        ...

    def said(self) -> str:
        """A line about what is known by now."""
        ...

    def told(self, tag: str) -> dict[str, Any]:
        """What a row says of why there are no more documents."""
        ...


def evaluate(
    opened: Opened,
    out: Path,
    asked: EvaluationSettings,
    *,
    memory_mb: int = 256,
    ranges: Ranges | None = None,
    until: Asker | None = None,
    progress: Progress = silent,
) -> list[Row]:
    """Score a model and keep every tally; gives the rows of results.jsonl.

    With `until` documents are scored in rounds until it is known what that asks, and no score of a
    whole text is given up for one of a part. Later calls, with a question or without, go on there.

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
            found += _score(opened, out, work, progress, until)
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
        most = asked.documents or None
        documents = {tag: texts.documents(tag, "test")[:most] for tag in wanted.tags}
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


def _score(
    opened: Opened, out: Path, work: _Work, progress: Progress, until: Asker | None
) -> list[Row]:
    """Score what is not there yet, and write the rows."""
    check_tokens(opened.model, opened.tokenizer, work.documents)
    asked = (work.name, work.corpus, work.identity, work.documents)
    draws = until.begin(*asked) if until else None
    kept = Kept.open(out, work.name, work.corpus, work.identity, progress)
    tags = list(work.documents)
    scoring = _Scoring(work, kept, _measuring(opened, out, work, kept))
    if until and draws is not None:
        scoring.until(until, draws, progress)
    else:
        for done, tag in enumerate(tags):
            scoring.whole(tag)
            progress(f"eval {work.name}: language", done + 1, len(tags))
    there = {*kept.texts, *kept.begun}
    back = sorted(there - set(tags))  # they may have been set aside, rows and all
    new = [_row(opened.name, tag, work, kept) for tag in [*tags, *back]]
    others = [row for row in read_results(out) if not _is_of(row, work, [*tags, *back])]
    write_results(out, others + new)
    return [row for row in read_results(out) if _is_of(row, work, tags)]


Measure = Callable[[str, Sequence[Document]], Tally]


def _measuring(opened: Opened, out: Path, work: _Work, kept: Kept) -> Measure:
    """What scores documents of a language."""
    measure = evals.EVALUATIONS.get(work.name)
    given = dict(work.given)
    if evals.accepts(work.name, "kept"):
        given["kept"] = Likelihoods.open(out, work.identity["model"], work.identity["tokenizer"])
    if work.ranges:
        given["ranges"] = work.ranges.largest
    if evals.accepts(work.name, "detail"):
        given["detail"] = kept.put_sites

    def of(tag: str, documents: Sequence[Document]) -> Tally:
        return measure(opened.model, opened.tokenizer, {tag: documents}, **given)[tag]

    return of


@dataclass(frozen=True, slots=True)
class _Scoring:
    """Scores languages of one evaluation, whole or round by round, and keeps what comes."""

    work: _Work
    kept: Kept
    measure: Measure

    def whole(self, tag: str) -> None:
        """All documents, going on with the rounds of those that were begun so."""
        documents = self.work.documents[tag]
        # Times are measured anew whenever they are asked for: the machine may be another by now.
        if not evals.is_timed(self.work.name) and self.kept.has(tag, documents):
            return
        if begun := self.kept.first(tag, documents):
            self.first(tag, begun.draw, len(documents), self.kept.until(tag))
            return
        tally = self.measure(tag, documents)
        self.kept.put(tag, documents, tally, evals.baselines(self.work.name, documents))

    def first(self, tag: str, draw: Draw, size: int, why: Mapping[str, Any]) -> Tally:
        """The rounds of a draw that have at most so many documents, or more that are there.

        A round is always of the same documents, however many are asked for: so a score does not
        tell where it stopped and went on.
        """
        documents = self.work.documents[tag]
        if self.kept.has(tag, documents):
            return self.kept.tally(tag)
        begun = self.kept.first(tag, documents)
        if begun is None or begun.draw != draw:
            begun = Begun(draw, Tally((), np.zeros(0), np.zeros(0)))
        for end in draw.rounds():
            done = len(begun.tally.documents)
            if done < end <= size:
                new = set(draw.order[done:end])
                some = [each for each in documents if each.id in new]
                begun = begun.joined(self.measure(tag, some), documents)
                if end == len(documents):
                    self.kept.put_last(tag, documents, begun.tally)
                else:
                    self.kept.put_first(tag, documents, begun, why)
        return begun.tally

    def until(self, asker: Asker, draws: Mapping[str, Draw], progress: Progress) -> None:
        """Round by round, of the languages that are not known yet."""
        tallies: dict[str, Tally] = {}
        unknown, number = list(draws), 0
        while unknown:
            for done, tag in enumerate(unknown):
                ends = [end for end in draws[tag].rounds() if end <= asker.most(tag)]
                end = ends[min(number, len(ends) - 1)]
                tallies[tag] = self.first(tag, draws[tag], end, asker.told(tag))
                what = f"eval {self.work.name}: round {number + 1}, language"
                progress(what, done + 1, len(unknown))
            unknown, number = asker.unknown(tallies), number + 1
            remark(progress, asker.said())
        for tag in self.kept.begun.keys() & draws.keys():
            self.kept.put_until(tag, asker.told(tag))


def _is_of(row: Row, work: _Work, tags: Sequence[str]) -> bool:
    """Whether a row is of this evaluation on this corpus, in one of these languages."""
    same = (row["evaluation"], row.get("corpus", "")) == (work.name, work.corpus)
    return same and row["language"] in tags


def _row(model: str, tag: str, work: _Work, kept: Kept) -> Row:
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
        **({UNTIL: why} if (why := kept.until(tag)) else {}),
    }
