"""Which models are known, and rows in llama.cpp's order."""

import math
from typing import Any

import pico
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from babelpress.errors import BadModel
from babelpress.models.gguf_names import layout

QUERY, KEY = (f"model.layers.1.self_attn.{which}_proj.weight" for which in "qk")


def turned_by_halves(x, position):
    """transformers: outputs i and i + d/2 of a head turn together."""
    half = len(x) // 2
    out = [0.0] * len(x)
    for i in range(half):
        angle = position * 10000 ** (-2 * i / len(x))
        out[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
        out[i + half] = x[i + half] * math.cos(angle) + x[i] * math.sin(angle)
    return out


def turned_by_pairs(x, position):
    """llama.cpp's llama: outputs 2i and 2i + 1 of a head turn together."""
    out = [0.0] * len(x)
    for i in range(len(x) // 2):
        angle = position * 10000 ** (-2 * i / len(x))
        a, b = x[2 * i], x[2 * i + 1]
        out[2 * i] = a * math.cos(angle) - b * math.sin(angle)
        out[2 * i + 1] = b * math.cos(angle) + a * math.sin(angle)
    return out


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_scores_of_attention_stay_what_they_were():
    found = layout(pico.model("llama"))
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(4 * 8, generator=generator), torch.randn(2 * 8, generator=generator)
    order, key_order = found.order(QUERY), found.order(KEY)
    assert order is not None and key_order is not None

    for head in range(4):
        q, k = query.view(4, 8)[head].tolist(), key.view(2, 8)[head // 2].tolist()
        ours = dot(turned_by_halves(q, 5), turned_by_halves(k, 2))
        q, k = query[order].view(4, 8)[head].tolist(), key[key_order].view(2, 8)[head // 2].tolist()
        theirs = dot(turned_by_pairs(q, 5), turned_by_pairs(k, 2))

        assert theirs == pytest.approx(ours, rel=1e-6)


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_only_queries_and_keys_of_llama_change_rows(family):
    found = layout(pico.model(family))

    assert found.architecture == "llama"
    assert found.order(QUERY) is not None
    assert found.order("model.layers.1.self_attn.v_proj.weight") is None
    assert layout(pico.model("qwen3")).order(QUERY) is None


def test_names_are_those_of_the_gguf_package():
    found = layout(pico.model("qwen3"))

    assert found.name("model.embed_tokens.weight") == "token_embd.weight"
    assert found.name(QUERY) == "blk.1.attn_q.weight"
    assert found.name("model.layers.0.self_attn.k_norm.weight") == "blk.0.attn_k_norm.weight"
    assert found.name("model.layers.0.mlp.down_proj.weight") == "blk.0.ffn_down.weight"


@pytest.mark.parametrize("family", ["bloom", "gpt2", "gpt_neox", "opt", "xglm"])
def test_other_families_are_refused_with_those_that_are_supported(family):
    with pytest.raises(BadModel, match="Supported: llama, mistral, qwen2, qwen3, gemma3_text"):
        layout(pico.model(family))


def test_a_bias_that_llama_cpp_does_not_read_is_refused():
    model = pico.model("qwen3")

    assert layout(model).name("model.layers.0.self_attn.q_proj.bias") == "blk.0.attn_q.bias"
    with pytest.raises(BadModel, match=r"no place for the weight model\.layers\.0\.self_attn\.o_"):
        layout(model).name("model.layers.0.self_attn.o_proj.bias")


def test_another_activation_is_refused():
    shape: Any = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "vocab_size": 8,
    }
    model = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, hidden_act="gelu"))

    with pytest.raises(BadModel, match="uses gelu"):
        layout(model)


def test_heads_that_do_not_make_the_hidden_size_are_refused_for_qwen2():
    shape: Any = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "vocab_size": 8,
    }
    config = Qwen2Config(**shape, num_attention_heads=2, num_key_value_heads=2)
    config.head_dim = 12  # type: ignore[attr-defined]

    with pytest.raises(BadModel, match="2 heads of 12"):
        layout(Qwen2ForCausalLM(config))
