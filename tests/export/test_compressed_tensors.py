"""compressed-tensors files, read by transformers with compressed-tensors itself."""

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, CompressedTensorsConfig

from babelpress.errors import BadLayer, BadRun, NotFinite
from babelpress.export import FORMATS
from babelpress.export._source import Source
from babelpress.models.linears import set_weight
from babelpress.models.open import open_model
from babelpress.numerics.grids import CHANNEL, Grid

write = FORMATS.get("compressed-tensors")

# transformers says that the config in the file wins over the one that is passed
pytestmark = pytest.mark.filterwarnings("ignore:You passed `quantization_config`:UserWarning")
FAMILIES = ["llama", "qwen3", "gemma3", "bloom"]
every_family = pytest.mark.parametrize("family", FAMILIES)
GRIDS = [(2, 16), (4, CHANNEL), (8, 16), (4, 16)]
every_grid = pytest.mark.parametrize(("bits", "group"), GRIDS)
HEAD = Grid(8, CHANNEL)


@pytest.fixture(scope="module")
def library():
    """compressed-tensors, where it is installed."""
    reason = "compressed-tensors is not installed"
    return pytest.importorskip("compressed_tensors", reason=reason)


def load(folder, *, dense_at_once=False, attention: str | None = "eager"):
    """What transformers makes of an export, in float32.

    By itself it makes weights dense at the first pass; `dense_at_once` as it reads them.
    """
    how = {"dtype": torch.float32, "attn_implementation": attention}
    if dense_at_once:
        how["quantization_config"] = CompressedTensorsConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(folder, **how).eval()


def config_of(folder):
    return json.loads((folder / "config.json").read_text())["quantization_config"]


@torch.no_grad()
def logits(model, ids):
    return model(ids).logits


def in_float32(source, *, rounded=None):
    """Our model with exactly the weights that the codes stand for, or those in a dtype."""
    model = source.opened.model.float()
    for name in source.codes.names():
        weight_OI = source.codes.load(name).dequantize()
        weight_OI = weight_OI if rounded is None else weight_OI.to(rounded).float()
        set_weight(model.get_submodule(name), weight_OI)
    return model


# ---- transformers --------------------------------------------------------------------------


@every_family
@every_grid
@pytest.mark.parametrize("dense_at_once", [False, True])
def test_transformers_gives_our_logits_symmetric(
    library, family, bits, group, dense_at_once, tmp_path, opened, quantized, ids
):
    source = quantized(opened(family), Grid(bits, group))
    write(source, tmp_path)

    assert torch.equal(
        logits(load(tmp_path, dense_at_once=dense_at_once), ids),
        logits(source.opened.model, ids),
    )


@every_family
@every_grid
def test_transformers_gives_our_logits_asymmetric(
    library, family, bits, group, tmp_path, opened, quantized, ids
):
    source = quantized(opened(family), Grid(bits, group, symmetric=False))
    lines = write(source, tmp_path)

    assert torch.equal(
        logits(load(tmp_path, dense_at_once=True), ids), logits(source.opened.model, ids)
    )
    assert "asymmetric: transformers needs CompressedTensorsConfig(dequantize=True)" in lines


@pytest.mark.parametrize("symmetric", [True, False])
def test_transformers_gives_our_logits_for_babel_mini(library, symmetric, tmp_path, quantized):
    mini = open_model("babel-mini")
    source = quantized(mini, Grid(4, 64, symmetric))
    write(source, tmp_path)
    ids = mini.tokenizer("Ndege mdogo juu ya mti mrefu.", return_tensors="pt").input_ids

    used = mini.model.config._attn_implementation
    found = logits(load(tmp_path, dense_at_once=not symmetric, attention=used), ids)

    # read at once, weights are computed in the dtype of the scales
    expected = in_float32(source, rounded=None if symmetric else torch.bfloat16)
    assert torch.equal(found, logits(expected, ids))


def test_skipped_linears_and_the_head_stay_dense_and_are_listed(
    library, tmp_path, opened, quantized, ids
):
    skip = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    source = quantized(opened(), Grid(4, 16), skip=skip)
    write(source, tmp_path)

    layers = [f"model.layers.{index}.{name}" for index in (0, 1) for name in skip]
    assert config_of(tmp_path)["ignore"] == [*layers, "lm_head"]
    assert torch.equal(logits(load(tmp_path), ids), logits(source.opened.model, ids))


def test_a_head_of_eight_bits_has_a_group_of_its_own(library, tmp_path, opened, quantized, ids):
    source = quantized(opened(), Grid(4, 16), others={"lm_head": HEAD})
    lines = write(source, tmp_path)

    blocks, head = config_of(tmp_path)["config_groups"].values()
    assert len(blocks["targets"]) == 14
    assert "model.layers.1.mlp.down_proj" in blocks["targets"]
    assert head["targets"] == ["lm_head"]
    assert (blocks["weights"]["num_bits"], head["weights"]["num_bits"]) == (4, 8)
    assert config_of(tmp_path)["ignore"] == []
    assert lines == [
        "14 linears: 4 bits, group 16",
        "1 linears: 8 bits, channel",
        "the head is quantized: transformers reads that, vLLM may not",
    ]
    assert torch.equal(logits(load(tmp_path), ids), logits(source.opened.model, ids))


def test_beside_asymmetric_blocks_the_head_stays_dense(library, tmp_path, opened, quantized, ids):
    """transformers could read neither otherwise."""
    source = quantized(opened(), Grid(4, 16, symmetric=False), others={"lm_head": HEAD})
    lines = write(source, tmp_path)

    assert "lm_head: quantized in the run, stored dense here" in lines
    assert config_of(tmp_path)["ignore"] == ["lm_head"]
    assert torch.equal(
        logits(load(tmp_path, dense_at_once=True), ids), logits(source.opened.model, ids)
    )


@pytest.mark.parametrize("family", ["llama", "bloom"])  # with a head of its own and a tied one
def test_an_embedding_of_eight_bits_is_stored_dense(
    library, family, tmp_path, opened, quantized, ids
):
    of = opened(family)
    name = {"llama": "model.embed_tokens", "bloom": "transformer.word_embeddings"}[family]
    source = quantized(of, Grid(4, 16), others={name: HEAD})
    lines = write(source, tmp_path)

    assert f"{name}: quantized in the run, stored dense here" in lines
    assert config_of(tmp_path)["ignore"] == ["lm_head"]
    assert torch.equal(logits(load(tmp_path), ids), logits(of.model, ids))


def test_a_tied_head_with_codes_is_stored_dense(library, tmp_path, opened, quantized, ids):
    of = opened("bloom")
    source = quantized(of, Grid(4, 16), others={"lm_head": HEAD})
    lines = write(source, tmp_path)

    assert "lm_head: quantized in the run, stored dense here" in lines
    assert torch.equal(logits(load(tmp_path), ids), logits(of.model, ids))


# ---- the file ------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [True, False])
@every_grid
def test_tensors_are_those_that_the_compressor_makes_of_our_weights(
    library, symmetric, bits, group, tmp_path, opened, quantized
):
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationScheme

    source = quantized(opened(), Grid(bits, group, symmetric))
    write(source, tmp_path)

    stored = load_file(tmp_path / "model.safetensors")
    scheme = QuantizationScheme.model_validate(config_of(tmp_path)["config_groups"]["group_0"])
    compressor = BaseCompressor.get_value_from_registry("pack-quantized")
    for name in source.codes.names():
        codes = source.codes.load(name)
        parts = {
            "weight": codes.dequantize(),
            "weight_scale": codes.scale_OG,
            "weight_zero_point": (codes.zero_OG.int() - 2 ** (bits - 1)).to(torch.int8),
        }
        expected: dict[str, Any] = compressor.compress(parts, scheme)
        found = {key: t for key, t in stored.items() if key.startswith(f"{name}.")}
        assert found.keys() == {f"{name}.{key}" for key in expected}
        for key, tensor in expected.items():
            assert found[f"{name}.{key}"].dtype == tensor.dtype
            assert torch.equal(found[f"{name}.{key}"], tensor)


@pytest.mark.parametrize("symmetric", [True, False])
@every_grid
def test_the_config_has_the_fewest_fields_and_fits_the_schema(
    library, symmetric, bits, group, tmp_path, opened, quantized
):
    write(quantized(opened(), Grid(bits, group, symmetric)), tmp_path)

    config = config_of(tmp_path)
    weights = config["config_groups"]["group_0"]["weights"]
    assert config.keys() == {
        "quant_method", "format", "quantization_status", "ignore", "config_groups",
    }  # fmt: skip
    fields = {"num_bits", "type", "symmetric", "strategy", "dynamic"}
    assert weights.keys() == fields | (set() if group == CHANNEL else {"group_size"})
    schema = library.quantization.QuantizationConfig.model_validate(config)
    read = schema.config_groups["group_0"].weights
    assert (read.num_bits, read.symmetric) == (bits, symmetric)
    assert read.strategy == ("channel" if group == CHANNEL else "group")
    assert read.group_size == (None if group == CHANNEL else group)


def test_a_group_as_wide_as_some_linears_is_one_grid_with_the_others(tmp_path, opened, quantized):
    """Inputs are 32 and, of the last linear of a block, 128."""
    lines = write(quantized(opened("bloom"), Grid(4, 32)), tmp_path)

    assert lines == ["8 linears: 4 bits, group 32"]


def test_scales_have_the_dtype_of_the_model(tmp_path, opened, quantized):
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        (folder := tmp_path / str(dtype)).mkdir()
        source = quantized(opened(dtype=dtype), Grid(4, 16))
        write(source, folder)

        stored = load_file(folder / "model.safetensors")
        name = "model.layers.1.self_attn.o_proj"
        scale_OG = stored[f"{name}.weight_scale"]
        assert scale_OG.dtype == dtype
        assert torch.equal(scale_OG.float(), source.codes.load(name).scale_OG)


# ---- refused -------------------------------------------------------------------------------


def refusal(kind, source, folder):
    """The one line that a user gets to see."""
    with pytest.raises(kind) as caught:
        write(source, folder)
    assert "\n" not in str(caught.value)
    assert not list(folder.iterdir())
    return str(caught.value)


def test_three_bits_are_refused_with_what_to_do(tmp_path, opened, quantized):
    line = refusal(BadRun, quantized(opened(), Grid(3, 16)), tmp_path)

    assert line == (
        "model.layers.0.mlp.down_proj has 3 bits, which versions of compressed-tensors lay out "
        "in different ways. Quantize to 2, 4, 8 bits, or use --format gptq."
    )


def test_a_conv1d_is_refused_by_kind(tmp_path, opened, quantized):
    line = refusal(BadLayer, quantized(opened("gpt2"), Grid(4, 16)), tmp_path)

    assert "nn.Linear only; transformer.h.0.attn.c_attn is a Conv1D" in line


def test_where_only_the_embedding_is_quantized_nothing_is_left_to_pack(tmp_path, opened, quantized):
    source = quantized(opened(), None, others={"model.embed_tokens": HEAD})

    assert "codes of model.embed_tokens only" in refusal(BadRun, source, tmp_path)


def test_a_scale_that_the_dtype_cannot_hold_is_named(tmp_path, opened, quantized):
    of = opened(dtype=torch.float16)
    of.model.float()
    with torch.no_grad():
        of.model.get_parameter("model.layers.1.mlp.up_proj.weight").mul_(1e9)

    line = refusal(NotFinite, quantized(of, Grid(4, 16)), tmp_path)

    assert "a scale of model.layers.1.mlp.up_proj does not fit torch.float16" in line


def test_a_run_without_codes_is_sent_elsewhere(tmp_path, opened):
    assert refusal(BadRun, Source("RUN", opened()), tmp_path) == (
        "nothing is quantized in RUN: babelpress quantize first, or --format safetensors."
    )
