"""Times against a clock that is made up, and real ones against what they must be at least."""

import itertools
import time
from types import SimpleNamespace

import numpy as np
import pico
import pytest
import torch
from small import documents, opened

from babelpress import evals
from babelpress.errors import BadCorpus, BadModel, BadSetting
from babelpress.evals import latency
from babelpress.evals.latency import SHOWN, measure
from babelpress.numerics.tally import Tally
from babelpress.system.energy import UNREADABLE

TEXTS = {"eng_Latn": ["hello, world", "the rain in Spain", "no"], "tha_Thai": ["สวัสดี"]}


class Clock:
    """A clock that only reading a text moves: a tenth of a second a token, and more every time."""

    def __init__(self):
        self.now = 0.0
        self.reads: list[list[int]] = []

    def __call__(self):
        return self.now

    def read(self, mask_BT):
        sizes = mask_BT.sum(1).tolist()
        self.reads.append(sizes)
        self.now += 0.1 * sum(sizes) + 0.001 * len(self.reads) ** 2


@pytest.fixture
def clock(monkeypatch):
    """The clock of latency, moved by a model that does nothing else."""
    made = Clock()
    monkeypatch.setattr(latency, "perf_counter", made)
    return made


@pytest.fixture
def read(clock):
    """`measure` of a decoder that moves the clock as it reads."""
    model = opened().model
    inner = model.forward

    def forward(input_ids=None, attention_mask=None, use_cache=None, logits_to_keep=0):
        if logits_to_keep:  # not the trial that tells decoders from encoders
            assert use_cache is False
            clock.read(attention_mask)
        return inner(input_ids, attention_mask=attention_mask, logits_to_keep=logits_to_keep)

    model.forward = forward
    tokenizer = opened().tokenizer

    def timed(some, **options) -> dict[str, Tally]:
        return measure(model, tokenizer, some, **options)

    return timed


def slow_times(sizes, *, warm, repeats, batch):
    """Milliseconds of each text and round, then of each batch and round; the clock read by read."""
    count = itertools.count(1)
    for _ in range(warm):
        next(count)
    alone = [[100 * n + next(count) ** 2 for n in sizes] for _ in range(repeats)]
    whole = list(itertools.islice(itertools.cycle(sizes), 0, batch * -(-len(sizes) // batch)))
    groups = [whole[at : at + batch] for at in range(0, len(whole), batch)]
    for _ in groups[:1] if warm else ():
        next(count)
    together = [[100 * sum(g) + next(count) ** 2 for g in groups] for _ in range(repeats)]
    return alone, groups, together


@pytest.mark.parametrize(("repeats", "batch", "warm"), [(3, 2, 1), (2, 5, 0), (4, 3, 7)])
def test_every_time_equals_a_slow_count_by_a_clock(read, clock, repeats, batch, warm):
    told = {}
    some = documents({"eng_Latn": TEXTS["eng_Latn"]})

    found = read(
        some,
        window=64,
        repeats=repeats,
        batch=batch,
        warm=warm,
        detail=lambda tag, parts: told.update({tag: parts}),
    )

    sizes = [sum(each) for each in clock.reads[warm : warm + 3]]
    alone, groups, together = slow_times(sizes, warm=warm, repeats=repeats, batch=batch)
    tally = found["eng_Latn"]
    medians = [float(np.median(column)) for column in zip(*alone, strict=True)]
    assert tally.numerator_D == pytest.approx(medians)
    assert tally.value == pytest.approx(sum(medians) / 3)
    parts = told["eng_Latn"]
    assert set(parts) <= set(SHOWN)
    each = [ms for row in alone for ms in row]
    assert parts["alone: ms, median"] == pytest.approx(np.median(each))
    assert parts["alone: lower quartile"] == pytest.approx(np.percentile(each, 25))
    assert parts["alone: upper quartile"] == pytest.approx(np.percentile(each, 75))
    assert parts["alone: tokens a text"] == pytest.approx(sum(sizes) / 3)
    assert parts["alone: tokens a second"] == pytest.approx(1000 * repeats * sum(sizes) / sum(each))
    rounds = [sum(row) for row in alone]
    assert parts["alone: rounds apart"] == pytest.approx(max(rounds) / min(rounds) - 1)
    shared = [ms / batch for row in together for ms in row]
    assert parts["batched: ms, median"] == pytest.approx(np.median(shared))
    tokens = sum(map(sum, groups))
    assert parts["batched: tokens a text"] == pytest.approx(tokens / (batch * len(groups)))
    assert parts["batched: tokens a second"] == pytest.approx(
        1000 * repeats * tokens / sum(ms for row in together for ms in row)
    )


def test_batches_are_full_and_texts_come_anew(read, clock):
    read(documents(TEXTS), window=64, repeats=1, batch=2, warm=0)

    counts = [len(sizes) for sizes in clock.reads]
    assert counts == [1, 1, 1, 2, 2, 1, 2]
    three, last = clock.reads[2], clock.reads[4]
    assert last == [three[0], clock.reads[0][0]]


def test_texts_are_the_first_ones_and_cut_to_the_window(read, clock):
    found = read(documents(TEXTS), window=4, texts=2, repeats=1, warm=0)

    assert found["eng_Latn"].documents == ("src/0", "src/1")
    assert max(max(sizes) for sizes in clock.reads) == 4


def test_joules_are_told_where_they_can_be_read(read, clock, monkeypatch):
    told = {}
    monkeypatch.setattr(latency, "Meter", lambda: SimpleNamespace(joules=lambda: 12.0))

    read(
        documents({"tha_Thai": TEXTS["tha_Thai"]}),
        window=64,
        repeats=3,
        batch=4,
        detail=lambda _tag, parts: told.update(parts),
    )

    assert told["alone: joules a text"] == pytest.approx(12 / 3)
    assert told["batched: joules a text"] == pytest.approx(12 / (3 * 4))


def test_it_is_said_where_energy_cannot_be_read(monkeypatch):
    monkeypatch.setattr(latency, "counters", list)

    assert evals.notes("latency") == (UNREADABLE,)


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2"])
def test_real_times_of_any_family_add_up_to_no_more_than_went_by(family):
    model, tokenizer = pico.model(family), pico.tokenizer()
    start = time.perf_counter()

    found = measure(model, tokenizer, documents(TEXTS), window=32, repeats=2, batch=2)

    went = 1000 * (time.perf_counter() - start)
    assert all(0 < tally.value < went for tally in found.values())
    assert sum(2 * tally.numerator_D.sum() for tally in found.values()) < went
    assert not model.training


def test_an_encoder_has_its_tokens_around_a_text():
    model = pico.model("bert")
    inner, seen = model.forward, []

    def forward(input_ids=None, attention_mask=None):
        seen.append(input_ids)
        return inner(input_ids, attention_mask=attention_mask)

    model.forward = forward
    tokenizer = pico.tokenizer()
    measure(model, tokenizer, documents({"eng_Latn": ["hello"]}), window=5, repeats=1, warm=0)

    ids = tokenizer("hello", add_special_tokens=False)["input_ids"]
    expected = [tokenizer.bos_token_id, *ids[:3], tokenizer.eos_token_id]
    assert seen[0].tolist() == [expected]
    assert torch.equal(seen[1], torch.tensor([expected] * 32))


@pytest.mark.parametrize(
    "options", [{"texts": 0}, {"repeats": 0}, {"batch": 0}, {"warm": -1}, {"batch": True}]
)
def test_counts_that_time_nothing_are_refused(options):
    given = {"texts": 2, "repeats": 2, "batch": 2, "warm": 2, **options}

    with pytest.raises(BadSetting, match="must be a whole number from"):
        latency.check(given)


def test_what_has_no_text_or_writes_as_it_reads_is_refused():
    small = opened()
    with pytest.raises(BadCorpus, match="eng_Latn has no text"):
        measure(small.model, small.tokenizer, {"eng_Latn": []}, window=64)
    small.model.config.is_encoder_decoder = True
    with pytest.raises(BadModel, match="is an encoder-decoder"):
        measure(small.model, small.tokenizer, documents(TEXTS), window=64)
