"""Perturb: how many times worse a score is on texts with slips, or without diacritics or capitals.

Every document is scored twice, as it is and changed, by another evaluation (`of`): masked for
encoders and bits_per_byte for decoders if not named; ner, classify or top1 else. The score is
changed over clean where lower is better, and clean over changed where higher is: 1 where nothing is
lost, and 1.2 where the changed texts score a fifth worse. A pressed model is compared with its
dense parent by this ratio: it may lose on clean text and yet be no more sensitive.

`kind` is typos (at `rate` of the letters), diacritics, lower, upper (text/perturb.py), or, of ner,
entities: every name is taken for another of its type, drawn from the training texts of the same
language (Ogueji et al. 2022, arXiv:2211.02738, swap entities of one place for those of another).
A language in whose script a kind changes nothing is left out. Beside the score stand both scores,
the 95 % interval of the ratio, and the share of words that changed: where that is 0, so is the
harm.

The ratio is one of two ratios. What is tallied has one denominator: of each document the numerators
of both, one of them times the constant that makes the whole exact. Where bytes or texts are what is
divided by, which no model changes, so are the intervals; of ner, whose denominator counts what a
model finds, they are a little wide.

Shapes: D documents.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress import evals
from babelpress.errors import BadCorpus, BadSetting
from babelpress.evals import Detail, Document, Finds, Says, Texts, unheard
from babelpress.models.reading import sees_both_sides
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent
from babelpress.text import perturb as text
from babelpress.text.corpus import open_corpus
from babelpress.text.readers import listed

METRIC = "times_worse"
SPOKEN = "times worse on changed text"
LOWER_IS_BETTER = True
SCORES_BY = "of"
SHOWN = ("clean", "changed", "times worse", "low", "high", "words changed")

ENTITIES = "entities"
OF = ("masked", "bits_per_byte", "top1", "ner", "classify")  # whose parts are never below zero
OF_NAMES = "ner"
TRIES = 20  # to draw a name that is another than the one that is there

Name = tuple[str, ...]
"""The words of an entity."""


@runtime_checkable
class Worded(Protocol):
    """A document of words with a label each, or of one text with its label."""

    words: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Both:
    """A document as it is and changed, and how many of its words are."""

    clean: Document
    changed: Document
    words: tuple[int, int]

    @property
    def id(self) -> str:
        """That of the document."""
        return self.clean.id

    @property
    def text(self) -> str:
        """All that a score depends on."""
        return f"{self.clean.text}\n{self.changed.text}"


class Perturbed:
    """The documents of other texts, each with what becomes of it."""

    def __init__(self, inner: Texts, kind: str, rate: float, seed: int):
        self._inner, self._kind, self._rate, self._seed = inner, kind, rate, seed

    @property
    def name(self) -> str:
        """That of the texts: what is done to them is an option."""
        return self._inner.name

    def languages(self) -> list[str]:
        """Those in whose script something changes."""
        return [tag for tag in self._inner.languages() if self._applies(tag)]

    def says(self) -> tuple[str, ...]:
        """What the texts say, and the languages that are left out."""
        own = self._inner.says() if isinstance(self._inner, Says) else ()
        lost = [tag for tag in self._inner.languages() if not self._applies(tag)]
        if not lost:
            return own
        return (*own, f"{self._kind} change nothing in the script of {listed(lost)}: left out.")

    def found(self) -> Mapping[str, str]:
        """What the texts find out by themselves."""
        return self._inner.found() if isinstance(self._inner, Finds) else {}

    def require(self, tags: Iterable[str]) -> None:
        """Raise BadCorpus naming the languages that are not there, or in which nothing changes."""
        asked = list(tags)
        self._inner.require(asked)
        if lost := [tag for tag in asked if not self._applies(tag)]:
            raise BadCorpus(
                f"{self._kind} change nothing in the script of {listed(lost)}. Leave it out of "
                "--languages, or take another with --option kind=typos."
            )

    def documents(self, tag: str, split: str) -> list[Both]:
        """The documents of a language in one split, as they are and changed."""
        some = self._inner.documents(tag, split)
        names = self._names(tag) if self._kind == ENTITIES else {}
        return [self._both(tag, each, names) for each in some]

    def _applies(self, tag: str) -> bool:
        return self._kind == ENTITIES or text.applies(self._kind, tag)

    def _names(self, tag: str) -> dict[str, list[Name]]:
        """The names of every type in the training texts of a language, each once."""
        found: dict[str, set[Name]] = {}
        for each in map(_worded, self._inner.documents(tag, "train")):
            for kind, start, end in entities(each.labels):
                found.setdefault(kind, set()).add(each.words[start:end])
        if not found:
            raise BadCorpus(f"{tag} has no name in its training texts to take for another.")
        return {kind: sorted(names) for kind, names in found.items()}

    def _both(self, tag: str, document: Document, names: Mapping[str, Sequence[Name]]) -> Both:
        if names:
            return _swapped(document, names, Random(f"{self._seed} {tag} {document.id}"))

        def change(given: str) -> str:
            return text.perturbed(
                self._kind, given, tag, name=document.id, rate=self._rate, seed=self._seed
            )

        made: Any = document
        if isinstance(document, Worded):
            # All words at once, so that slips are drawn from the letters of the whole.
            before = "\n".join(document.words)
            after = change(before)
            words = tuple(after.split("\n")) if len(document.words) > 1 else (after,)
            return Both(document, replace(made, words=words), text.words_changed(before, after))
        after = change(document.text)
        counted = text.words_changed(document.text, after)
        return Both(document, replace(made, text=after), counted)


def texts(
    corpus: str, *, kind: str = "typos", rate: float = 0.05, seed: int = 0, of: str = ""
) -> Perturbed:
    """The documents of what is scored, its own or those of a corpus, as they are and changed."""
    own = evals.EVALUATIONS.optional(of, "texts") if of else None
    return Perturbed(own(corpus) if own else open_corpus(corpus), kind, rate, seed)


def check(options: Mapping[str, Any]) -> None:
    """Raise BadSetting for another kind, rate or evaluation than there is."""
    kind, rate, of = options["kind"], options["rate"], options["of"]
    kinds = (*text.KINDS, ENTITIES)
    if kind not in kinds:
        raise BadSetting(f"there is no perturbation '{kind}'. Choose one of {', '.join(kinds)}.")
    if not 0 < rate <= 1:
        raise BadSetting(f"rate is {rate}. Give a share of letters above 0, at most 1.")
    known = [name for name in OF if name in evals.EVALUATIONS.names()]
    if of and of not in known:
        raise BadSetting(f"of is '{of}'. What can be scored on changed text: {', '.join(known)}.")
    if kind == ENTITIES and of != OF_NAMES:
        raise BadSetting(f"names are told by labels alone: add --option of={OF_NAMES}.")


def made_with(options: Mapping[str, Any]) -> dict[str, str]:
    """What the scores of `of` hang on."""
    return evals.made_with(options["of"], {}) if options["of"] else {}


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Both]],
    *,
    window: int,
    of: str = "",
    memory_mb: int = 256,
    detail: Detail = unheard,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally per language whose value is how many times worse the changed texts score.

    `detail` is told SHOWN. Raises BadCorpus where nothing is right, and what `of` raises.
    """
    name = of or ("masked" if sees_both_sides(model) else "bits_per_byte")
    options = {"window": window, "memory_mb": memory_mb, "progress": progress}
    given = {key: value for key, value in options.items() if evals.accepts(name, key)}
    score = evals.EVALUATIONS.get(name)
    found: dict[str, Tally] = {}
    for tag, some in documents.items():
        clean = score(model, tokenizer, {tag: [each.clean for each in some]}, **given)[tag]
        changed = score(model, tokenizer, {tag: [each.changed for each in some]}, **given)[tag]
        if not (clean.numerator_D.sum() > 0 and changed.numerator_D.sum() > 0):
            raise BadCorpus(
                f"{tag} has a {name} score of zero, so there is no ratio to give. Leave it out of "
                "--languages."
            )
        found[tag] = ratio(clean, changed, lower=evals.facts(name).lower_is_better)
        low, high = found[tag].interval()
        differ, words = np.sum([each.words for each in some], axis=0)
        detail(
            tag,
            {
                "clean": clean.value,
                "changed": changed.value,
                "times worse": found[tag].value,
                "low": low,
                "high": high,
                "words changed": float(differ / max(words, 1)),
            },
        )
    return found


def ratio(clean: Tally, changed: Tally, *, lower: bool) -> Tally:
    """The score of changed documents over that of clean ones, or the inverse where not `lower`."""
    worse, better = (changed, clean) if lower else (clean, changed)
    exact = better.denominator_D.sum() / worse.denominator_D.sum()
    return Tally(clean.documents, worse.numerator_D * exact, better.numerator_D)


# ---- names ---------------------------------------------------------------------------------


def entities(labels: Sequence[str]) -> list[tuple[str, int, int]]:
    """The names in a sentence, in order, as the evaluation of names finds them."""
    return sorted(evals.EVALUATIONS.module(OF_NAMES).entities(labels), key=lambda each: each[1])


def _worded(document: Document) -> Worded:
    assert isinstance(document, Worded)
    return document


def _swapped(document: Document, names: Mapping[str, Sequence[Name]], random: Random) -> Both:
    """A sentence with other names of the same types; one of an unseen type stays."""
    given = _worded(document)
    words: list[str] = []
    labels: list[str] = []
    done = swapped = 0
    for kind, start, end in entities(given.labels):
        own = given.words[start:end]
        other = _other(names.get(kind, ()), own, random)
        words += [*given.words[done:start], *other]
        labels += [*given.labels[done:start], f"B-{kind}", *[f"I-{kind}"] * (len(other) - 1)]
        swapped += (end - start) * (other != own)
        done = end
    words += given.words[done:]
    labels += given.labels[done:]
    made = replace(cast(Any, document), words=tuple(words), labels=tuple(labels))
    return Both(document, made, (swapped, len(given.words)))


def _other(
    some: Sequence[tuple[str, ...]], own: tuple[str, ...], random: Random
) -> tuple[str, ...]:
    """Another name, drawn; the same one where there is no other."""
    for _ in range(TRIES if some else 0):
        drawn = some[int(random.random() * len(some))]
        if drawn != own:
            return drawn
    return own
