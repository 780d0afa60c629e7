"""Training: the optimizer against torch's own, the loss against transformers', and whole runs."""

import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pico
import pytest
import torch
from safetensors.torch import load_file
from torch.optim import AdamW, Muon
from torch.optim.lr_scheduler import LambdaLR
from transformers import DataCollatorForLanguageModeling, LlamaForCausalLM

from babelpress.errors import BadModel, BadSetting
from babelpress.train import loop as training
from babelpress.train.fit import last_checkpoint
from babelpress.train.loop import (
    MasterWeights,
    Schedule,
    masked_loss,
    optimizer,
    sliced_loss,
    train,
)
from babelpress.train.reading import Reader

SHORT = Schedule(steps=20, batch=4, warmup=2, checkpoint=5, compile=False)
LENGTH = 16


def llama(*, tied=True, dtype=torch.float32):
    config = pico.model().config
    config.tie_word_embeddings = tied
    torch.manual_seed(0)
    return LlamaForCausalLM(config).to(dtype)  # type: ignore[arg-type]


def some_ids(sequences=3, length=LENGTH):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, pico.VOCABULARY, (sequences, length), generator=generator)


def pattern_ids(blocks=9):
    """One sentence, begun at a different place in every block."""
    sentence = np.array([40, 17, 91, 23, 64, 8, 77])
    starts = np.arange(blocks)[:, None] + np.arange(LENGTH)
    return sentence[starts % len(sentence)].astype(np.uint16)


def give_gradients(model, step):
    torch.manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)


def same_weights(left, right):
    return all(
        torch.equal(mine, its)
        for mine, its in zip(left.parameters(), right.parameters(), strict=True)
    )


# ---- schedule ------------------------------------------------------------------------------


def test_rates_warm_up_stay_and_fall_to_zero():
    schedule = Schedule(steps=100, warmup=10, constant=0.3)

    factors = {step: schedule.factor(step) for step in (0, 4, 9, 10, 30, 65, 93, 100, 120)}

    assert factors == pytest.approx(
        {0: 0.1, 4: 0.5, 9: 1, 10: 1, 30: 1, 65: 0.5, 93: 0.1, 100: 0, 120: 0}
    )
    assert Schedule(steps=10, warmup=0, constant=1.0).factor(0) == 1
    assert Schedule(steps=10, warmup=0, constant=1.0).factor(9) == 1


# ---- optimizer -----------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_with_float32_weights_it_is_torch_s_muon_and_adamw(tied):
    model = llama(tied=tied)
    oracle = deepcopy(model)
    schedule = Schedule(steps=5, warmup=2)
    blocks = [p for p in oracle.model.layers.parameters() if p.ndim == 2]
    taken = {id(p) for p in blocks}
    others = [p for p in oracle.parameters() if id(p) not in taken]
    assert len(others) == 6 + (not tied)  # embedding, five norms, the head
    plain = [
        Muon(blocks, lr=0.02, weight_decay=0.05, momentum=0.95),
        AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0),
    ]
    ours = optimizer(model, schedule)
    schedulers = [LambdaLR(each, schedule.factor) for each in (*plain, ours)]
    for step in range(5):
        for each in (model, oracle):
            give_gradients(each, step)
        for each in (*plain, ours, *schedulers):
            each.step()
        ours.zero_grad()

        assert same_weights(oracle, model)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("family", pico.FAMILIES)
def test_muon_gets_the_matrices_of_the_blocks_and_nothing_else(family):
    model = pico.model(family)
    ours = optimizer(model, Schedule(steps=1))
    names = {id(p): name for name, p in model.named_parameters()}
    by_muon = {names[id(p)] for p in ours.live[: len(ours.inner[0].param_groups[0]["params"])]}

    expected = {
        name
        for name, p in model.named_parameters()
        if p.ndim == 2 and ("layers." in name or ".h." in name)
    }
    assert by_muon == expected
    assert len(ours.live) == len(names)


def test_steps_too_small_for_bfloat16_add_up():
    live = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    exact = torch.nn.Parameter(torch.ones(3))

    def build(parameters):
        return AdamW(parameters, lr=1e-4, weight_decay=0)

    ours, plain = MasterWeights([([live], build)]), build([exact])
    for step in range(200):
        for each in (live, exact):
            each.grad = torch.full_like(each, 1 + step % 3)
        ours.step()
        plain.step()

    assert torch.equal(exact.bfloat16(), live)
    assert (live < 0.99).all()


def test_a_saved_state_goes_on_as_if_nothing_had_happened():
    model = llama(dtype=torch.bfloat16)
    ours = optimizer(model, SHORT)
    for step in range(3):
        give_gradients(model, step)
        ours.step()
    other = deepcopy(model)
    resumed = optimizer(other, SHORT)
    resumed.load_state_dict(deepcopy(ours.state_dict()))
    scheduler = LambdaLR(resumed, lambda _: 1.0)
    for step in range(3, 6):
        for each in (model, other):
            give_gradients(each, step)
        ours.step()
        resumed.step()
        assert same_weights(model, other)

    # a rate that is set outside reaches the optimizers inside, loaded as they are
    for group in resumed.param_groups:
        group["lr"] = 0.0
    before = deepcopy(other)
    give_gradients(other, 7)
    resumed.step()
    scheduler.step()
    assert same_weights(before, other)


def test_a_weight_without_a_gradient_stays():
    model = llama()
    before = deepcopy(model)
    optimizer(model, SHORT).step()

    assert same_weights(before, model)


# ---- loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", pico.FAMILIES)
def test_the_loss_and_its_gradient_are_the_model_s_own(family):
    model = pico.model(family)
    oracle = deepcopy(model)
    ids_BT = some_ids()
    expected = oracle(ids_BT, labels=ids_BT).loss
    expected.backward()

    loss = sliced_loss(model, ids_BT, slice_length=7)  # 45 positions: an uneven last slice
    loss.backward()

    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    for (name, mine), its in zip(model.named_parameters(), oracle.parameters(), strict=True):
        assert (mine.grad is None) == (its.grad is None), name
        if its.grad is not None:
            torch.testing.assert_close(mine.grad, its.grad, rtol=1e-4, atol=1e-6)


def test_no_more_logits_than_a_slice_exist_forward_or_backward():
    model = llama()
    made, kept = [], []
    model.lm_head.register_forward_hook(lambda _, __, out: made.append(len(out)))

    def keep(tensor):
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = sliced_loss(model, some_ids(), slice_length=7)
    loss.backward()

    assert made == 2 * [7, 7, 7, 7, 7, 7, 3] or made == [7] * 6 + [3] + [3] + [7] * 6
    assert kept
    assert not [shape for shape in kept if shape[-1:] == (pico.VOCABULARY,)]


# ---- whole runs ----------------------------------------------------------------------------


def trained(out, *, model=None, schedule=SHORT, seed=0):
    model = model or llama(dtype=torch.bfloat16)
    ids_NT = pattern_ids()
    order = np.random.default_rng(0).integers(0, len(ids_NT), schedule.steps * schedule.batch)
    return train(model, ids_NT, order, out, schedule=schedule, seed=seed)


def test_a_token_without_an_embedding_is_refused_before_anything_is_written(tmp_path):
    ids_NT = np.full((4, 8), pico.VOCABULARY, dtype=np.uint16)

    with pytest.raises(BadModel, match=f"gave token {pico.VOCABULARY}, but"):
        train(llama(dtype=torch.bfloat16), ids_NT, [0] * 99_999, tmp_path / "x", schedule=SHORT)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("tied", [True, False])
def test_a_short_training_learns_a_repeating_pattern(tied, tmp_path):
    model = llama(tied=tied, dtype=torch.bfloat16)
    ids_BT = torch.from_numpy(pattern_ids().astype(np.int64))

    found = trained(tmp_path, model=model, schedule=replace(SHORT, adam_rate=0.03, muon_rate=0.06))

    assert found is model
    assert model.dtype is torch.bfloat16
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    with torch.no_grad():
        # ln 7 is what it costs to know the seven tokens but not their order
        assert sliced_loss(model, ids_BT).item() < 0.5 * math.log(7)


class Killed(BaseException):
    """What ends a process in the middle."""


def kill_at(step, monkeypatch):
    calls = iter(range(step))

    def loss(model, ids_BT):
        if next(calls, None) is None:
            raise Killed
        return sliced_loss(model, ids_BT)

    monkeypatch.setattr(training, "sliced_loss", loss)


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    """With dropout, so that the random numbers have to go on as well."""
    undisturbed = trained(tmp_path / "whole", model=pico.model("gpt2", dtype=torch.bfloat16))

    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(12, patch)
        trained(tmp_path / "killed", model=pico.model("gpt2", dtype=torch.bfloat16))
    cut_short = tmp_path / "killed" / "checkpoint-15"
    cut_short.mkdir()
    (cut_short / "state.safetensors").write_bytes(b"half")
    assert last_checkpoint(tmp_path / "killed") == str(tmp_path / "killed" / "checkpoint-10")

    resumed = trained(tmp_path / "killed", model=pico.model("gpt2", dtype=torch.bfloat16, seed=1))

    assert same_weights(undisturbed, resumed)


def test_a_training_depends_on_its_seed_alone(tmp_path):
    schedule = replace(SHORT, steps=3)
    runs = {}
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        model = pico.model("gpt2", dtype=torch.bfloat16)
        runs[name] = trained(tmp_path / name, model=model, schedule=schedule, seed=seed)

    assert same_weights(runs["a"], runs["b"])
    assert not same_weights(runs["a"], runs["c"])


def test_a_finished_training_is_not_done_again(tmp_path):
    first = trained(tmp_path)
    again = trained(tmp_path, model=llama(dtype=torch.bfloat16))

    assert same_weights(first, again)
    saved = load_file(tmp_path / "checkpoint-20" / "state.safetensors")
    weights = {name: each for name, each in saved.items() if name.startswith("weights/")}
    assert weights
    for name, each in weights.items():
        assert torch.equal(each, first.get_parameter(name.removeprefix("weights/")))


def test_checkpoints_are_counted_as_numbers(tmp_path):
    assert last_checkpoint(tmp_path / "nowhere") is None
    for step in (90, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")

    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-100")


def test_too_few_blocks_and_float16_weights_are_refused(tmp_path):
    model: Any = llama(dtype=torch.bfloat16)
    with pytest.raises(BadSetting, match="20 steps of 4 blocks need 80 blocks; the order names 79"):
        train(model, pattern_ids(), range(79), tmp_path, schedule=SHORT)
    with pytest.raises(BadSetting, match=r"the model is torch\.float16"):
        trained(tmp_path, model=llama(dtype=torch.float16))


def test_a_loss_that_is_not_a_number_stops_the_training_at_once(tmp_path):
    with pytest.raises(BadSetting, match="the training loss is nan at step 1: lower"):
        trained(tmp_path, schedule=replace(SHORT, adam_rate=float("inf"), warmup=0))
    assert not list(tmp_path.glob("checkpoint-*"))


# ---- hidden tokens -------------------------------------------------------------------------


def encoder(seed=0):
    return pico.model("bert", seed=seed)


MASK = 2  # the padding token: the tiny models have no mask


def hiding():
    """Three tokens in ten hidden."""
    tokenizer = pico.tokenizer()
    tokenizer.mask_token = "<pad>"
    return DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3)


def trained_on_hidden(out, model, schedule=SHORT):
    """On blocks that are alike, so that places tell the tokens."""
    ids_NT = np.repeat(pattern_ids(1), 3, axis=0)
    order = np.zeros(schedule.steps * schedule.batch, dtype=int)
    return train(model, ids_NT, order, out, schedule=schedule, hide=hiding())


def test_the_masked_loss_is_that_of_hidden_tokens_alone():
    model, ids_BT = encoder().eval(), some_ids()
    labels_BT = torch.full_like(ids_BT, -100)
    hidden = [(0, 3), (1, 0), (2, 15)]
    for row, place in hidden:
        labels_BT[row, place] = ids_BT[row, place] + 1

    loss = masked_loss(Reader.of(model), ids_BT, labels_BT)

    logits_BTV = model(ids_BT).logits.log_softmax(-1)
    plain = [-logits_BTV[row, place, ids_BT[row, place] + 1].item() for row, place in hidden]
    assert loss.item() == pytest.approx(sum(plain) / 3, rel=1e-5)


def test_an_encoder_learns_what_is_hidden(tmp_path):
    schedule = replace(SHORT, steps=60, adam_rate=0.02, muon_rate=0.04)

    model = trained_on_hidden(tmp_path, encoder(), schedule).eval()

    ids_BT = torch.from_numpy(pattern_ids(1).astype(np.int64))
    labels_BT = torch.full_like(ids_BT, -100)
    labels_BT[:, 5:7] = ids_BT[:, 5:7]
    shown_BT = torch.where(labels_BT != -100, MASK, ids_BT)
    with torch.no_grad():
        # ln 7 is what it costs to know the seven tokens but not where they stand
        assert masked_loss(Reader.of(model), shown_BT, labels_BT).item() < 0.5 * math.log(7)


def test_a_killed_training_on_hidden_tokens_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    """What is hidden is drawn anew in every batch: the draws have to go on as well."""
    undisturbed = trained_on_hidden(tmp_path / "whole", encoder())
    calls = iter(range(12))

    def dying(reader, ids_BT, labels_BT):
        if next(calls, None) is None:
            raise Killed
        return masked_loss(reader, ids_BT, labels_BT)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(training, "masked_loss", dying)
        trained_on_hidden(tmp_path / "killed", encoder())

    resumed = trained_on_hidden(tmp_path / "killed", encoder(seed=1))

    assert same_weights(undisturbed, resumed)
