"""Losses by block and option against a slow loop that presses one block and runs whole models."""

import copy
import math

import pico
import pytest
import torch
from pressing import SHARES, dense_moments, loud, text
from running import refusal

from babelpress.errors import BadModel, NotFinite
from babelpress.models.linears import linears, weight
from babelpress.models.walk import Walk
from babelpress.press.blocks import press_block
from babelpress.press.method import Pruner
from babelpress.steps import _tabling
from babelpress.steps._tabling import Measure, divergence
from babelpress.system.offload import on_disk
from babelpress.train import reading
from babelpress.train.batches import Blocks, Marks

pytestmark = pytest.mark.usefixtures("one_thread")
PAD, MASK = 2, 1
PATTERNS = ("0.75", "0.25")
ENCODERS = ("bert", "albert")
every_family = pytest.mark.parametrize(
    "family", ["llama", "gpt2", "gemma3", "gemma4", "bloom", "qwen3_moe", *ENCODERS]
)


def read(family):
    """Three languages of unequal length; a decoder's last blocks end in padding."""
    encodes = family in ENCODERS
    marks = Marks(PAD, frozenset({0, 1, 2}), MASK if encodes else None, pico.VOCABULARY)
    return Blocks(text(40 if encodes else PAD), marks, "hidden" if encodes else "next")


def presses(walk, moments, index):
    """Wanda at two patterns, on one block."""

    def of(pattern):
        method = Pruner.of("wanda", pattern)
        return lambda: press_block(walk, index, moments[index], method, SHARES, {})

    return [of(pattern) for pattern in PATTERNS]


def slow(dense, pressed, measure):
    """Σ p·ln(p/q) over all tokens that come next or are hidden, one text at a time, in float64."""
    sums, count = {}, {}
    for batch in measure.batches:
        for row, tag in enumerate(batch.languages_B):
            one = batch.ids_BT[row][None]
            with torch.no_grad():
                logits = [pico.passed(each, one).logits[0].double() for each in (dense, pressed)]
            for place in batch.scored_BT[row].nonzero().flatten().tolist():
                p, q = (each[place].softmax(0) for each in logits)
                lost = sum(float(a) * float(torch.log(a / b)) for a, b in zip(p, q, strict=True))
                sums[tag] = sums.get(tag, 0.0) + lost
                count[tag] = count.get(tag, 0) + 1
    return {tag: sums[tag] / count[tag] for tag in sums}


@every_family
def test_losses_are_those_of_whole_models_in_which_one_block_is_pressed(family):
    model = loud(family)
    walk = Walk(model)
    moments = dense_moments(walk)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    measure = Measure.of(walk, read(family))

    todo = measure.begins
    for index in range(len(walk.blocks)):
        found = measure.of_block(index, todo, presses(walk, moments, index))
        for pattern, losses in zip(PATTERNS, found, strict=True):
            other = copy.deepcopy(model)
            press_block(Walk(other), index, moments[index], Pruner.of("wanda", pattern), SHARES, {})
            assert losses == pytest.approx(slow(model, other, measure), rel=1e-3, abs=1e-9)
        assert min(found[0].values()) > 1e-5
        assert found[0] != found[1]
        todo = measure.next(index, todo)

    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_losses_of_a_whole_model_are_those_of_all_its_blocks_pressed(family):
    model = loud(family)
    walk = Walk(model)
    moments = dense_moments(walk)
    measure = Measure.of(walk, read(family))
    other = copy.deepcopy(model)
    for index in range(len(walk.blocks)):
        press_block(Walk(other), index, moments[index], Pruner.of("wanda", "0.75"), SHARES, {})

    found = measure.of_all([presses(walk, moments, index)[0] for index in range(2)])

    assert found == pytest.approx(slow(model, other, measure), rel=1e-3, abs=1e-9)


def test_what_is_not_pressed_loses_exactly_nothing():
    walk = Walk(loud())
    measure = Measure.of(walk, read("llama"))

    assert measure.of_all([lambda: None] * 2) == dict.fromkeys(SHARES, 0.0)
    assert measure.of_block(1, measure.next(0, measure.begins), [lambda: None]) == [
        dict.fromkeys(SHARES, 0.0)
    ]


def test_logits_are_made_a_few_tokens_at_a_time_with_the_same_sums(monkeypatch):
    walk = Walk(loud())
    moments = dense_moments(walk)
    whole = Measure.of(walk, read("llama")).of_all([presses(walk, moments, 0)[0], lambda: None])
    monkeypatch.setattr(reading, "NUMBERS", 3 * pico.VOCABULARY)
    largest = []

    def watched(log_p_NV, log_q_NV):
        largest.append(log_p_NV.numel())
        return divergence(log_p_NV, log_q_NV)

    monkeypatch.setattr(_tabling, "divergence", watched)

    found = Measure.of(walk, read("llama")).of_all([presses(walk, moments, 0)[0], lambda: None])

    assert max(largest) == 3 * pico.VOCABULARY
    assert found == pytest.approx(whole, rel=1e-5)


def test_states_may_lie_on_disk_with_the_same_numbers(tmp_path):
    walk = Walk(loud())
    moments = dense_moments(walk)
    one = Measure.of(walk, read("llama"))
    other = Measure.of(walk, read("llama"), on_disk(tmp_path))

    found = [m.of_block(0, m.begins, presses(walk, moments, 0)) for m in (one, other)]

    assert found[0] == found[1]


def test_what_both_exclude_counts_nowhere_and_nothing_overflows():
    p = torch.tensor([[0.5, 0.5, 0.0, 1e-30], [0.0, 1e-30, 0.0, 1.0]])
    q = torch.tensor([[0.25, 0.25, 0.0, 0.5], [0.0, 0.75, 0.0, 0.25]])

    found = float(divergence(p.log(), q.log()))

    assert found == pytest.approx(math.log(2) + math.log(4), rel=1e-6)


def test_what_only_the_dense_model_excludes_costs_its_share():
    p = torch.tensor([[0.5, 0.5, 0.0]])
    q = torch.tensor([[0.3, 0.3, 0.4]])

    assert float(divergence(p.log(), q.log())) == pytest.approx(math.log(0.5 / 0.3), rel=1e-6)


def test_small_losses_do_not_drown_in_roundings():
    """Where every logit moves by 1e-4 times noise, the loss is half the variance of that."""
    lot = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(8, 5000, generator=lot)
    moved = logits + 1e-4 * torch.randn(8, 5000, generator=lot)
    exact = [each.double().log_softmax(1) for each in (logits, moved)]
    expected = float((exact[0].exp() * (exact[0] - exact[1])).sum())

    found = float(divergence(logits.log_softmax(1), moved.log_softmax(1)))

    assert found == pytest.approx(expected, rel=0.02)


def test_a_block_is_what_it_was_whatever_happens_inside():
    walk = Walk(loud())
    measure = Measure.of(walk, read("llama"))
    before = {name: each.clone() for name, each in walk.blocks[0].state_dict().items()}

    def broken():
        for each in walk.blocks[0].parameters():
            each.data.zero_()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure.of_block(0, measure.begins, [broken])

    assert all(torch.equal(before[n], each) for n, each in walk.blocks[0].state_dict().items())


def test_a_model_that_gives_no_numbers_is_an_error():
    walk = Walk(loud())
    measure = Measure.of(walk, read("llama"))

    def broken():
        weight(linears(walk.blocks[0])["mlp.down_proj"]).fill_(float("nan"))

    words = refusal(NotFinite, measure.of_all, [broken, lambda: None])

    assert "eng_Latn is nan" in words


@pytest.mark.parametrize("family", ["t5", "xlm_roberta"])
def test_a_model_that_predicts_no_tokens_of_one_text_is_refused(family):
    walk = Walk(pico.model(family))

    words = refusal(BadModel, _tabling.check, "this", walk)

    assert words.startswith("this (")
    assert "does not predict next or hidden tokens of one text" in words
