"""Files of LLM.int8: bitsandbytes reads them and computes what is said of them."""

import json
import sys
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pico
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel, AutoModelForTokenClassification, BertConfig, BertModel

import babelpress as bp
from babelpress.errors import BadLayer, BadModel, BadSetting, NotFinite
from babelpress.export import _tried
from babelpress.export import bitsandbytes as form
from babelpress.export._source import Source
from babelpress.models.linears import linears
from babelpress.models.open import Opened
from babelpress.models.walk import Walk
from babelpress.numerics.grids import Grid
from babelpress.numerics.vectorwise import coded, product, stood_for

SHARES = {"swh_Latn": 0.75, "hin_Deva": 0.25}
THRESHOLD = 1.25  # that some inputs of a tiny model reach


def made(family="xlm_roberta"):
    """A source of a tiny model whose weights are larger than new ones, as trained ones are."""
    model = pico.model(family)
    lot = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=lot))
    return Source(family, Opened(family, model, pico.tokenizer(), torch.float32), shares=SHARES)


def in_blocks(model):
    """The linears of blocks by name."""
    walk = Walk(model)
    return {
        walk.name(index, name): layer
        for index, block in enumerate(walk.blocks)
        for name, layer in linears(block).items()
    }


@pytest.fixture(scope="module")
def source():
    return made()


@pytest.fixture(scope="module")
def written(source, tmp_path_factory):
    """The folder and the lines of an export."""
    folder = tmp_path_factory.mktemp("eight")
    return folder, form.write(source, folder, threshold=THRESHOLD)


def test_linears_of_blocks_are_codes_and_all_else_is_as_it_was(source, written):
    folder, lines = written
    stored, dense = load_file(folder / "model.safetensors"), source.opened.model.state_dict()
    names = in_blocks(source.opened.model)

    assert len(names) == 12
    assert lines[0] == (
        "12 linears of blocks at 8 bits a row: 14,336 weights; embeddings stay as they are: 12,544"
    )
    for name in names:
        code_OI, largest_O = coded(dense[f"{name}.weight"])
        assert torch.equal(stored.pop(f"{name}.weight"), code_OI)
        assert torch.equal(stored.pop(f"{name}.SCB"), largest_O)
        assert stored.pop(f"{name}.weight_format").item() == 0
        del dense[f"{name}.weight"]
    assert stored.keys() == dense.keys() - {"roberta.embeddings.position_ids"}
    assert all(torch.equal(stored[name], dense[name]) for name in stored)
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert config == {
        "quant_method": "bitsandbytes",
        "load_in_8bit": True,
        "llm_int8_threshold": THRESHOLD,
        "llm_int8_skip_modules": ["classifier"],
    }


def test_what_weights_alone_change_and_what_inputs_do_besides_are_told_apart(source, written):
    """By models whose weights, or whose linears' outputs, are put in place one by one."""
    _, lines = written
    texts = _tried.texts_of(source)
    before = _tried.in_torch(source.opened.model, texts)

    rounded = deepcopy(source.opened.model)
    for layer in in_blocks(rounded).values():
        layer.weight.data = stood_for(*coded(layer.weight.data))
    weights = _tried.in_torch(rounded, texts)
    for layer in in_blocks(rounded).values():
        codes = coded(layer.weight.data)
        layer.register_forward_hook(
            lambda module, args, _, codes=codes: product(
                args[0].flatten(0, -2), *codes, THRESHOLD
            ).view(*args[0].shape[:-1], -1) + module.bias
        )  # fmt: skip
    both = _tried.in_torch(rounded, texts)

    shares = [
        np.sqrt(
            sum(
                np.square(a["logits"] - b["logits"]).sum()
                for a, b in zip(found, before, strict=True)
            )
            / sum(np.square(b["logits"]).sum() for b in before)
        )
        for found in (weights, both)
    ]
    assert lines[1].startswith(
        f"rounded weights alone change the outputs on 24 texts by {shares[0]:.1%} of"
    )
    assert f"does while it runs, by {shares[1]:.1%} of their size" in lines[2]
    assert 0 < shares[0] < shares[1] < 0.1


def test_bitsandbytes_gives_what_is_said_of_it(source, written, tmp_path, caplog):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    folder, lines = written
    texts = _tried.texts_of(source)

    loaded: Any = AutoModelForTokenClassification.from_pretrained(folder, device_map="cpu")

    kinds = {name: type(module).__name__ for name, module in loaded.named_modules()}
    assert {kinds[name] for name in in_blocks(source.opened.model)} == {"Linear8bitLt"}
    assert type(loaded.classifier) is nn.Linear
    before = _tried.in_torch(source.opened.model, texts)
    theirs = _tried.change(texts, before, _tried.in_torch(loaded.eval(), texts))
    assert f"by {theirs.split('%')[0]}% of" in lines[2]

    caplog.clear()
    out = bp.evaluate(str(folder), on="retrieval", languages="sw", out=tmp_path / "scores")
    assert len(out.rows) == 1
    assert "MatMul8bitLt" not in caplog.text  # which it else says at every linear


def test_a_sentence_encoder_without_its_class_s_pooler_is_loaded(tmp_path):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    model: Any = BertModel(BertConfig(**pico._ENCODER), add_pooling_layer=False).eval()
    opened = Opened("sentences", model, pico.tokenizer(), torch.float32)
    form.write(Source("sentences", opened), tmp_path)

    loaded = AutoModel.from_pretrained(tmp_path, device_map="cpu")

    assert type(loaded.pooler.dense) is nn.Linear
    assert type(loaded.encoder.layer[1].output.dense).__name__ == "Linear8bitLt"


def test_codes_of_a_run_are_said_to_be_rounded_anew(quantized, tmp_path):
    lines = form.write(quantized(made().opened, Grid(4, 16)), tmp_path)

    assert "numbers that the run's codes stand for are rounded anew to 8 bits" in lines


def test_what_it_has_no_place_for_is_refused(source, tmp_path):
    with pytest.raises(BadSetting, match=r"threshold is -1\. Give 0"):
        form.write(source, tmp_path, threshold=-1)
    for family, kind in (("gpt2", "Conv1D"), ("mixtral", "Slice")):
        with pytest.raises(BadLayer, match=f"is a {kind}, and bitsandbytes rounds"):
            form.write(made(family), tmp_path)
    with pytest.raises(BadModel, match=r"is an encoder with a decoder \(T5For.*not tried"):
        form.write(made("t5"), tmp_path)
    large = made()
    layer = next(iter(in_blocks(large.opened.model).values()))
    layer.weight.data[0, 0] = 1e5
    with pytest.raises(NotFinite, match=r"query does not fit float16"):
        form.write(large, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_package_is_not_needed_to_write(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)

    form.write(replace(source, shares=None), tmp_path)

    assert (tmp_path / "model.safetensors").exists()
