"""A dense folder: what transformers opens is, bit for bit, the model that was exported."""

import json

import pico
import pytest
import torch
from safetensors.torch import load_file

from babelpress.errors import BadRun, NotFinite
from babelpress.export import FORMATS
from babelpress.export._source import Source
from babelpress.models.open import open_model
from babelpress.numerics.grids import Grid

write = FORMATS.get("safetensors")


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("family", pico.EVERY)
def test_the_exported_model_opens_as_it_was(family, tmp_path, opened):
    before = opened(family, torch.bfloat16)

    assert write(Source("pico", before), tmp_path) == []

    after = open_model(str(tmp_path))
    expected, found = before.model.state_dict(), after.model.state_dict()
    assert after.stored_dtype is torch.bfloat16
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert after.tokenizer("juu ya mti").input_ids == before.tokenizer("juu ya mti").input_ids
    assert (tmp_path / "generation_config.json").exists() is before.model.can_generate()


def test_zeros_and_quantized_weights_come_as_they_are(tmp_path, opened, quantized):
    source = quantized(opened(), Grid(3, 16, symmetric=False))
    weight_OI = source.opened.model.get_parameter("model.layers.1.mlp.up_proj.weight")
    with torch.no_grad():
        weight_OI[:, 1::4] = 0

    write(source, tmp_path)

    stored = load_file(tmp_path / "model.safetensors")
    assert torch.equal(stored["model.layers.1.mlp.up_proj.weight"], weight_OI)
    assert "quantization_config" not in config_of(tmp_path)


def test_weights_have_the_dtype_of_the_file_and_the_open_model_keeps_its_own(tmp_path, opened):
    of = opened("bloom", torch.float16)  # its head is tied
    of.model.float()

    write(Source("pico", of), tmp_path)

    stored = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert not any("lm_head" in name for name in stored)
    assert config_of(tmp_path)["dtype"] == "float16"
    assert of.model.dtype is torch.float32


def test_a_weight_too_large_for_the_dtype_of_the_file_is_named(tmp_path, opened):
    of = opened(dtype=torch.float16)
    of.model.float()
    with torch.no_grad():
        of.model.get_parameter("model.layers.0.mlp.up_proj.weight")[1, 2] = 1e6

    with pytest.raises(NotFinite, match=r"model\.layers\.0\.mlp\.up_proj\.weight.*float16"):
        write(Source("pico", of), tmp_path)


def test_code_of_the_authors_is_left_out_and_the_user_told(tmp_path, opened):
    of = opened()
    of.model.config.auto_map = {"AutoModelForCausalLM": "modeling_x.XForCausalLM"}
    of.tokenizer.init_kwargs["auto_map"] = {"AutoTokenizer": ["tokenization_x.X", None]}

    (line,) = write(Source("pico", of), tmp_path)

    assert "code of its authors" in line
    assert not any("auto_map" in path.read_text() for path in tmp_path.glob("*.json"))
    assert not list(tmp_path.glob("*.py"))
    assert open_model(str(tmp_path))


def test_what_an_old_config_says_of_compression_is_left_out(tmp_path, opened):
    of = opened()
    of.model.config.sparsity_config = {"format": "dense", "targets": ["Linear"]}

    write(Source("pico", of), tmp_path)

    assert "sparsity_config" not in config_of(tmp_path)


def test_a_disk_that_refuses_is_one_line(tmp_path, opened):
    (tmp_path / "model.safetensors").mkdir()

    with pytest.raises(BadRun, match="cannot write the model to"):
        write(Source("pico", opened()), tmp_path)


def test_the_record_says_how_it_was_made(tmp_path, opened, quantized):
    source = quantized(opened(), Grid(4, 16))

    write(source, tmp_path)

    record = json.loads((tmp_path / "babelpress.json").read_text())
    assert record["format"] == "safetensors"
    assert record["model"] == "RUN"
    assert record["shares"] == {"swh_Latn": 0.7, "hin_Deva": 0.3}
    assert record["recipe"]["steps"] == [{"quantize": {"method": "rtn"}}]
    assert record["steps"][0]["calibration"]["fingerprint"] == "f00d"
    assert "cost" not in record["steps"][0]


def test_the_record_of_a_plain_model_is_short(tmp_path, opened):
    write(Source("pico", opened()), tmp_path)

    record = json.loads((tmp_path / "babelpress.json").read_text())
    assert record.keys() == {"babelpress", "format", "model", "shares"}
