"""RankC: how alike a model ranks the choices of the same items in a language and in English.

Qi, Fernández and Bisazza 2023 (arXiv:2310.10378), as Kim et al. use it. An item with C choices is
scored in both languages (`_choices.py`), and its choices are sorted by their scores, likeliest
first. P@j is the share of the first j of one order that are among the first j of the other, and an
item has Σ_j w_j·P@j with w_j = exp(C − j) / Σ_k exp(C − k), a softmax over ranks; the score is the
mean over items. Whether an answer is right does not count. The published code of Kim et al. sorts
the other way round, the least likely choice first; here the first is the likeliest.

Items are the same where their names are, so only tasks that are translations will do. Which task a
corpus is of is seen by its columns, or said with `task`. `pivot` is the language that others are
held against. `chance` is what orders drawn at random have in the mean:
w_j·j/C, summed; with two choices 0.634.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadCorpus, BadSetting
from babelpress.evals import _tasks, no_score
from babelpress.evals._choices import Kept, check_normalise, ranked, said
from babelpress.evals._items import Item, Items, open_items
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent
from babelpress.text import languages

METRIC = "rankc"
SPOKEN = "consistency of rankings with English"
LOWER_IS_BETTER = False
ONE_SIDED = True
COMPARED_WITH = "eng_Latn"


@dataclass(frozen=True, slots=True)
class Pair:
    """One item in a language and in the pivot."""

    own: Item
    pivot: Item
    pivot_tag: str

    @property
    def id(self) -> str:
        return self.own.id

    @property
    def text(self) -> str:
        """All that the score depends on."""
        return f"{self.own.text}\n{self.pivot.text}"


class Pairs:
    """The items of a task in every language but the pivot, each with the pivot's beside it."""

    def __init__(self, items: Items, pivot: str):
        self._items, self._pivot = items, pivot
        self._of_pivot: dict[str, Item] = {}

    @property
    def name(self) -> str:
        """That of the items."""
        return self._items.name

    def says(self) -> tuple[str, ...]:
        """What the items say is not read."""
        return self._items.says()

    def found(self) -> dict[str, str]:
        """The task that the items are of, and the tag of the pivot."""
        return {**self._items.found(), "pivot": self._pivot}

    def languages(self) -> list[str]:
        """All that have items, but the pivot."""
        return [tag for tag in self._items.languages() if tag != self._pivot]

    def require(self, tags: Iterable[str]) -> None:
        """Raises BadCorpus for a language without items, BadSetting for the pivot itself."""
        asked = list(tags)
        if self._pivot in asked:
            raise BadSetting(
                f"{no_score('rankc', self._pivot)} Name other languages with --languages, or "
                "another to compare with: --option pivot=LANGUAGE."
            )
        self._items.require(asked)

    def documents(self, tag: str, split: str) -> list[Pair]:
        """The items of a language in its order. Raises BadCorpus where the pivot lacks one."""
        if not self._of_pivot:
            self._of_pivot = {item.id: item for item in self._items.documents(self._pivot, split)}
        found: list[Pair] = []
        for item in self._items.documents(tag, split):
            other = self._of_pivot.get(item.id)
            if other is None or len(other.options) != len(item.options):
                raise BadCorpus(
                    f"{item.id} of {tag} is not in {self._pivot} with as many choices. RankC needs "
                    "a task whose items have equal names in both languages."
                )
            found.append(Pair(item, other, self._pivot))
        return found


def texts(
    corpus: str,
    *,
    task: str = "",
    prompts: str = "english",
    templates: str = "",
    pivot: str = COMPARED_WITH,
) -> Pairs:
    """The items of a task in two languages. Raises what `open_items` does, and BadSetting where
    languages have other items, or BadCorpus without any in the pivot.
    """
    items = open_items(task, corpus, prompts=prompts, templates=templates)
    if not _tasks.find(items.task).aligned:
        raise BadSetting(
            f"{items.task} has other items in every language, so rankings cannot be compared. Take "
            f"{', '.join(name for name, each in _tasks.TASKS.items() if each.aligned)}, or leave "
            "rankc out of --on."
        )
    tag = languages.find(pivot).tag
    if tag not in items.languages():
        raise BadCorpus(
            f"{items.name} has no {items.task} in {tag}, which others are held against. Name one "
            f"of {', '.join(items.languages())} with --option pivot=LANGUAGE."
        )
    return Pairs(items, tag)


def check(options: Mapping[str, Any]) -> None:
    """Raise BadSetting for a way to weigh lengths that is none."""
    check_normalise(options["normalise"])


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Pair]],
    *,
    window: int,
    normalise: str = "none",
    memory_mb: int = 256,
    kept: Kept | None = None,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of consistencies over items per language.

    `kept` is where log-likelihoods are looked for, and left: with one, the pivot is scored once.
    Raises what `_choices.said` raises.
    """
    check_normalise(normalise)
    found: dict[str, Tally] = {}
    for tag, pairs in documents.items():
        ranks: list[list[list[int]]] = []
        of_pivot = [pair.pivot for pair in pairs]
        for language, items in ((tag, [p.own for p in pairs]), (pairs[0].pivot_tag, of_pivot)):
            told = said(
                model,
                tokenizer,
                language,
                items,
                window=window,
                memory_mb=memory_mb,
                kept=kept,
                what="rankc",
                progress=progress,
            )
            ranks.append([ranked(each.scores(normalise)) for each in told])
        alike_D = np.array([consistency(own, other) for own, other in zip(*ranks, strict=True)])
        found[tag] = Tally(tuple(pair.id for pair in pairs), alike_D, np.ones(len(pairs)))
    return found


def consistency(one: Sequence[int], other: Sequence[int]) -> float:
    """RankC of two orders of the same choices, both best first."""
    both = [len({*one[:j]} & {*other[:j]}) / j for j in range(1, len(one) + 1)]
    return _weighted(both)


def baselines(pairs: Sequence[Pair]) -> dict[str, float]:
    """The mean of orders that are drawn at random."""
    sizes = [len(pair.own.options) for pair in pairs]
    each = [_weighted([j / size for j in range(1, size + 1)]) for size in sizes]
    return {"chance": math.fsum(each) / len(each)}


def _weighted(precision_C: Sequence[float]) -> float:
    """Σ_j w_j·P@j."""
    falling = [math.exp(-j) for j in range(len(precision_C))]
    return math.fsum(map(mul, falling, precision_C)) / math.fsum(falling)
