"""Latency: how many milliseconds the model takes to read a text, one at a time and in batches.

A text is read by one forward pass over its tokens, of a decoder with the logits of the last one, as
a server reads a prompt; what a decoder writes after it is not timed, and tokenizing neither. First
`warm` texts are read and not timed, and before batches are timed a batch. Then every text is read
alone, all of them one after another, `repeats` times over; a text's time is the median of its
`repeats`, and the score is the mean of these over texts. The texts are the first `texts` of a
language; what is longer than the window is cut to it. Languages differ, for a tokenizer cuts some
into more tokens than others.

Beside the score stand, one text at a time and `batch` at a time (padded; the texts anew from the
first where they are fewer): the median and the quartiles of all times in milliseconds a text, the
tokens read in a second, how much longer the slowest round took than the fastest, and where
processors tell it (RAPL) the joules a text.

Times are of one machine: its processor and threads are part of the score, and two models are
compared only where they are the same. Measure both in one go, on a machine that does nothing else:
rounds that lie far apart say that it did. Times of the same text are drawn
together by the bootstrap, so that an interval says how much the result depends on the texts, not on
the machine's moods; those are told by the quartiles.

Shapes: B texts of a batch, T tokens of the longest of them, N texts, R repeats.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import cycle, islice
from time import perf_counter
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadModel, BadSetting
from babelpress.evals import Detail, Document, unheard
from babelpress.evals._windows import evaluating, no_text, prefix_of
from babelpress.models.around import Around
from babelpress.models.reading import sees_both_sides
from babelpress.models.tokenizers import check_known, encode, vocabulary_of
from babelpress.numerics.tally import Tally
from babelpress.system.energy import UNREADABLE, Meter, counters
from babelpress.system.progress import Progress, silent
from babelpress.text.pieces import padded

METRIC = "ms_per_text"
SPOKEN = "milliseconds a text"
LOWER_IS_BETTER = True
TIMED = True
SHOWN = (
    "alone: tokens a text",
    "alone: ms, median",
    "alone: lower quartile",
    "alone: upper quartile",
    "alone: tokens a second",
    "alone: rounds apart",
    "alone: joules a text",
    "batched: tokens a text",
    "batched: ms, median",
    "batched: lower quartile",
    "batched: upper quartile",
    "batched: tokens a second",
    "batched: rounds apart",
    "batched: joules a text",
)

Read = Callable[[Sequence[Sequence[int]]], None]


def check(options: Mapping[str, Any]) -> None:
    """Raise BadSetting for counts that time nothing."""
    for name, least in (("texts", 1), ("repeats", 1), ("batch", 1), ("warm", 0)):
        value = options[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BadSetting(f"{name} is {value}. It must be a whole number from {least}.")


def notes() -> tuple[str, ...]:
    """What is to be said beside such scores."""
    return () if counters() else (UNREADABLE,)


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Document]],
    *,
    window: int,
    texts: int = 32,
    repeats: int = 3,
    batch: int = 32,
    warm: int = 4,
    detail: Detail = unheard,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of milliseconds over texts per language.

    `detail` is told SHOWN, and joules where they can be read. Raises BadSetting for counts that
    time nothing, BadModel for an encoder–decoder, BadCorpus for a language without text.
    """
    check({"texts": texts, "repeats": repeats, "batch": batch, "warm": warm})
    if model.config.is_encoder_decoder:
        raise BadModel(
            f"{model.config.model_type} is an encoder-decoder, which writes as it reads: it has no "
            "time of reading alone. Leave latency out of --on."
        )
    tallies = {}
    with torch.inference_mode(), evaluating(model):
        put = _putter(model, tokenizer)
        read = _reader(model)
        for tag, some in documents.items():
            chosen = some[:texts]
            ids = _ids(tokenizer, tag, chosen, put, window, vocabulary_of(model))
            for each in islice(cycle(ids), warm):
                read([each])
            told = _told(progress, repeats * len(ids))
            alone = _timed([[each] for each in ids], repeats, read, told)
            groups = [list(islice(cycle(ids), at, at + batch)) for at in _starts(len(ids), batch)]
            if warm:  # what is first of a new shape takes longer
                read(groups[0])
            together = _timed(groups, repeats, read, lambda: None)
            detail(tag, alone.parts("alone") | together.parts("batched"))
            ms_N = np.median(alone.seconds_RN, axis=0) * 1000
            tallies[tag] = Tally(tuple(each.id for each in chosen), ms_N, np.ones(len(ms_N)))
    return tallies


@dataclass(frozen=True, slots=True)
class _Times:
    """Seconds of every round and group of texts, the texts and tokens of groups, joules of all."""

    seconds_RN: np.ndarray
    texts_N: np.ndarray
    tokens_N: np.ndarray
    joules: float | None

    def parts(self, how: str) -> dict[str, float]:
        """What is told of them."""
        ms_RN = self.seconds_RN * 1000 / self.texts_N
        low, middle, high = np.quantile(ms_RN, [0.25, 0.5, 0.75])
        rounds_R = self.seconds_RN.sum(1)
        tokens, texts = self.tokens_N.sum(), self.texts_N.sum()
        found = {
            "tokens a text": tokens / texts,
            "ms, median": middle,
            "lower quartile": low,
            "upper quartile": high,
            "tokens a second": len(rounds_R) * tokens / rounds_R.sum(),
            "rounds apart": rounds_R.max() / rounds_R.min() - 1,
        }
        if self.joules is not None:
            found["joules a text"] = self.joules / (len(rounds_R) * texts)
        return {f"{how}: {name}": float(value) for name, value in found.items()}


def _starts(texts: int, batch: int) -> range:
    """Where batches begin, so that every text is in one, and all are full."""
    return range(0, max(texts, 1), batch)


def _told(progress: Progress, total: int) -> Callable[[], None]:
    done = 0

    def told() -> None:
        nonlocal done
        done += 1
        progress("latency", done, total)

    return told


def _timed(
    groups: Sequence[Sequence[Sequence[int]]],
    repeats: int,
    read: Read,
    told: Callable[[], None],
) -> _Times:
    """Every group once in every round, so that a slow moment is not all of one text's."""
    seconds_RN = np.empty((repeats, len(groups)))
    meter = Meter()
    for round_R in seconds_RN:
        for place, group in enumerate(groups):
            start = perf_counter()
            read(group)
            round_R[place] = perf_counter() - start
            told()
    texts_N = np.array([len(group) for group in groups], dtype=float)
    tokens_N = np.array([sum(map(len, group)) for group in groups], dtype=float)
    return _Times(seconds_RN, texts_N, tokens_N, meter.joules())


def _putter(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Callable[[Sequence[int], int], list[int]]:
    """How tokens of a text are cut to a window, with what stands around them."""
    if sees_both_sides(model):
        around = Around.of(tokenizer)
        return lambda ids, window: around.put(ids[: max(0, window - around.number)])
    first = prefix_of(tokenizer)
    front = [] if first is None else [first]
    return lambda ids, window: [*front, *ids][:window]


def _ids(
    tokenizer: PreTrainedTokenizerBase,
    tag: str,
    documents: Sequence[Document],
    put: Callable[[Sequence[int], int], list[int]],
    window: int,
    known: int,
) -> list[list[int]]:
    found = encode(tokenizer, [each.text for each in documents])["input_ids"] if documents else []
    check_known(max((number for each in found for number in each), default=0), known, tag)
    ids = [put(each, window) for each in found]
    if not ids or not all(ids):
        raise no_text(tag)
    return ids


def _reader(model: PreTrainedModel) -> Read:
    """One forward pass; of a decoder only the last token's logits, as it would go on from there."""
    options: dict[str, Any] = {}
    accepts = signature(model.forward).parameters
    if "logits_to_keep" in accepts:
        options["logits_to_keep"] = 1
    if "use_cache" in accepts:
        options["use_cache"] = False

    def read(ids: Sequence[Sequence[int]]) -> None:
        ids_BT, mask_BT = (each.to(model.device) for each in padded(ids))
        model(input_ids=ids_BT, attention_mask=mask_BT, **options)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)

    return read
