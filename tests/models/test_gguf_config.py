"""Configs out of the metadata of GGUF files, against transformers and llama.cpp's own rules."""

from pathlib import Path

import pytest
import torch
from transformers import Gemma3TextConfig, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from babelpress.errors import BadModel
from babelpress.models import gguf_config
from babelpress.models.gguf_header import KINDS, Header, Stored

SIZES = {
    "context_length": 4096,
    "embedding_length": 640,
    "block_count": 18,
    "feed_forward_length": 2048,
    "attention.head_count": 4,
    "attention.head_count_kv": 1,
    "attention.layer_norm_rms_epsilon": 1e-6,
}
BY_NAME = {kind.name: kind for kind in KINDS.values()}


def header(architecture, own=None, *, kind="F16", tensors=()):
    """A header with a table of embeddings, a matrix and a norm."""
    keys = {f"{architecture}.{key}": value for key, value in {**SIZES, **(own or {})}.items()}
    there = {
        "token_embd.weight": Stored(BY_NAME["Q6_K" if kind == "Q4_K" else kind], (1000, 640), 0),
        "blk.0.attn_q.weight": Stored(BY_NAME[kind], (1024, 640), 0),
        "output_norm.weight": Stored(BY_NAME["F32"], (640,), 0),
        **{name: Stored(BY_NAME["F32"], (4,), 0) for name in tensors},
    }
    return Header(Path("m.gguf"), {"general.architecture": architecture, **keys}, there)


def test_every_sixth_block_of_gemma_sees_all_of_a_text():
    found = gguf_config.config(
        header("gemma3", {"attention.key_length": 256, "attention.sliding_window": 512})
    )

    whole = [n for n, each in enumerate(found["layer_types"]) if each == "full_attention"]
    assert whole == [5, 11, 17]
    usual = Gemma3TextConfig(num_hidden_layers=18)
    assert usual.layer_types == found["layer_types"]
    assert found["rope_parameters"]["sliding_attention"]["rope_theta"] == 10000
    assert found["query_pre_attn_scalar"] == found["head_dim"] == 256


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (3, [True, True, False, True, True]),
        (1, [False] * 5),
        (0, [True] * 5),
        ([True, False, False, True, False], [True, False, False, True, False]),
    ],
)
def test_windows_are_those_of_llama_cpp(pattern, expected):
    assert gguf_config.windows(pattern, 5) == expected


def test_without_a_window_every_block_of_gemma_sees_all():
    found = gguf_config.config(header("gemma3"))

    assert set(found["layer_types"]) == {"full_attention"}


def test_only_the_largest_gemma_divides_by_hidden_numbers_for_a_head():
    sizes = {"hidden_size": 5376, "num_attention_heads": 32, "head_dim": 128}

    assert gguf_config.scores_by({**sizes, "num_hidden_layers": 62}) == 168
    assert gguf_config.scores_by({**sizes, "num_hidden_layers": 48}) == 128


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_factors_of_llama_are_those_of_transformers(factor):
    asked = {**gguf_config.LLAMA3, "factor": factor}
    config = LlamaConfig(
        hidden_size=256,
        num_attention_heads=4,
        head_dim=64,
        max_position_embeddings=131072,
        rope_parameters={"rope_type": "llama3", "rope_theta": 500000.0, **asked},
    )
    used, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = [500000.0 ** (-place / 64) for place in range(0, 64, 2)]

    found = gguf_config.factors(asked, 500000.0, 64)

    expected = [one / other for one, other in zip(plain, used.tolist(), strict=True)]
    assert found == pytest.approx(expected, rel=1e-5)
    assert found[0] == 1 and found[-1] == pytest.approx(factor)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("F16", "float16"), ("BF16", "bfloat16"), ("F32", "float32"), ("Q4_K", "float32")],
)
def test_a_grid_is_unpacked_to_what_holds_it(kind, dtype):
    assert gguf_config.dtype(header("llama", kind=kind)) == dtype


def test_what_tensors_tell_is_read():
    plain = gguf_config.config(header("llama"))
    other = gguf_config.config(
        header("llama", tensors=("output.weight", "blk.0.attn_q.bias", "blk.0.ffn_gate.bias"))
    )

    told = ("tie_word_embeddings", "attention_bias", "mlp_bias")
    assert [plain[key] for key in told] == [True, False, False]
    assert [other[key] for key in told] == [False, True, True]
    assert plain["vocab_size"] == 1000
    assert plain["head_dim"] == 160  # of hidden numbers and heads, where nothing is said
    assert plain["rope_parameters"] == {"rope_type": "default", "rope_theta": 10000.0}


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"attention.head_count": [4, 8]}, "differs from block to block"),
        ({"attention.value_length": 80}, "heads of 160 with values of 80"),
        ({"attention.head_count_kv": [1, 2]}, "different key-value heads by block"),
    ],
)
def test_what_has_no_place_in_a_config_is_one_line(own, words):
    with pytest.raises(BadModel, match=words):
        gguf_config.config(header("llama", own))
