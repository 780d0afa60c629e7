"""What learns and what stays: zeros of every pattern, grids, and updates that become weights."""

from typing import Any

import pico
import pytest
import torch

from babelpress.models.linears import linears, set_weight, weight
from babelpress.models.stacks import find_stacks
from babelpress.numerics.patterns import parse
from babelpress.train.tuned import Tuned, tables_of


def pruned(family="llama", kind="0.5"):
    """A pico model whose linears were pruned."""
    model: Any = pico.model(family)
    blocks = [block for stack in find_stacks(model) for block in stack.blocks]
    for block in blocks:
        for each in linears(block).values():
            old = weight(each)
            set_weight(each, old * parse(kind).keep(old.abs()))
    return model, blocks


def step(model, tuned, steps=3):
    """Some steps of AdamW on a loss that moves all."""
    optimizer = torch.optim.AdamW(list(tuned.parameters.values()), lr=0.01, weight_decay=0.0)
    ids_BT = torch.arange(24).view(2, 12) + 5
    for _ in range(steps):
        optimizer.zero_grad()
        model(ids_BT, labels=ids_BT).loss.backward()
        optimizer.step()
        tuned.settle()


def zeros(model):
    return {name: each == 0 for name, each in model.named_parameters() if each.ndim > 1}


@pytest.mark.parametrize("tune", ["weights", "low-rank", "norms"])
@pytest.mark.parametrize("kind", ["0.5", "2of4", "0.5/layer"])
def test_zeros_of_what_was_pruned_stay_and_all_else_may_move(kind, tune):
    model, blocks = pruned(kind=kind)
    before, values = zeros(model), {n: p.detach().clone() for n, p in model.named_parameters()}
    tuned = Tuned.of(model, tune, blocks=blocks, pruned=True, rank=2)

    step(model, tuned)
    tuned.finish()

    assert tuned.zeros == sum(int(before[n].sum()) for n in before if ".layers." in n)
    for name, each in zeros(model).items():
        assert torch.equal(each & before[name], before[name]), name
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, values[n])}
    matrices = {n for n in before if ".layers." in n}
    assert moved & matrices == (matrices if tune != "norms" else set())
    assert "model.norm.weight" in moved
    assert "model.layers.0.input_layernorm.weight" in moved
    assert not moved & {"model.embed_tokens.weight", "lm_head.weight"}
    assert not any("parametrizations" in name for name, _ in model.named_parameters())


def test_without_masks_zeros_learn_too():
    model, blocks = pruned()
    tuned = Tuned.of(model, "weights", blocks=blocks)

    step(model, tuned)

    assert tuned.zeros == 0
    assert int((model.model.layers[0].mlp.up_proj.weight == 0).sum()) == 0


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_update_of_low_rank_is_what_the_model_was_run_with(family):
    """Of linears, and of Conv1D, which keep a weight the other way round."""
    model, blocks = pruned(family)
    tuned = Tuned.of(model, "low-rank", blocks=blocks, pruned=True, rank=2)
    step(model, tuned)
    ids_BT = torch.arange(24).view(2, 12) + 5
    before = model(ids_BT).logits

    tuned.finish()

    assert torch.equal(model(ids_BT).logits, before)
    first = next(iter(linears(blocks[0]).values()))
    fresh = next(iter(linears(pruned(family)[1][0]).values()))
    update = weight(first) - weight(fresh)
    assert torch.linalg.matrix_rank(update) > 2  # the mask cuts holes into it
    dense, others = pruned(family, "0.0")
    whole = Tuned.of(dense, "low-rank", blocks=others, rank=2)
    step(dense, whole)
    whole.finish()
    moved = weight(next(iter(linears(others[0]).values())))
    plain = weight(next(iter(linears(pruned(family, "0.0")[1][0]).values())))
    assert torch.linalg.matrix_rank(moved - plain, rtol=1e-4) == 2


def test_weights_on_a_grid_do_not_learn_and_slices_of_experts_neither():
    model, blocks = pruned("qwen3_moe")
    names = [f"model.layers.0.{name}" for name in linears(blocks[0])]
    tuned = Tuned.of(model, "weights", blocks=blocks, fixed=names)

    learnt = {name for name in tuned.parameters if name.startswith("model.layers.0.")}

    assert all("norm" in name or name.endswith("gate.weight") for name in learnt)
    assert "model.layers.1.mlp.experts.down_proj" in tuned.parameters


def test_tables_learn_where_they_are_asked_for():
    model, blocks = pruned("gemma3")
    model.model.embed_tokens.weight.data[:, 3] = 0
    tables = tables_of(model)
    tuned = Tuned.of(model, "norms", blocks=blocks, pruned=True, tables=tables, pruned_tables=True)

    step(model, tuned)

    assert "model.embed_tokens.weight" in tuned.parameters
    assert not tuned.before_head
    assert (model.model.embed_tokens.weight[:, 3] == 0).all()
    assert not torch.equal(model.model.embed_tokens.weight[5, 4:],
                           pruned("gemma3")[0].model.embed_tokens.weight[5, 4:])  # fmt: skip


def test_a_head_of_its_own_that_stays_is_behind_what_learns():
    model, blocks = pruned()

    assert Tuned.of(model, "weights", blocks=blocks).before_head
    assert not Tuned.of(model, "weights", blocks=blocks, tables=tables_of(model)).before_head


def test_biases_of_tokens_learn_with_the_tables_alone():
    """BERT has one for every token beside its head, where no embedding learns."""
    model, blocks = pruned("bert")
    bias = "cls.predictions.bias"
    assert bias in dict(model.named_parameters())

    alone = Tuned.of(model, "weights", blocks=blocks)
    assert not {name for name, p in alone.parameters.items() if len(p) == pico.VOCABULARY}
    assert "cls.predictions.transform.LayerNorm.weight" in alone.parameters
    assert bias in Tuned.of(model, "weights", blocks=blocks, tables=tables_of(model)).parameters


def test_updates_of_bfloat16_weights_stay_bfloat16():
    model, blocks = pruned()
    model.bfloat16()
    tuned = Tuned.of(model, "low-rank", blocks=blocks, pruned=True, rank=2)

    step(model, tuned, steps=1)
    tuned.finish()

    assert {each.dtype for each in model.parameters()} == {torch.bfloat16}
