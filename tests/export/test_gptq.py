"""GPTQ files against an unpacking in plain loops; GPTQModel itself: benchmarks/engines."""

import json

import pytest
import torch
from safetensors.torch import load_file

from babelpress.errors import BadLayer, BadRun, NotFinite
from babelpress.export import FORMATS
from babelpress.export._source import Source
from babelpress.models.open import open_model
from babelpress.numerics.grids import CHANNEL, Grid

write = FORMATS.get("gptq")

HEAD = Grid(8, CHANNEL)


def config_of(folder):
    return json.loads((folder / "config.json").read_text())["quantization_config"]


def unpack(words, count, bits):
    """The first `count` values of a row of words, read as one stream of bits."""
    stream = sum((word % 2**32) << (32 * place) for place, word in enumerate(words))
    return [(stream >> (place * bits)) % 2**bits for place in range(count)]


def slow_dequantize(stored, name, bits, offset):
    """What a GPTQ file says, one weight after the other; `offset` is added to stored zeros."""
    qweight, qzeros, scales, g_idx = (
        stored[f"{name}.{part}"].tolist() for part in ("qweight", "qzeros", "scales", "g_idx")
    )
    inputs, outputs = len(g_idx), len(scales[0])
    columns = [unpack([row[o] for row in qweight], inputs, bits) for o in range(outputs)]
    zeros = [unpack(row, outputs, bits) for row in qzeros]
    return torch.tensor(
        [
            [
                (columns[o][i] - zeros[g_idx[i]][o] - offset) * scales[g_idx[i]][o]
                for i in range(inputs)
            ]
            for o in range(outputs)
        ]
    )


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group", [16, CHANNEL])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_file_stands_for_our_weights(bits, group, symmetric, tmp_path, opened, quantized):
    source = quantized(opened("bloom"), Grid(bits, group, symmetric))
    write(source, tmp_path)

    stored = load_file(tmp_path / "model.safetensors")
    for name in source.codes.names():
        expected = source.codes.load(name).dequantize()
        # v1 stores a zero point less one, v2 itself
        assert torch.equal(slow_dequantize(stored, name, bits, int(symmetric)), expected)


def test_tensors_have_the_dtypes_and_shapes_that_loaders_want(tmp_path, opened, quantized):
    write(quantized(opened("bloom", torch.bfloat16), Grid(3, 16)), tmp_path)

    stored = load_file(tmp_path / "model.safetensors")
    name = "transformer.h.1.self_attention.query_key_value"
    found = {
        key.removeprefix(f"{name}."): (str(t.dtype), list(t.shape))
        for key, t in stored.items()
        if key.startswith(f"{name}.")
    }
    assert found == {
        "qweight": ("torch.int32", [3, 96]),
        "qzeros": ("torch.int32", [2, 9]),
        "scales": ("torch.float16", [2, 96]),
        "g_idx": ("torch.int32", [32]),
        "bias": ("torch.float16", [96]),
    }
    assert stored["transformer.h.1.input_layernorm.weight"].dtype == torch.bfloat16


def test_symmetric_zero_points_of_four_bits_are_sevens(tmp_path, opened, quantized):
    write(quantized(opened("bloom"), Grid(4, 16)), tmp_path)

    stored = load_file(tmp_path / "model.safetensors")
    qzeros = [tensor for name, tensor in stored.items() if name.endswith("qzeros")]
    assert len(qzeros) == 8
    assert all((tensor == 0x77777777).all() for tensor in qzeros)


def test_inputs_belong_to_groups_in_order(tmp_path, opened, quantized):
    write(quantized(opened("bloom"), Grid(4, 16)), tmp_path)

    stored = load_file(tmp_path / "model.safetensors")
    g_idx = stored["transformer.h.0.mlp.dense_h_to_4h.g_idx"]
    assert g_idx.tolist() == [0] * 16 + [1] * 16


def test_the_bias_comes_along(tmp_path, opened, quantized):
    of = opened("bloom")
    write(quantized(of, Grid(4, 16)), tmp_path)

    stored = load_file(tmp_path / "model.safetensors")
    name = "transformer.h.0.mlp.dense_4h_to_h.bias"
    assert torch.equal(stored[name], of.model.get_parameter(name).half())


def test_a_zero_point_of_zero_is_kept_where_it_is_asymmetric(tmp_path, opened, quantized):
    of = opened("bloom")
    of.model.get_parameter("transformer.h.0.mlp.dense_4h_to_h.weight").data.abs_()
    source = quantized(of, Grid(4, 16, symmetric=False))
    name = "transformer.h.0.mlp.dense_4h_to_h"
    assert (source.codes.load(name).zero_OG == 0).all()
    write(source, tmp_path)

    stored = load_file(tmp_path / "model.safetensors")
    assert torch.equal(slow_dequantize(stored, name, 4, 0), source.codes.load(name).dequantize())


def test_a_conv1d_is_stored_like_any_linear(tmp_path, opened, quantized):
    source = quantized(opened("gpt2"), Grid(4, 16))
    write(source, tmp_path)

    stored = load_file(tmp_path / "model.safetensors")
    for name in source.codes.names():
        expected = source.codes.load(name).dequantize()
        assert torch.equal(slow_dequantize(stored, name, 4, 1), expected)


# ---- the config ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        (Grid(4, 16), {"bits": 4, "group_size": 16, "sym": True, "checkpoint_format": "gptq"}),
        (
            Grid(8, CHANNEL, symmetric=False),
            {"bits": 8, "group_size": -1, "sym": False, "checkpoint_format": "gptq_v2"},
        ),
    ],
)
def test_the_config_says_the_grid(grid, expected, tmp_path, opened, quantized):
    write(quantized(opened("bloom"), grid), tmp_path)

    assert config_of(tmp_path) == {"quant_method": "gptq", "desc_act": False, **expected}


def test_skipped_linears_of_blocks_have_a_rule_each(tmp_path, opened, quantized):
    skip = ("self_attention.dense",)
    write(quantized(opened("bloom"), Grid(4, 16), skip=skip), tmp_path)

    assert config_of(tmp_path)["dynamic"] == {
        r"-:^transformer\.h\.0\.self_attention\.dense$": {},
        r"-:^transformer\.h\.1\.self_attention\.dense$": {},
    }
    stored = load_file(tmp_path / "model.safetensors")
    assert "transformer.h.1.self_attention.dense.weight" in stored
    assert "transformer.h.1.mlp.dense_h_to_4h.weight" not in stored


def test_the_head_and_the_embedding_stay_dense(tmp_path, quantized):
    mini = open_model("babel-mini")
    source = quantized(mini, Grid(4, 64), others={"model.embed_tokens": HEAD})
    lines = write(source, tmp_path)

    assert lines == [
        "28 linears: 4 bits, group 64",
        "model.embed_tokens: quantized in the run, stored dense here",
    ]
    stored = load_file(tmp_path / "model.safetensors")
    table = mini.model.get_parameter("model.embed_tokens.weight")
    assert torch.equal(stored["model.embed_tokens.weight"], table)
    assert not any(name.startswith("lm_head") for name in stored)
    assert "dynamic" not in config_of(tmp_path)


def test_a_head_of_its_own_stays_dense_too(tmp_path, opened, quantized):
    skip = [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    skip += ["self_attn.k_proj", "self_attn.v_proj"]  # whose outputs are 16
    of = opened()
    lines = write(quantized(of, Grid(4, 16), skip=skip, others={"lm_head": HEAD}), tmp_path)

    assert lines == [
        "4 linears: 4 bits, group 16",
        "lm_head: quantized in the run, stored dense here",
    ]
    stored = load_file(tmp_path / "model.safetensors")
    assert torch.equal(stored["lm_head.weight"], of.model.get_parameter("lm_head.weight"))
    assert len(config_of(tmp_path)["dynamic"]) == 2 * len(skip)


@pytest.mark.parametrize(
    ("grid", "told"), [(Grid(4, 16), False), (Grid(2, 16), True), (Grid(8, 16, False), True)]
)
def test_the_user_is_told_where_vllm_does_not_read_it(grid, told, tmp_path, opened, quantized):
    lines = write(quantized(opened("bloom"), grid), tmp_path)

    assert any("vLLM" in line for line in lines) == told


# ---- refused -------------------------------------------------------------------------------


def refusal(kind, source, folder):
    """The one line that a user gets to see."""
    with pytest.raises(kind) as caught:
        write(source, folder)
    assert "\n" not in str(caught.value)
    assert not list(folder.iterdir())
    return str(caught.value)


def test_a_linear_whose_size_does_not_fit_is_named(tmp_path, opened, quantized):
    assert refusal(BadLayer, quantized(opened(), Grid(4, 16)), tmp_path) == (
        "gptq needs inputs and outputs that 32 divides; model.layers.0.mlp.down_proj has 48 and "
        "32. Leave it out with --skip, or use --format compressed-tensors."
    )


def test_a_group_that_gptqmodel_does_not_know_is_refused(tmp_path, opened, quantized):
    line = refusal(BadRun, quantized(opened("bloom"), Grid(4, 8)), tmp_path)

    assert "groups of 16, 32, 64, 128, 256, 512, 1024 or channel, not 8" in line


def test_two_grids_are_refused(tmp_path, opened, quantized):
    name = "transformer.h.1.mlp.dense_h_to_4h"
    source = quantized(opened("bloom"), Grid(4, 16), others={name: Grid(8, 16)})

    line = refusal(BadRun, source, tmp_path)

    assert "linears of 4 bits, group 16 and of 8 bits, group 16; a gptq file has one grid" in line


def test_a_scale_that_float16_cannot_hold_is_named(tmp_path, opened, quantized):
    of = opened("bloom")
    of.model.get_parameter("transformer.h.1.mlp.dense_h_to_4h.weight").data.mul_(1e9)

    line = refusal(NotFinite, quantized(of, Grid(4, 16)), tmp_path)

    assert "a scale of transformer.h.1.mlp.dense_h_to_4h does not fit float16" in line


def test_a_bias_that_float16_cannot_hold_is_named(tmp_path, opened, quantized):
    of = opened("bloom")
    of.model.get_parameter("transformer.h.1.mlp.dense_h_to_4h.bias").data[3] = 1e9

    line = refusal(NotFinite, quantized(of, Grid(4, 16)), tmp_path)

    assert "transformer.h.1.mlp.dense_h_to_4h.bias holds NaN or infinity in torch.float16" in line


def test_a_run_without_codes_is_sent_elsewhere(tmp_path, opened):
    assert refusal(BadRun, Source("RUN", opened()), tmp_path) == (
        "nothing is quantized in RUN: babelpress quantize first, or --format safetensors."
    )
