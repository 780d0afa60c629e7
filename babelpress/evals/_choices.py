"""Log-likelihoods of the choices of items, and which choice they rank first.

A choice is scored as what follows `before`: the sum over its tokens of the log-probability of each,
given all that comes before it, after BOS (else EOS). Text is tokenised as a whole, for a word at
the border may share a token with what is before it. Choices of an item after the same `before` are
scored from the first token in which any of them leaves the tokens of `before`: so they differ by
exactly what the probabilities of the whole texts do. Where what is before differs from choice to
choice, each is scored from where its own ends.

What choices have in common before them is read once (`_begun.py`).

What is longer than a window loses its beginning; all choices after one beginning lose the same.

Shapes: T tokens of a text.

Tested in tests/evals/test_choice.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any, Protocol

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadCorpus, BadModel, BadSetting
from babelpress.evals._items import Item
from babelpress.evals._next_token import nats, told_sums
from babelpress.evals._windows import Prepared, Window, prefix_of
from babelpress.models.tokenizers import encode
from babelpress.system.files import fingerprint
from babelpress.system.progress import Progress

NORMALISE = ("none", "tokens", "bytes")


class Kept(Protocol):
    """Where what a model said is kept, by what it was said of."""

    def get(self, key: str) -> Mapping[str, Any] | None: ...

    def put(self, key: str, value: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Said:
    """What a model says of the choices of one item: log-likelihoods in nats, and their tokens."""

    item: Item
    likelihoods: tuple[float, ...]
    tokens: tuple[int, ...]

    def scores(self, normalise: str) -> list[float]:
        """One a choice: its log-likelihood, or that by its tokens or by its UTF-8 bytes."""
        if normalise == "none":
            return list(self.likelihoods)
        sizes: Sequence[int] = self.tokens
        if normalise == "bytes":
            sizes = [len(each.scored.strip().encode()) for each in self.item.options]
        return [one / size for one, size in zip(self.likelihoods, sizes, strict=True)]


def first(scores: Sequence[float]) -> int:
    """The choice that is ranked first; of equal ones the first."""
    return max(range(len(scores)), key=scores.__getitem__)


def ranked(scores: Sequence[float]) -> list[int]:
    """All choices, best first; equal ones in their order."""
    return sorted(range(len(scores)), key=lambda choice: -scores[choice])


def check_normalise(normalise: str) -> None:
    """Raise BadSetting for a way to weigh lengths that is none."""
    if normalise not in NORMALISE:
        raise BadSetting(f"normalise is {normalise!r}. It is {', '.join(NORMALISE)}.")


def said(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tag: str,
    items: Sequence[Item],
    *,
    window: int,
    memory_mb: int,
    kept: Kept | None,
    what: str,
    progress: Progress,
) -> list[Said]:
    """What a model says of the choices of some items of one language, or what is kept of it.

    `what` is told to progress. Raises BadSetting where a choice is longer than a window, BadCorpus
    for a choice without a token, and what `_next_token.told_sums` raises.
    """
    if window < 1:
        raise BadSetting(f"a window of {window} tokens has room for no choice. Give at least 1.")
    key = fingerprint([window, [[each.id, each.text] for each in items]])
    there = kept.get(key) if kept else None
    if there is None:
        there = _score(model, tokenizer, tag, items, window, memory_mb, what, progress)
        if kept:
            kept.put(key, there)
    return [
        Said(item, tuple(likelihoods), tuple(tokens))
        for item, likelihoods, tokens in zip(
            items, there["likelihoods"], there["tokens"], strict=True
        )
    ]


def _score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tag: str,
    items: Sequence[Item],
    window: int,
    memory_mb: int,
    what: str,
    progress: Progress,
) -> dict[str, Any]:
    """By item, in their order: log-likelihoods and tokens of every choice, ready for JSON."""
    windows = _windows(tokenizer, tag, items, window)
    names = tuple(
        f"{item.id}, choice {number}"
        for item in items
        for number in range(1, len(item.options) + 1)
    )
    prepared = Prepared(names, np.zeros(len(names)), tuple(windows))
    items_of = [number for number, item in enumerate(items) for _ in item.options]
    loss = told_sums(
        model,
        {tag: prepared},
        nats,
        what=what,
        memory_mb=memory_mb,
        progress=progress,
        alike={tag: items_of},
    )
    likelihoods, tokens = (-loss[tag]).tolist(), [each.scored for each in windows]
    ends = np.cumsum([0, *(len(item.options) for item in items)]).tolist()
    spans = list(pairwise(ends))
    return {
        "language": tag,
        "items": [item.id for item in items],
        "likelihoods": [likelihoods[a:b] for a, b in spans],
        "tokens": [tokens[a:b] for a, b in spans],
    }


def _windows(
    tokenizer: PreTrainedTokenizerBase, tag: str, items: Sequence[Item], window: int
) -> list[Window]:
    """One window for every choice of every item, in their order, its choice scored."""
    prefix = prefix_of(tokenizer)
    options = [option for item in items for option in item.options]
    befores = encode(tokenizer, [each.before for each in options])["input_ids"]
    wholes = encode(tokenizer, [each.before + each.scored for each in options])["input_ids"]
    found: list[Window] = []
    for item in items:
        begin = len(found)
        own = slice(begin, begin + len(item.options))
        starts = _starts(item, befores[own], wholes[own], bare=prefix is None)
        cuts = [max(0, len(whole) - window - (prefix is None)) for whole in wholes[own]]
        if _begins_alike(item):
            cuts = [max(cuts)] * len(cuts)
        for number, (start, cut, whole) in enumerate(
            zip(starts, cuts, wholes[own], strict=True), 1
        ):
            size = len(whole) - start
            where = f"choice {number} of {item.id} in {tag}"
            if size < 1:
                raise BadCorpus(f"{where} has no token to score. Mend it, or its template.")
            if size > window:
                raise BadSetting(
                    f"{where} has {size} tokens, more than a window of {window} has room for. Give "
                    "a larger --window."
                )
            ids = [*([] if prefix is None else [prefix]), *whole[cut:]]
            found.append(Window(begin + number - 1, np.array(ids, dtype=np.int64), size))
    return found


def _starts(
    item: Item, befores: Sequence[list[int]], wholes: Sequence[list[int]], *, bare: bool
) -> list[int]:
    """Where in the tokens of each whole the scored ones begin.

    A `bare` text begins with nothing, so its first token is no prediction.
    """
    common = [
        sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, whole, strict=False)))
        for before, whole in zip(befores, wholes, strict=True)
    ]
    if _begins_alike(item):
        common = [min(common)] * len(common)
    if bare and 0 in common:
        raise BadModel(
            f"{item.id} begins with a choice, and the tokenizer has neither BOS nor EOS to score "
            "it after. Use a template with words before the choice."
        )
    return common


def _begins_alike(item: Item) -> bool:
    return len({each.before for each in item.options}) == 1
