"""Distillation: a step's loss by hand, distances by hand, shares that follow what is lacked."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pico
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

from babelpress.distill import by_objective
from babelpress.errors import BadModel, NotFinite
from babelpress.models.student import fewer_blocks
from babelpress.numerics.lacking import shares_by_lack
from babelpress.text.token_blocks import TokenBlocks
from babelpress.train import reading
from babelpress.train.batches import Blocks, Marks
from babelpress.train.distilling import Distillation, Objective, Pupil, layer_map
from babelpress.train.reading import Reader

SHARES = {"swh_Latn": 0.7, "yor_Latn": 0.3}
MARKS = Marks(2, frozenset({0, 1, 2}), 5, pico.VOCABULARY)


def text(scores, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for place, tag in enumerate(SHARES):
        ids_BT = torch.randint(6 + 100 * place, 100 + 100 * place, (5, 12), generator=generator)
        found[tag] = TokenBlocks(tag, ids_BT, torch.ones_like(ids_BT, dtype=torch.bool))
    return Blocks(found, MARKS, scores)


def made(family, names, options: Any = None, *, scores="hidden", student=None, width=None, **more):
    model: Any = pico.model(family)
    for parameter in model.parameters():
        parameter.data.mul_(3)
    teacher = Reader.of(model if scores != "nothing" else model.base_model)
    small = student or fewer_blocks(teacher.model, [1])
    reader = Reader.of(small)
    objectives = tuple(
        Objective(name, some) for name, some in by_objective(names, options or {}).items()
    )
    layers = layer_map(objectives, len(reader.blocks), len(teacher.blocks))
    pupil = Pupil(small, [(width or 32, 32)] * len(layers))
    found = Distillation(
        teacher, reader, pupil, objectives, text(scores), text(scores, seed=1), 4, layers,
        base=dict(SHARES), shares=dict(SHARES), seed=7, **{"place": Path(), **more},
    )  # fmt: skip
    if student is None:  # another one may have another head
        found.refer()
    return found


def drawn(found, step):
    """The batch of a step, drawn again."""
    rng = np.random.default_rng([7, step])
    tags = [list(SHARES)[place] for place in rng.choice(2, size=4, p=list(SHARES.values()))]
    return found.text.draw(tags, rng)


@pytest.mark.parametrize(("family", "scores"), [("bert", "hidden"), ("llama", "next")])
def test_the_loss_of_a_step_is_that_of_whole_logits(family, scores, monkeypatch):
    monkeypatch.setattr(reading, "NUMBERS", 3 * pico.VOCABULARY)  # parts of three tokens
    found = made(family, ["hinton"], {"alpha": 0.25, "temperature": 3.0}, scores=scores)
    loss = found.loss(4)
    loss.backward()

    batch = drawn(found, 4)
    own = found.pupil.student
    mine = own(batch.ids_BT).logits[batch.scored_BT]
    its = found.teacher.model(batch.ids_BT).logits[batch.scored_BT].detach()
    hard = cross_entropy(mine, batch.target_BT[batch.scored_BT])
    soft = kl_div(
        (mine / 3).log_softmax(1), (its / 3).softmax(1), reduction="none"
    ).sum(1).mean()  # fmt: skip
    expected = 0.25 * hard + 0.75 * 9 * soft
    slopes = torch.autograd.grad(expected, list(own.parameters()), allow_unused=True)

    torch.testing.assert_close(loss, expected)
    for parameter, slope in zip(own.parameters(), slopes, strict=True):
        assert (parameter.grad is None) == (slope is None)
        if slope is not None:
            torch.testing.assert_close(parameter.grad, slope, rtol=1e-3, atol=1e-6)
    assert all(each.grad is None for each in found.teacher.model.parameters())


def test_objectives_are_added():
    both = made("bert", ["logits", "hidden"]).loss(2)
    one, other = made("bert", ["logits"]).loss(2), made("bert", ["hidden"]).loss(2)

    torch.testing.assert_close(both, one + other)
    assert one > 0
    assert other > 0


def test_mixkd_adds_the_truth_and_what_the_teacher_says_of_mixed_text():
    """By hand, with embeddings mixed one text at a time."""
    found = made("bert", ["mixkd"], {"a_sm": 0.5, "a_tm": 2.0})
    loss = found.loss(1)

    rng = np.random.default_rng([7, 1])
    tags = [list(SHARES)[place] for place in rng.choice(2, size=4, p=list(SHARES.values()))]
    batch = found.text.draw(tags, rng)
    partner_B, share_B = rng.permutation(range(4)), rng.beta(0.4, 0.4, 4)
    own, teacher = found.pupil.student, found.teacher.model
    expected = cross_entropy(
        own(batch.ids_BT).logits[batch.scored_BT], batch.target_BT[batch.scored_BT]
    )
    truths, distances = [], []
    for row, (other, share) in enumerate(zip(partner_B, share_B, strict=True)):
        hidden_T = batch.scored_BT[row]
        said = []
        for model in (own, teacher):
            embed = model.get_input_embeddings()
            mixture = float(share) * embed(batch.target_BT[row].masked_fill(hidden_T, 5))
            mixture = mixture + (1 - float(share)) * embed(
                batch.target_BT[other].masked_fill(hidden_T, 5)
            )
            said.append(model(inputs_embeds=mixture[None]).logits[0][hidden_T])
        for place, mine, its in zip(hidden_T.nonzero()[:, 0].tolist(), *said, strict=True):
            minus = -mine.log_softmax(0)
            truths.append(
                share * minus[batch.target_BT[row, place]]
                + (1 - share) * minus[batch.target_BT[other, place]]
            )
            distances.append((mine - its).square().mean())
    expected = expected + 0.5 * sum(truths) / len(truths) + 2 * sum(distances) / len(distances)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_distance_is_that_of_what_both_say_by_language(tmp_path):
    found = made("llama", ["hinton"], scores="next", place=tmp_path)

    losses = found.evaluate(0)
    distances = found.distances[0]

    assert losses == found.found[0]
    for tag, distance in distances.items():
        apart: Any = found.apart
        ids_BT = apart.blocks[tag].ids_BT
        mine = found.pupil.student(ids_BT).logits[:, :-1].log_softmax(-1)
        its = found.teacher.model(ids_BT).logits[:, :-1].log_softmax(-1)
        expected = (its.exp() * (its - mine)).sum(-1).mean()
        assert distance == pytest.approx(expected.item(), rel=1e-4)
        for said, known in ((mine, losses), (its, found.reference)):
            true = -said.gather(-1, ids_BT[:, 1:, None]).mean()
            assert known[tag] == pytest.approx(true.item(), rel=1e-4)
    assert distances["swh_Latn"] != distances["yor_Latn"]
    assert found.evaluate(1) == losses
    assert found.shares == SHARES
    assert found.lacks()["swh_Latn"] == pytest.approx(
        losses["swh_Latn"] / found.reference["swh_Latn"] - 1
    )


def test_a_student_that_is_its_teacher_lacks_nothing():
    found = made("bert", ["hinton"], student=pico.model("bert"))
    found.teacher = found.reader

    found.refer()
    losses, distances = found.measured()
    assert distances == pytest.approx({"swh_Latn": 0, "yor_Latn": 0}, abs=1e-6)
    assert losses == found.reference


def test_shares_follow_what_is_lacked(tmp_path):
    found = made("bert", ["hinton"], radius=0.02, place=tmp_path)
    found.evaluate(0)

    assert found.shares == shares_by_lack(SHARES, found.lacks(), 0.02)
    assert found.shares != SHARES
    other = made("bert", ["hinton"], radius=0.02, place=tmp_path)
    other.restore(found.state())
    assert other.shares == found.shares
    assert other.distances == found.distances
    assert other.found == found.found


def test_maps_of_widths_begin_as_what_fits_best():
    """Against the library's least squares, on the texts that they are fitted on."""
    config = pico.model("llama").config
    config.hidden_size, config.num_hidden_layers, config.head_dim = 16, 1, 4
    torch.manual_seed(2)
    small = type(pico.model("llama"))(config).eval()
    found = made("llama", ["hidden"], scores="next", student=small, width=16)

    found.fit_maps()

    states = []
    for model, layer in ((small, 1), (found.teacher.model, 2)):
        parts = []
        for each in text("next").blocks.values():
            hook = []
            block = model.get_submodule(f"model.layers.{layer - 1}")
            handle = block.register_forward_hook(lambda _, __, out, hook=hook: hook.append(out))
            pico.passed(model, each.ids_BT)
            handle.remove()
            out = hook[0][0] if isinstance(hook[0], tuple) else hook[0]
            parts.append(out.flatten(0, 1).double())
        states.append(torch.cat(parts))
    mine_PH, its_PH = states
    best = torch.linalg.lstsq(mine_PH, its_PH).solution.T
    weight = found.pupil.get_parameter("maps.0.weight").detach().double()
    lost, least = ((mine_PH @ each.T - its_PH).square().sum() for each in (weight, best))
    assert lost == pytest.approx(least.item(), rel=0.05)
    assert lost < 0.9 * its_PH.square().sum()


def test_what_did_best_for_the_worst_language_is_kept(tmp_path):
    found = made("llama", ["hinton"], {"alpha": 0.0}, scores="next", place=tmp_path)
    found.reference = {}  # then it is the distance that is watched
    optimizer = torch.optim.AdamW(found.learns().values(), lr=3e-3)
    found.evaluate(0)
    for step in range(20):
        found.loss(step).backward()
        optimizer.step()
        optimizer.zero_grad()
    found.evaluate(20)
    good = {name: each.detach().clone() for name, each in found.learns().items()}
    with torch.no_grad():
        for each in found.learns().values():
            each.mul_(2)
    found.evaluate(40)

    found.load_best()

    assert found.at[found.best] == 20
    first, good_one, last = (max(found.lacks(place).values()) for place in range(3))
    assert good_one < first
    assert good_one < last
    assert found.waited == 1
    assert all(torch.equal(each, good[name]) for name, each in found.learns().items())
    assert sum(found.tokens.values()) == 20 * 4 * 11


def test_without_a_head_states_are_learnt_and_widths_are_mapped():
    config = pico.model("bert").config
    config.hidden_size, config.num_hidden_layers = 16, 1
    small = type(pico.model("bert"))(config).base_model.eval()
    found = made("bert", ["hidden"], scores="nothing", student=small, width=16)
    optimizer = torch.optim.AdamW(found.pupil.parameters(), lr=1e-2)

    before = found.measured().distances
    for step in range(30):
        found.loss(step).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = found.measured().distances

    assert not found.reference
    assert [each.weight.shape for each in found.pupil.maps] == [(32, 16)]
    assert all(after[tag] < 0.9 * before[tag] for tag in SHARES)


def test_the_distance_of_states_has_no_weight_in_it():
    light, heavy = (made("bert", ["hidden"], {"weight": w}, scores="nothing") for w in (1.0, 8.0))

    assert heavy.measured().distances == light.measured().distances
    assert heavy.loss(2).item() == pytest.approx(8 * light.loss(2).item(), rel=1e-5)


def test_a_teacher_that_says_nan_is_named_and_not_its_student():
    found = made("llama", ["hinton"], scores="next")
    found.teacher.model.lm_head.weight.data[7] = math.nan

    with pytest.raises(NotFinite, match="the loss of the teacher in swh_Latn is nan: look for NaN"):
        found.refer()


def test_a_student_with_another_head_is_one_line():
    config = pico.model("bert").config
    config.vocab_size += 1
    other = type(pico.model("bert"))(config).eval()

    with pytest.raises(BadModel, match="the student answers with 260 numbers and its teacher with"):
        made("bert", ["hinton"], student=other).check()


def test_a_model_that_reads_no_embeddings_cannot_mix(monkeypatch):
    found = made("bert", ["mixkd"])
    found.check()

    def refuse(*_, **__):
        raise ValueError("no embeddings")

    monkeypatch.setattr(Reader, "read_mixed", refuse)
    with pytest.raises(BadModel, match="BertForMaskedLM cannot read embeddings in place of tokens"):
        found.check()
