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


@pytest.fixture(autouse=True)
def a_file_of_zeros(tmp_path, monkeypatch):
    """What norms and biases of the header are read of."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.gguf").write_bytes(bytes(4 * 640))


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


@pytest.mark.parametrize(
    ("kind", "number", "dtype"),
    [
        ("F16", 1 + 2**-10, "float16"),
        ("F16", 1 + 2**-11, "float32"),
        ("F16", 70000.0, "float32"),
        ("BF16", 1 + 2**-7, "bfloat16"),
        ("BF16", 70144.0, "bfloat16"),
        ("BF16", 1 + 2**-8, "float32"),
        ("F32", 1 + 2**-20, "float32"),
    ],
)
def test_a_norm_that_a_narrow_float_does_not_hold_makes_all_float32(kind, number, dtype, tmp_path):
    numbers = torch.ones(640)
    numbers[7] = number
    (tmp_path / "m.gguf").write_bytes(numbers.numpy().tobytes())

    assert gguf_config.dtype(header("llama", kind=kind)) == dtype
    narrow = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}[kind]
    assert torch.equal(numbers.to(narrow).float(), numbers) == (
        dtype == str(narrow).removeprefix("torch.")
    )


def test_a_norm_with_one_added_is_held_where_one_can_be_added_again(tmp_path):
    weight = torch.full((640,), 0.001).bfloat16()  # to one and a thousandth bfloat16 is blind
    (tmp_path / "m.gguf").write_bytes((weight.float() + 1).numpy().tobytes())

    assert gguf_config.dtype(header("gemma3", kind="BF16")) == "bfloat16"
    assert gguf_config.dtype(header("llama", kind="BF16")) == "float32"


def test_matrices_of_two_floats_are_float32():
    plain = header("llama", kind="BF16")
    more = {"blk.0.attn_k.weight": Stored(BY_NAME["F16"], (256, 640), 0)}

    odd = Header(plain.path, plain.metadata, {**plain.tensors, **more})
    assert gguf_config.dtype(odd) == "float32"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"rope.scaling.factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"rope.scale_linear": 2.0}, {"rope_type": "linear", "factor": 2.0}),
        ({"rope.scaling.factor": 0.0}, {"rope_type": "default"}),
        ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, {"rope_type": "default"}),
        ({"rope.scaling.type": "linear"}, {"rope_type": "default"}),
    ],
)
def test_positions_are_scaled_as_llama_cpp_reads_the_keys(own, expected):
    found = gguf_config.config(header("llama", own))["rope_parameters"]

    assert found == {"rope_theta": 10000.0, **expected}


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
        ({"attention.causal": False}, r"sees text on both sides \(attention\.causal\)"),
        ({"attention.head_count": 0}, r"llama\.attention\.head_count is 0, and has to be a whole"),
        ({"attention.head_count_kv": 0}, r"llama\.attention\.head_count_kv is 0"),
        ({"block_count": "two"}, r"llama\.block_count is 'two'"),
        ({"embedding_length": 640.0}, r"llama\.embedding_length is 640\.0"),
        ({"rope.freq_base": "big"}, r"llama\.rope\.freq_base is 'big', and has to be a number"),
        ({"rope.scaling.type": "yarn"}, "scales its rotary positions by yarn"),
    ],
)
def test_what_has_no_place_in_a_config_is_one_line(own, words):
    with pytest.raises(BadModel, match=words):
        gguf_config.config(header("llama", own))


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"rope.scaling.type": "yarn"}, "by yarn, which"),
        ({"rope.scaling.factor": 2.0}, r"by linear and by rope_freqs\.weight, which"),
    ],
)
def test_two_ways_to_scale_positions_are_one_line(own, words):
    with pytest.raises(BadModel, match=words):
        gguf_config.config(header("llama", own, tensors=(gguf_config.FACTORS,)))


@pytest.mark.parametrize("key", gguf_config.IDS)
def test_an_id_beyond_the_embeddings_is_one_line(key):
    odd = header("llama")
    metadata = {**odd.metadata, key: 1000}

    with pytest.raises(BadModel, match=f"{key} is 1000, and the model has 1000 embeddings"):
        gguf_config.config(Header(odd.path, metadata, odd.tensors))
