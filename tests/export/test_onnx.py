"""ONNX files compute in onnxruntime what transformers does, and say what int8 changes."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pico
import pytest
import torch
from transformers import BertConfig, BertForMultipleChoice

import babelpress as bp
from babelpress.errors import BadModel, BadSetting, MissingPackage, NotFinite
from babelpress.export import FORMATS, _tried
from babelpress.export import onnx as form
from babelpress.export._serving import ways
from babelpress.export._source import Source
from babelpress.models.open import Opened
from babelpress.models.weights import weights_hash
from babelpress.numerics.grids import Grid
from babelpress.system.files import sha256_file

onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed")
runtime: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
ir: Any = pytest.importorskip("onnx_ir", reason="onnxscript is not installed")

FILE = "model.onnx"
SHAPES = [(1, 1), (1, 9), (3, 40), (2, 2)]  # batches and lengths, none of those of the export
SHARES = {"swh_Latn": 0.75, "hin_Deva": 0.25}


def made(family="xlm_roberta"):
    """A source of a tiny encoder whose biases and norms, unlike new ones, are not all alike."""
    model = pico.model(family)
    lot = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=lot))
    return Source(family, Opened(family, model, pico.tokenizer(), torch.float32), shares=SHARES)


@pytest.fixture(scope="module")
def source():
    return made()


@pytest.fixture(scope="module")
def written(source, tmp_path_factory):
    """`written(int8)`: the folder and the lines of an export, made once."""
    found: dict[str, tuple[Path, list[str]]] = {}

    def make(int8: str = "off") -> tuple[Path, list[str]]:
        if int8 not in found:
            folder = tmp_path_factory.mktemp(int8)
            found[int8] = folder, FORMATS.get("onnx")(source, folder, int8=int8)
        return found[int8]

    return make


def batches():
    """Ids and masks of several shapes; the last text of every larger batch is half padding."""
    lot = torch.Generator().manual_seed(3)
    for shape in SHAPES:
        ids_BT = torch.randint(3, pico.VOCABULARY, shape, generator=lot)
        mask_BT = torch.ones_like(ids_BT)
        if shape[0] > 1:
            mask_BT[-1, (shape[1] + 1) // 2 :] = 0
        yield {"input_ids": ids_BT, "attention_mask": mask_BT}


def in_runtime(path, feed):
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {name: each.numpy() for name, each in feed.items()})[0]


def check_computes(folder, model, feeds):
    """Ten times what float32 rounding does to the model itself, which float64 tells."""
    exact = [model.double()(**feed)[0].detach() for feed in feeds]
    single = [model.float()(**feed)[0].detach() for feed in feeds]
    rounding = max(float((s - e).abs().max()) for s, e in zip(single, exact, strict=True))
    for feed, its in zip(feeds, exact, strict=True):
        apart = np.abs(in_runtime(folder / "model.onnx", feed) - its.numpy())
        per_token = its.shape[:2] == feed["attention_mask"].shape
        counted = apart[feed["attention_mask"].bool().numpy()] if per_token else apart
        assert counted.max() <= 10 * rounding


# ---- float32 -------------------------------------------------------------------------------


def test_onnxruntime_computes_what_transformers_does_on_any_batch_and_length(source, written):
    folder, lines = written()

    check_computes(folder, source.opened.model, list(batches()))
    assert re.fullmatch(
        r"onnxruntime gives what PyTorch does on 24 texts: at most \d\.\de-\d\d from float64, "
        r"PyTorch in float32 \d\.\de-\d\d",
        lines[0],
    )
    assert len(lines) == 1


@pytest.mark.slow
@pytest.mark.parametrize("family", [each for each in pico.ENCODERS if each != "xlm_roberta"])
def test_every_family_of_encoders_is_computed_as_transformers_does(family, tmp_path):
    source = made(family)

    form.write(source, tmp_path)

    check_computes(tmp_path, source.opened.model, list(batches()))


@pytest.mark.slow
@pytest.mark.parametrize("int8", form.WAYS)
def test_weights_too_large_for_one_file_lie_beside_it(int8, source, tmp_path, monkeypatch):
    monkeypatch.setattr(form, "ONE_FILE", 1000)

    form.write(source, tmp_path, int8=int8)

    assert (tmp_path / "model.onnx.data").stat().st_size > 10_000
    assert (tmp_path / "model.onnx").stat().st_size < 60_000
    if int8 == "off":
        check_computes(tmp_path, source.opened.model, list(batches()))


def test_the_folder_is_whole_and_the_model_as_it_was(source, written):
    before = weights_hash(source.opened.model)
    folder, _ = written()

    assert {path.name for path in folder.iterdir()} == {
        "babelpress.json", "config.json", "model.onnx", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert json.loads((folder / "babelpress.json").read_text())["format"] == "onnx"
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == "float32"
    assert config["architectures"] == ["XLMRobertaForTokenClassification"]
    assert weights_hash(source.opened.model) == before
    for where in (b"site-packages", str(Path(form.__file__).parent).encode()):
        assert where not in (folder / "model.onnx").read_bytes()


def test_writing_twice_gives_the_same_bytes(source, written, tmp_path):
    folder, _ = written()

    form.write(source, tmp_path)

    for path in folder.iterdir():
        assert sha256_file(path) == sha256_file(tmp_path / path.name), path.name


def test_the_lines_that_serve_it_work(source, written):
    folder, _ = written()
    (way,) = ways("onnx", source, folder)
    found: dict[str, Any] = {}

    exec(way.text, found)

    assert way.language == "python"
    ids_BT = torch.tensor([[*pico.tokenizer()("Habari ya asubuhi").input_ids]])
    torch.testing.assert_close(
        torch.tensor(found["outputs"][0]), source.opened.model(ids_BT).logits, atol=1e-5, rtol=0
    )


def test_a_tied_weight_stays_one_and_others_are_multiplied_as_they_are():
    """x·Wᵀ·Eᵀ, where rows of E are read too: only W may be turned."""
    lot = np.random.default_rng(0)
    tables = {name: lot.normal(size=(5, 4)).astype(np.float32) for name in "WE"}
    node = onnx.helper.make_node
    inputs = [
        onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4]),
        onnx.helper.make_tensor_value_info("i", onnx.TensorProto.INT64, ["n"]),
    ]
    outputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", size])
        for name, size in (("a", 5), ("b", 5))
    ]
    nodes = [
        node("Transpose", ["W"], ["turned"], perm=[1, 0]),
        node("MatMul", ["x", "turned"], ["a"]),
        node("Gather", ["E", "i"], ["rows"]),
        node("Transpose", ["E"], ["head"], perm=[1, 0]),
        node("MatMul", ["rows", "head"], ["b"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "both",
        inputs,
        outputs,
        [onnx.numpy_helper.from_array(t, n) for n, t in tables.items()],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    proto = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    model = ir.from_proto(proto)
    feed = {"x": lot.normal(size=(3, 4)).astype(np.float32), "i": np.array([0, 4, 1])}

    form._tidy(model.graph)

    after = ir.to_proto(model)
    assert [each.op_type for each in after.graph.node].count("Transpose") == 1
    for each, other in zip(
        runtime.InferenceSession(proto.SerializeToString()).run(None, feed),
        runtime.InferenceSession(after.SerializeToString()).run(None, feed),
        strict=True,
    ):
        np.testing.assert_allclose(each, other, rtol=1e-6)


# ---- int8 ----------------------------------------------------------------------------------


def test_weights_of_linears_are_their_nearest_seven_bits_of_one_scale_an_output(source, written):
    folder, _ = written("dynamic")
    stored = {
        each.name: onnx.numpy_helper.to_array(each)
        for each in onnx.load(folder / "model.onnx").graph.initializer
    }
    codes = {n: t for n, t in stored.items() if n.endswith("_quantized") and t.dtype == np.int8}
    linears = {
        name: module.weight.detach().numpy().T
        for name, module in source.opened.model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }

    assert len(codes) == len(linears) == 13
    for name, code_IO in codes.items():
        scale_O = stored[name.replace("_quantized", "_scale")]
        (weight_IO,) = [
            w for w in linears.values()
            if w.shape == code_IO.shape and np.abs(w - code_IO * scale_O).max() <= scale_O.max()
        ]  # fmt: skip
        assert np.abs(code_IO).max() <= 64
        np.testing.assert_allclose(scale_O, np.abs(weight_IO).max(0) / 64, rtol=0.01)
        assert (np.abs(weight_IO - code_IO * scale_O) <= 0.501 * scale_O).all()


def test_int8_says_its_size_and_what_it_changes_and_is_near(source, written):
    (folder, lines), (dense, _) = written("dynamic"), written()
    sizes = [(each / "model.onnx").stat().st_size for each in (folder, dense)]
    texts = _tried.texts_of(source)
    before, after = (
        np.concatenate(
            [text["logits"] for text in form._in_runtime("", each / FILE, texts, ["logits"])]
        )
        for each in (dense, folder)
    )

    share = np.linalg.norm(after - before) / np.linalg.norm(before)

    assert f"{sizes[0] / sizes[1]:.0%} of the" in lines[1]
    assert 0.3 < sizes[0] / sizes[1] < 0.6  # of a tiny model names are as large as weights
    assert f"by {share:.1%} of their size, root mean square (most in " in lines[2]
    assert 0 < share < 0.1
    assert not list(folder.glob("tmp*"))


# ---- what is said and refused --------------------------------------------------------------


def test_zeros_and_codes_are_told_to_save_nothing(source, quantized):
    pruned = made()
    for module in pruned.opened.model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data[:, ::2] = 0
    rounded = quantized(made().opened, Grid(8, 16))

    (zeros,) = form._lines(pruned, "off")
    (off,), (dynamic,) = (form._lines(rounded, int8) for int8 in form.WAYS)

    assert zeros.startswith("50% of the weights of linears are zero, which makes the file neither")
    assert "are stored as float32" in off
    assert "are rounded anew to 8 bits" in dynamic


def test_texts_are_those_of_the_run_first_and_padded(source):
    texts = _tried.texts_of(source)
    feeds = texts.feeds

    assert texts.tags[:2] == tuple(SHARES) and len(set(texts.tags)) == 24
    assert [len(feed["input_ids"]) for feed in feeds] == [2] * 12
    assert all(feed["attention_mask"].sum(1).tolist() == [64, 32] for feed in feeds)
    text = pico.tokenizer().decode(feeds[0]["input_ids"][1])
    assert any("\u0900" <= letter <= "\u097f" for letter in text)  # Hindi has the second share


@pytest.mark.parametrize(("off", "error"), [(1e-4, BadModel), (np.nan, NotFinite)])
def test_what_rounding_does_not_explain_is_not_handed_over(off, error, source):
    texts = _tried.texts_of(source)
    model = pico.model("xlm_roberta")
    found = _tried.in_torch(model, texts)
    form._compared("mine", model, texts, found)

    with pytest.raises(error, match=r"^mine "):
        found[5]["logits"][2] += off
        form._compared("mine", model.float(), texts, found)


def test_an_operator_that_the_runtime_lacks_is_one_line(source, tmp_path):
    value = onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["b", "t"])
    output = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.INT64, ["b", "t"])
    node = onnx.helper.make_node("Mamba", ["input_ids"], ["logits"])
    graph = onnx.helper.make_graph([node], "one", [value], [output])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "m.onnx")

    with pytest.raises(BadModel) as caught:
        form._in_runtime("mine", tmp_path / "m.onnx", _tried.texts_of(source), ["logits"])

    words = str(caught.value)
    assert words.startswith("mine cannot be exported to onnxruntime: onnxruntime ")
    assert "Mamba" in words and "\n" not in words
    assert words.endswith("Use --format safetensors, which transformers reads.")


def test_what_pytorch_cannot_write_is_one_line(tmp_path, monkeypatch):
    def cannot(*_: object, **__: object) -> None:
        raise torch.onnx.OnnxExporterError("long story") from ValueError("no such operator.\nMore")

    monkeypatch.setattr(torch.onnx, "export", cannot)
    with pytest.raises(BadModel, match=r"PyTorch cannot write it as ONNX \(no such operator\)\."):
        form.write(made(), tmp_path)

    assert not list(tmp_path.iterdir())


def test_decoders_heads_of_several_texts_and_unknown_ways_are_refused(source, tmp_path):
    decoder = Source("mine", Opened("mine", pico.model(), pico.tokenizer(), torch.float32))
    with pytest.raises(BadModel, match=r"mine is no encoder \(LlamaForCausalLM\).*--format gguf"):
        form.write(decoder, tmp_path)
    several = BertForMultipleChoice(BertConfig(**{**pico._SHAPE, "num_hidden_layers": 1}))
    opened = replace(source.opened, model=several)
    with pytest.raises(BadModel, match="reads several texts at once"):
        form.write(replace(source, opened=opened), tmp_path)
    with pytest.raises(BadSetting, match=r"int8 is 'static'. Choose one of off, dynamic\."):
        form.write(source, tmp_path, int8="static")


def test_a_refused_export_leaves_no_folder(tmp_path):
    with pytest.raises(BadModel, match="is no encoder"):
        bp.export("babel-mini", format="onnx", out=tmp_path / "out")

    assert not list(tmp_path.iterdir())


def test_a_missing_package_says_how_to_install_it(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackage, match=r"onnxruntime.*'babelpress\[onnx\]'"):
        form.write(source, tmp_path)


def test_the_language_that_changes_most_is_named():
    before = [{"logits": np.full((3, 2), 2.0)}, {"logits": np.full((1, 2), 1.0)}]
    after = [{"logits": np.full((3, 2), 2.1)}, {"logits": np.full((1, 2), 1.3)}]
    squares = [6 * 0.1**2, 2 * 0.3**2]
    share = (sum(squares) / (6 * 4 + 2 * 1)) ** 0.5

    words = _tried.change(_tried.Texts(("swh_Latn", "yor_Latn"), ()), before, after)

    assert words == f"{share:.1%} of their size, root mean square (most in yor_Latn: 30.0%)"
