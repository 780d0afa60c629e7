"""Models that also see images are exported whole: what sees is dense, and named as such."""

import json
import re

import pico
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import CompressedTensorsConfig

from babelpress.errors import BadModel
from babelpress.export import FORMATS
from babelpress.models.open import Opened
from babelpress.numerics.grids import Grid

# transformers says that the config in the file wins over the one that is passed
pytestmark = pytest.mark.filterwarnings("ignore:You passed `quantization_config`:UserWarning")
FAMILIES = ["gemma3", "mistral3", "qwen2_vl"]
every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture
def source(family, quantized):
    opened = Opened("seeing", pico.seeing(family), pico.tokenizer(), torch.float32)
    return quantized(opened, Grid(4, 16, symmetric=True))


def seeing_linears(model):
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.search("vision|visual|projector", name)
    }


@every_family
def test_compressed_tensors_of_the_language_model_are_read_and_the_rest_is_left_out(
    family, source, tmp_path
):
    pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed")
    model = source.opened.model
    FORMATS.get("compressed-tensors")(source, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert seeing_linears(model) <= set(config["quantization_config"]["ignore"])

    how = CompressedTensorsConfig(dequantize=True)
    loaded = type(model).from_pretrained(
        tmp_path, dtype=torch.float32, quantization_config=how, attn_implementation="eager"
    )

    model.set_attn_implementation("eager")
    ids_BT = torch.arange(10, 22)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(ids_BT).logits, model(ids_BT).logits)


@every_family
def test_gptq_says_of_every_linear_that_sees_that_it_is_dense(family, quantized, tmp_path):
    opened = Opened("seeing", pico.seeing(family), pico.tokenizer(), torch.float32)
    # widths of the pico models that the format takes
    small = (
        "self_attn.k_proj",
        "self_attn.v_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    )
    source = quantized(opened, Grid(4, 16, symmetric=True), skip=small)
    FORMATS.get("gptq")(source, tmp_path)

    rules = json.loads((tmp_path / "config.json").read_text())["quantization_config"]["dynamic"]
    for name in seeing_linears(opened.model):
        assert any(re.match(rule.removeprefix("-:"), name) for rule in rules)
    assert not any(re.match(rule.removeprefix("-:"), "lm_head") for rule in rules)
    stored = load_file(tmp_path / "model.safetensors")
    packed = [name for name in stored if name.endswith("qweight")]
    assert len(packed) == 4
    assert not any(re.search("vision|visual|projector", name) for name in packed)


@every_family
def test_gguf_has_no_place_for_them(family, source, tmp_path):
    pytest.importorskip("gguf", reason="gguf is not installed")
    with pytest.raises(BadModel, match=r"cannot be written for llama\.cpp"):
        FORMATS.get("gguf")(source, tmp_path)
