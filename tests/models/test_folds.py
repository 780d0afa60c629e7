"""Folds: every family's are those that its formulas allow, and none of them changes the output."""

from typing import Any

import pico
import pytest
import torch
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

from babelpress.models import folds
from babelpress.models.folds import Fold, find_folds
from babelpress.models.linears import linears, set_weight, weight
from babelpress.models.open import open_model
from babelpress.models.walk import Walk
from babelpress.models.weights import weights_hash

LLAMA = {
    "self_attn.q_proj+k_proj+v_proj": "input_layernorm",
    "self_attn.o_proj": "self_attn.v_proj",
    "mlp.gate_proj+up_proj": "post_attention_layernorm",
    "mlp.down_proj": "mlp.up_proj",
}
# What is after a GELU has no layer before it in which it could be divided: fc2 is in none but OPT.
FOLDS = {
    "llama": LLAMA,
    "qwen3": LLAMA,
    "mistral": LLAMA,
    "gemma3": {**LLAMA, "mlp.gate_proj+up_proj": "pre_feedforward_layernorm"},
    # The norm of values has no weight, and makes up for any scale.
    "gemma4": {
        **{site: norm for site, norm in LLAMA.items() if site != "self_attn.o_proj"},
        "mlp.gate_proj+up_proj": "pre_feedforward_layernorm",
    },
    "bloom": {
        "self_attention.query_key_value": "input_layernorm",
        "self_attention.dense": "self_attention.query_key_value",
        "mlp.dense_h_to_4h": "post_attention_layernorm",
    },
    "xglm": {
        "self_attn.q_proj+k_proj+v_proj": "self_attn_layer_norm",
        "self_attn.out_proj": "self_attn.v_proj",
        "fc1": "final_layer_norm",
    },
    "gpt2": {"attn.c_attn": "ln_1", "attn.c_proj": "attn.c_attn", "mlp.c_fc": "ln_2"},
    "gpt_neox": {
        "attention.query_key_value": "input_layernorm",
        "attention.dense": "attention.query_key_value",
        "mlp.dense_h_to_4h": "post_attention_layernorm",
    },
    "opt": {
        "self_attn.q_proj+k_proj+v_proj": "self_attn_layer_norm",
        "self_attn.out_proj": "self_attn.v_proj",
        "fc1": "final_layer_norm",
        "fc2": "fc1",
    },
}
# The norms of a BERT come after the residual stream has its part, which goes on besides.
FOLDS |= {
    "bert": {"attention.output.dense": "attention.self.value"},
    "xlm_roberta": {"attention.output.dense": "attention.self.value"},
    "distilbert": {"attention.out_lin": "attention.v_lin"},
    "modernbert": {"attn.Wo": "attn.Wqkv", "mlp.Wi": "mlp_norm", "mlp.Wo": "mlp.Wi"},
    "albert": {"albert_layers.0.attention.dense": "albert_layers.0.attention.value"},
    "deberta_v2": {"attention.output.dense": "attention.self.value_proj"},
}
# A block of an encoder, and what one of a decoder has besides. Keys and values of cross attention
# read what the encoder made, of which nothing in the block can be divided.
T5 = {
    "layer.0.SelfAttention.q+k+v": "layer.0.layer_norm",
    "layer.0.SelfAttention.o": "layer.0.SelfAttention.v",
}
CROSS = {
    "layer.1.EncDecAttention.q": "layer.1.layer_norm",
    "layer.1.EncDecAttention.o": "layer.1.EncDecAttention.v",
}


def t5(place, up, down):
    """The end of a block of T5: what goes up and down at a place among its layers."""
    dense = f"layer.{place}.DenseReluDense"
    return {f"{dense}.{up}": f"layer.{place}.layer_norm", f"{dense}.wo": f"{dense}.{down}"}


FOLDS |= {
    "t5": {**T5, **t5(1, "wi", "wi")},
    "mt5": {**T5, **t5(1, "wi_0+wi_1", "wi_1")},
    "m2m_100": FOLDS["opt"],
    "marian": {"self_attn.out_proj": "self_attn.v_proj"},
    "mbart": FOLDS["xglm"],
}
_OF_BART = {"encoder_attn.out_proj": "encoder_attn.v_proj"}
_BEFORE = {"encoder_attn.q_proj": "encoder_attn_layer_norm"}
IN_DECODER = {
    "t5": {**T5, **CROSS, **t5(2, "wi", "wi")},
    "mt5": {**T5, **CROSS, **t5(2, "wi_0+wi_1", "wi_1")},
    "m2m_100": {**FOLDS["m2m_100"], **_BEFORE, **_OF_BART},
    "marian": {**FOLDS["marian"], **_OF_BART},
    "mbart": {**FOLDS["mbart"], **_BEFORE, **_OF_BART},
}
for _family, _experts in {"qwen3_moe": 4, "mixtral": 3}.items():
    # The norm before the experts is the router's too. Rows of gate and up are one parameter.
    FOLDS[_family] = {site: LLAMA[site] for site in LLAMA if "attn" in site} | {
        f"mlp.experts.{each}.down_proj": f"mlp.experts.{each}.gate_up_proj"
        for each in range(_experts)
    }
# For each of 4 heads of width 8, the first row of its values: 2 key-value heads; 3 matrices on
# top of one another; queries, keys and values head by head.
GROUPED, STACKED, BY_HEAD = (0, 0, 8, 8), (64, 72, 80, 88), (16, 40, 64, 88)
VALUES = {
    "llama": ("self_attn.o_proj", GROUPED),
    "qwen3": ("self_attn.o_proj", GROUPED),
    "mistral": ("self_attn.o_proj", GROUPED),
    "gemma3": ("self_attn.o_proj", GROUPED),
    "bloom": ("self_attention.dense", BY_HEAD),
    "gpt_neox": ("attention.dense", BY_HEAD),
    "gpt2": ("attn.c_proj", STACKED),
    "xglm": ("self_attn.out_proj", (0, 8, 16, 24)),
    "opt": ("self_attn.out_proj", (0, 8, 16, 24)),
    "bert": ("attention.output.dense", (0, 8, 16, 24)),
    "xlm_roberta": ("attention.output.dense", (0, 8, 16, 24)),
    "distilbert": ("attention.out_lin", (0, 8, 16, 24)),
    "modernbert": ("attn.Wo", STACKED),
    "albert": ("albert_layers.0.attention.dense", (0, 8, 16, 24)),
    "deberta_v2": ("attention.output.dense", (0, 8, 16, 24)),
    "qwen3_moe": ("self_attn.o_proj", GROUPED),
    "mixtral": ("self_attn.o_proj", GROUPED),
}

every_family = pytest.mark.parametrize("family", pico.laws())


def shaken(model):
    """Random biases and norm weights too, where models that were never trained have 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.2
        parameter.data += noise.to(parameter.dtype)
    return model.eval()


@torch.no_grad()
def walked(model, index=0, sequences=2, length=11):
    """A walk and the hidden states that enter block `index`."""
    walk = Walk(model)
    ids_BT = torch.randint(3, 200, (sequences, length), generator=torch.Generator().manual_seed(2))
    hidden_BTH = walk.start(ids_BT)
    for before in range(index):
        hidden_BTH = walk.forward(before, hidden_BTH)
    return walk, hidden_BTH


def found(model, **options):
    walk, hidden_BTH = walked(model, **options)
    return find_folds(walk, 0, hidden_BTH)


def where(found_folds):
    return {site: fold.module for site, fold in found_folds.items()}


# ---- what is found -------------------------------------------------------------------------


@every_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_folds_of_a_family_are_those_its_formulas_allow(family, dtype):
    model = shaken(pico.model(family, dtype=dtype))
    before, homes = weights_hash(model), [p.data_ptr() for p in model.parameters()]

    for index in range(4 if family in IN_DECODER else 2):
        walk, hidden_BTH = walked(model, index)
        folds_found = find_folds(walk, index, hidden_BTH)

        expected = FOLDS[family] if index < 2 else IN_DECODER[family]
        if (family, index) == ("modernbert", 1):  # the first block has no norm before attention
            expected = {"attn.Wqkv": "attn_norm", **expected}
        if (family, index) == ("gemma4", 1):  # keys and values are those of the block before
            names = {"self_attn.q_proj+k_proj+v_proj": "self_attn.q_proj"}
            expected = {names.get(site, site): norm for site, norm in expected.items()}
        assert where(folds_found) == expected
        gemma_norms = {site for site, fold in folds_found.items() if fold.offset}
        expected = {site for site in FOLDS[family] if "+" in site} if family == "gemma3" else set()
        assert gemma_norms == expected

    assert weights_hash(model) == before
    assert [p.data_ptr() for p in model.parameters()] == homes
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


@every_family
def test_models_that_were_never_trained_fold_alike(family):
    assert where(found(pico.model(family))) == FOLDS[family]


@pytest.mark.parametrize("shared", [0, 1])
def test_values_that_a_later_block_takes_too_are_not_scaled(shared):
    torch.manual_seed(0)
    config = Gemma4TextConfig(
        **pico._GROUPED,
        layer_types=["full_attention", "full_attention"],
        global_head_dim=8,  # type: ignore[call-arg]
        hidden_size_per_layer_input=16,
        vocab_size_per_layer_input=pico.VOCABULARY,
        num_kv_shared_layers=shared,
    )
    model: Any = shaken(Gemma4ForCausalLM(config))
    model.model.layers[0].self_attn.v_norm = nn.Identity()

    assert ("self_attn.o_proj" in found(model)) == (not shared)


@pytest.mark.parametrize("family", VALUES)
def test_the_inputs_after_attention_are_traced_to_the_rows_of_their_values(family):
    site, starts = VALUES[family]
    expected = [start + at for start in starts for at in range(8)]

    assert found(shaken(pico.model(family)))[site].rows_I.tolist() == expected


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gemma3"])
@pytest.mark.parametrize("left", [2e-5, 0.5])
def test_right_and_wrong_are_far_apart(family, left, monkeypatch):
    monkeypatch.setattr(folds, "LEFT", left)

    assert where(found(shaken(pico.model(family)))) == FOLDS[family]


@pytest.mark.parametrize("options", [{"sequences": 1}, {"sequences": 1, "length": 2}])
def test_one_short_sequence_is_enough(options):
    assert where(found(shaken(pico.model("llama")), **options)) == FOLDS["llama"]


def test_a_norm_whose_output_goes_on_besides_is_refused():
    config = {"vocab_size": 259, "hidden_size": 32, "n_layer": 2, "n_head": 4, **pico._IDS}
    torch.manual_seed(0)
    shared = BloomForCausalLM(BloomConfig(**config, apply_residual_connection_post_layernorm=True))

    assert where(found(shaken(shared))) == {
        "self_attention.dense": "self_attention.query_key_value"
    }


def test_an_activation_is_folded_through_only_where_it_is_proportional():
    config = {"vocab_size": 259, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 1}
    torch.manual_seed(0)
    model = OPTForCausalLM(
        OPTConfig(
            **config,
            num_attention_heads=4,
            word_embed_proj_dim=32,
            activation_function="gelu",
            **pico._IDS,
        )
    )

    assert "fc2" in FOLDS["opt"]
    assert "fc2" not in found(shaken(model))


def test_the_values_and_the_gated_half_of_fused_linears_are_found():
    torch.manual_seed(0)
    model = Phi3ForCausalLM(Phi3Config(**{**pico._SHAPE, "num_key_value_heads": 2}))

    folds_found = found(shaken(model))

    assert where(folds_found) == {
        "self_attn.qkv_proj": "input_layernorm",
        "self_attn.o_proj": "self_attn.qkv_proj",
        "mlp.gate_up_proj": "post_attention_layernorm",
        "mlp.down_proj": "mlp.gate_up_proj",
    }
    assert folds_found["mlp.down_proj"].rows_I.tolist() == list(range(48, 96))
    values = [start + at for start in (48, 48, 56, 56) for at in range(8)]
    assert folds_found["self_attn.o_proj"].rows_I.tolist() == values


def test_every_site_of_babel_mini_is_folded():
    model = open_model("babel-mini").model
    before = weights_hash(model)

    for index in range(len(Walk(model).blocks)):
        walk, hidden_BTH = walked(model, index)
        assert where(find_folds(walk, index, hidden_BTH)) == LLAMA

    assert weights_hash(model) == before


def test_a_pass_that_fails_leaves_the_model_as_it_was():
    model = shaken(pico.model("llama", dtype=torch.bfloat16))
    walk, hidden_BTH = walked(model)
    walk.sites(0, hidden_BTH)
    before, homes = weights_hash(model), [p.data_ptr() for p in model.parameters()]
    passes = iter(range(9))

    def fail_at_last(*_):
        if next(passes) == 8:
            raise RuntimeError("out of memory")

    handle = walk.blocks[0].register_forward_hook(fail_at_last)
    with pytest.raises(RuntimeError, match="out of memory"):
        find_folds(walk, 0, hidden_BTH)
    handle.remove()

    assert weights_hash(model) == before
    assert [p.data_ptr() for p in model.parameters()] == homes
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


# ---- what a fold does ----------------------------------------------------------------------


def some_scale(inputs, seed=3):
    return (torch.rand(inputs, generator=torch.Generator().manual_seed(seed)) * 3 - 1.5).exp()


@every_family
@torch.no_grad()
def test_all_folds_of_a_block_together_leave_its_output(family):
    last = 3 if family in IN_DECODER else 1
    walk, hidden_BTH = walked(shaken(pico.model(family)), index=last)
    block, folds_found = walk.blocks[last], find_folds(walk, last, hidden_BTH)
    expected = walk.forward(last, hidden_BTH)

    for seed, site in enumerate(walk.sites(last, hidden_BTH)):
        if fold := folds_found.get(site.name):
            scale_I = fold.apply(block, fold.pooled(some_scale(site.inputs, seed)))
            half_done = walk.forward(last, hidden_BTH)
            assert (half_done - expected).norm() > 1e-3 * expected.norm()
            for name in site.linears:
                layer = linears(block)[name]
                set_weight(layer, weight(layer) * scale_I)
            torch.testing.assert_close(walk.forward(last, hidden_BTH), expected, rtol=0, atol=3e-5)


def test_pooled_is_the_geometric_mean_over_the_inputs_of_a_row():
    fold = Fold("o", "v", False, torch.tensor([5, 2, 5, 5, 2, 9]))

    pooled_I = fold.pooled(torch.tensor([1.0, 2.0, 3.0, 9.0, 8.0, 0.7]))

    expected = torch.tensor([3.0, 4.0, 3.0, 3.0, 4.0, 0.7])
    torch.testing.assert_close(pooled_I, expected)
    assert torch.equal(fold.pooled(pooled_I), pooled_I)
    assert fold.pooled(torch.tensor([0.0, 2, 3, 9, 8, 1], dtype=torch.float64)).tolist() == (
        pytest.approx([0, 4, 0, 0, 4, 1])
    )


def test_the_divisor_is_one_for_rows_that_are_no_input():
    fold = Fold("o", "v", False, torch.tensor([5, 2, 5]))

    divisor_R = fold.divisor(torch.tensor([1.5, 0.25, 1.5]), 7)

    assert divisor_R.tolist() == [1, 1, 0.25, 1, 1, 1.5, 1]
    with pytest.raises(AssertionError, match="scales of a shared row differ"):
        fold.divisor(torch.tensor([1.5, 0.25, 1.6]), 7)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_the_scale_of_a_bfloat16_norm_is_that_of_its_rounded_weight(family):
    model = shaken(pico.model(family, dtype=torch.bfloat16))
    walk, hidden_BTH = walked(model)
    block = walk.blocks[0]
    fold = find_folds(walk, 0, hidden_BTH)["self_attn.q_proj+k_proj+v_proj"]
    norm: Any = block.get_submodule("input_layernorm")
    norm.weight.data[3] = -float(fold.offset)  # no gain at all
    gain_I = norm.weight.detach().float() + float(fold.offset)
    asked_I = some_scale(32)

    scale_I = fold.apply(block, asked_I)

    new_gain_I = norm.weight.detach().float() + float(fold.offset)
    torch.testing.assert_close(new_gain_I * scale_I, gain_I, rtol=1e-6, atol=0)
    assert scale_I[3] == 1
    others = torch.arange(32) != 3
    torch.testing.assert_close(scale_I[others], asked_I[others], rtol=2**-6, atol=0)
    assert not torch.equal(scale_I[others], asked_I[others])


def test_rows_of_a_bfloat16_linear_are_divided_in_float32_and_rounded_once():
    model = shaken(pico.model("gpt2", dtype=torch.bfloat16))
    walk, hidden_BTH = walked(model)
    fold = find_folds(walk, 0, hidden_BTH)["attn.c_proj"]
    values: Any = walk.blocks[0].get_submodule("attn.c_attn")
    old_RI, old_bias_R = weight(values).clone(), values.bias.detach().clone()
    scale_I = some_scale(32)

    assert torch.equal(fold.apply(walk.blocks[0], scale_I), scale_I)

    expected_RI, expected_bias_R = old_RI.clone(), old_bias_R.clone()
    for row in range(32):
        expected_RI[64 + row] = (old_RI[64 + row].float() / scale_I[row]).bfloat16()
        expected_bias_R[64 + row] = (old_bias_R[64 + row].float() / scale_I[row]).bfloat16()
    assert torch.equal(weight(values), expected_RI)
    assert torch.equal(values.bias.detach(), expected_bias_R)
