"""What holds for every export format; a new file in export/ is tested here unasked.

A format of encoders alone has these laws in its own tests.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pico
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

import babelpress as bp
from babelpress.errors import BadModel, BadMoments, BadRun, BadSetting, UnknownName
from babelpress.export import FORMATS
from babelpress.export._serving import ways
from babelpress.export._source import Source
from babelpress.models.open import Opened, open_model
from babelpress.models.weights import weights_hash
from babelpress.moments.calibrate import calibrate
from babelpress.numerics.grids import Grid
from babelpress.system.files import PICKLE_HEADS, sha256_file
from babelpress.text.settings import CalibrationSettings

every_format = pytest.mark.parametrize(
    "form", [each for each in FORMATS.names() if not FORMATS.facts(each).get("ENCODERS_ONLY")]
)
PACKED = ["compressed-tensors", "gptq"]


@pytest.fixture(scope="module")
def moments(tmp_path_factory):
    """What babel-mini saw of two languages."""
    folder = tmp_path_factory.mktemp("moments") / "moments"
    asked = CalibrationSettings(languages=("swh_Latn", "hin_Deva"), tokens=256, length=64)
    return calibrate(open_model("babel-mini"), asked, folder, gram=False)


@pytest.fixture(scope="module")
def source(moments, quantized):
    """All that any format may read."""
    return replace(quantized(open_model("babel-mini"), Grid(4, 64)), moments=moments)


def written(form, source, folder):
    """Write into a new folder; every file by its path."""
    folder.mkdir()
    lines = FORMATS.get(form)(source, folder)
    assert all(isinstance(line, str) and "\n" not in line for line in lines)
    return {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}


@every_format
def test_writing_twice_gives_the_same_bytes(form, source, tmp_path):
    once, again = (written(form, source, tmp_path / name) for name in ("once", "again"))

    assert once
    assert {name: sha256_file(path) for name, path in once.items()} == {
        name: sha256_file(path) for name, path in again.items()
    }


@every_format
def test_nothing_is_a_pickle_and_all_json_can_be_read(form, source, tmp_path):
    for name, path in written(form, source, tmp_path / "out").items():
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        if path.suffix != ".safetensors":  # whose length may look like the head of a pickle
            assert not path.read_bytes().startswith(PICKLE_HEADS), name


@every_format
def test_no_config_speaks_of_sparsity_or_of_foreign_code(form, source, tmp_path):
    for path in written(form, source, tmp_path / "out").values():
        if path.suffix == ".json":
            text = path.read_text(encoding="utf-8")
            assert "sparsity_config" not in text
            assert "auto_map" not in text


@every_format
def test_the_open_model_is_left_as_it_was(form, source, tmp_path):
    before = weights_hash(source.opened.model)

    written(form, source, tmp_path / "out")

    assert weights_hash(source.opened.model) == before
    assert "quantization_config" not in source.opened.model.config.to_dict()


@pytest.mark.parametrize("form", [*PACKED, "bitsandbytes", "safetensors"])
def test_a_folder_for_transformers_is_whole(form, source, tmp_path):
    files = written(form, source, tmp_path / "out")

    assert {
        "babelpress.json", "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
    } <= files.keys()  # fmt: skip
    assert json.loads(files["babelpress.json"].read_text())["format"] == form


@pytest.mark.parametrize("form", PACKED)
def test_packed_files_are_as_small_as_they_should_be(form, source, tmp_path):
    packed = written(form, source, tmp_path / "packed")["model.safetensors"].stat().st_size
    dense = written("safetensors", source, tmp_path / "dense")["model.safetensors"].stat().st_size

    weights = sum(row["shape"][0] * row["shape"][1] for row in source.codes.rows.values())
    saved = weights * (16 - 4 - 16 / 64) / 8  # bits of a dense weight, a code, a share of a scale
    assert saved * 0.98 < dense - packed < saved


@pytest.mark.parametrize("form", PACKED)
def test_a_run_without_codes_is_refused(form, source, tmp_path):
    with pytest.raises(BadRun, match=r"nothing is quantized in RUN: .*--format safetensors"):
        written(form, replace(source, codes=None), tmp_path / "out")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """babel-mini pruned, then quantized by another recipe: a chain of two runs."""
    folder = tmp_path_factory.mktemp("chain")
    text = {"languages": "sw,hi", "length": 64}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        bp.calibrate("babel-mini", tokens=256, out="moments", **text)
        bp.prune("babel-mini", moments="moments", mixture="only:sw", pattern="0.25", out="pruned")
        bp.quantize("pruned", method="rtn", group=64, tokens=192, seed=7, out="run", **text)
        yield folder / "run"


def exported(form, run, folder, **options):
    """What `babelpress export` says last, and its card."""
    moments = run.parent / "moments" if form == "imatrix" else None
    option = [f"{key}={value}" for key, value in options.items()]
    out = bp.export(str(run), format=form, out=folder, moments=moments, option=option)
    return out.says[-1], (folder / "README.md").read_text(encoding="utf-8")


def blocks(card):
    """What stands in fences under the card's heading Serving."""
    return re.findall(r"```(\w+)\n(.*?)```", card.split("## Serving")[1].split("\n## ")[0], re.S)


def test_moments_from_before_blocks_were_left_out_are_refused(run, tmp_path):
    """They are read by the number of a block, and the numbers are other ones now."""
    moments = run.parent / "moments"
    text = {"languages": "sw,hi", "length": 64}
    bp.shrink("babel-mini", blocks="3", tokens=256, out=tmp_path / "few", **text)
    few = str(tmp_path / "few")

    with pytest.raises(BadMoments, match=r"before `shrink`, and it gives blocks other shapes.*run"):
        bp.export(few, format="imatrix", moments=moments, mixture="uniform", out=tmp_path / "a")
    bp.calibrate(few, tokens=256, out=tmp_path / "own", **text)
    bp.export(
        few, format="imatrix", moments=tmp_path / "own", mixture="uniform", out=tmp_path / "b"
    )


LAST = {
    "compressed-tensors": "next: vllm serve {}",
    "gptq": "next: vllm serve {}",
    "safetensors": "next: vllm serve {}",
    "bitsandbytes": "next: in Python: from transformers import AutoModelForCausalLM, "
    "AutoTokenizer; model = AutoModelForCausalLM.from_pretrained({0}); tokenizer = "
    "AutoTokenizer.from_pretrained({0})",
    "gguf": "next: llama-server -m {}/model.gguf",
    "imatrix": "next: llama-quantize --imatrix {}/imatrix.gguf model-f16.gguf model-q4_k_m.gguf "
    "Q4_K_M",
    "text": "next: llama-imatrix -m model-f16.gguf -f {}/calibration.txt -o imatrix.gguf",
}


@every_format
def test_terminal_and_card_give_the_command_that_serves_it(form, run, tmp_path):
    last, card = exported(form, run, tmp_path / "a b")

    assert last == LAST[form].format(f"'{tmp_path}/a b'")
    shown = [(language, text.strip().replace("\n\n", "\n")) for language, text in blocks(card)]
    command = last.removeprefix("next: ").replace(f"'{tmp_path}/a b'", "'.'")
    python = command.removeprefix("in Python: ").replace("; ", "\n")
    in_shell = ("bash", command.replace("'.'", "."))
    assert shown[0] == (("python", python) if command.startswith("in Python") else in_shell)
    library = yaml.safe_load(card.split("---\n")[1]).get("library_name")
    if form in ("gguf", "imatrix", "text"):
        assert (len(shown), library) == (1, None)
        assert "AutoModel" not in card
    elif form == "bitsandbytes":
        assert (len(shown), library) == (1, "transformers")
    else:
        assert (len(shown), library) == (2, "transformers")
    for name in re.findall(r"\./([\w.]+)", shown[0][1]):
        assert (tmp_path / "a b" / name).exists()


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`:UserWarning")
@pytest.mark.parametrize(
    ("form", "symmetric"),
    [("safetensors", True), ("compressed-tensors", True), ("compressed-tensors", False)],
)
def test_the_lines_for_transformers_on_a_card_work(form, symmetric, run, tmp_path, monkeypatch):
    if form == "compressed-tensors":
        pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed")
    if not symmetric:
        out = run.parent / "asymmetric"
        bp.quantize(
            str(run.parent / "pruned"), method="rtn", group=64, moments=None, tokens=192,
            languages="sw,hi", length=64, symmetric=False, out=out,
        )  # fmt: skip
        run = out
    _, card = exported(form, run, tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    (python,) = [text for language, text in blocks(card) if language == "python"]
    found: dict[str, Any] = {}

    exec(python, found)

    dense = AutoModelForCausalLM.from_pretrained(run / "model")
    ids = found["tokenizer"]("Habari ya asubuhi", return_tensors="pt").input_ids
    torch.testing.assert_close(
        found["model"](ids).logits.float(), dense(ids).logits.float(), atol=0.05, rtol=0.02
    )


def test_a_gptq_file_that_vllm_does_not_read_is_not_given_to_it(quantized, tmp_path):
    source = quantized(open_model("babel-mini"), Grid(4, 64, symmetric=False))

    (way,) = ways("gptq", source, tmp_path / "out")

    assert way.program == "GPTQModel"
    assert way.line() == (
        f"in Python: from gptqmodel import GPTQModel; model = GPTQModel.load('{tmp_path / 'out'}')"
    )


def test_the_card_of_an_export_tells_the_whole_chain(run, tmp_path):
    _, card = exported("gptq", run, tmp_path / "out")

    front = yaml.safe_load(card.split("---\n")[1])
    assert front["base_model"] == "babel-mini"
    assert front["tags"][2:] == ["pruned", "quantized", "wanda", "rtn"]
    assert "# babel-mini: wanda 0.25 then rtn 4 bits, group 64" in card
    assert "calibration mixtures only:sw then uniform." in card
    assert "Step 1: corpus embedded, seed 0." in card
    assert "Step 2: corpus embedded, seed 7." in card
    recipes = list(yaml.safe_load_all(card.split("```yaml\n")[1].rstrip("`\n")))
    assert [each["model"] for each in recipes] == ["babel-mini", "pruned"]
    assert [[*step] for each in recipes for step in each["steps"]] == [["prune"], ["quantize"]]
    record = json.loads((tmp_path / "out" / "babelpress.json").read_text())
    assert [record["earlier"][0], record["recipe"]] == recipes


@every_format
def test_a_format_explains_itself(form):
    assert FORMATS.get(form).__doc__
    assert all(value is not None for value in FORMATS.options(form).values())


def test_every_format_of_this_release_is_there():
    there = {
        "bitsandbytes", "compressed-tensors", "gptq", "gguf", "imatrix", "onnx", "safetensors",
        "text",
    }  # fmt: skip

    assert there <= set(FORMATS.names())


def test_a_wrong_name_says_the_right_ones():
    with pytest.raises(UnknownName) as caught:
        FORMATS.get("gptk")

    assert str(caught.value) == (
        "no export format is called 'gptk'. Did you mean 'gptq'? "
        f"Known: {', '.join(FORMATS.names())}. Add one in babelpress/export/."
    )


def test_an_unknown_option_says_the_known_ones():
    with pytest.raises(BadSetting, match=r"gptq has no option bits\. It accepts no options\."):
        FORMATS.check_options("gptq", {"bits": 4})


def test_a_source_may_be_a_plain_model():
    source = Source("babel-mini", open_model("babel-mini"))

    assert (source.manifest, source.codes, source.moments, source.shares) == (None,) * 4


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A BERT with a head for masked words, quantized."""
    folder = tmp_path_factory.mktemp("encoder")
    pico.model("bert").save_pretrained(folder / "bert")
    pico.tokenizer().save_pretrained(folder / "bert")
    text = {"languages": "sw", "tokens": 64, "length": 32}
    bp.quantize(str(folder / "bert"), method="rtn", group=16, out=folder / "run", **text)
    return folder / "run"


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`:UserWarning")
@pytest.mark.parametrize("form", ["safetensors", "compressed-tensors"])
def test_an_encoder_is_opened_as_terminal_and_card_say(form, encoder, tmp_path, monkeypatch):
    last, card = exported(form, encoder, tmp_path / "out")

    assert last.startswith("next: in Python: from transformers import AutoModelForMaskedLM, ")
    assert "vllm" not in card
    assert yaml.safe_load(card.split("---\n")[1])["pipeline_tag"] == "fill-mask"
    ((language, text),) = blocks(card)
    assert language == "python"
    monkeypatch.chdir(tmp_path / "out")
    found: dict[str, Any] = {}
    exec(text, found)
    ids = torch.arange(3, 40)[None]
    dense = AutoModelForMaskedLM.from_pretrained(encoder / "model")
    assert torch.equal(found["model"](ids).logits, dense(ids).logits)


def test_what_writes_text_is_not_named_to_serve_an_encoder(encoder, tmp_path):
    last, card = exported("text", encoder, tmp_path / "out")

    assert last.startswith("text: ")
    assert "## Serving" not in card


def test_gptq_files_of_an_encoder_are_not_written(encoder, tmp_path):
    with pytest.raises(BadModel, match=r"read gptq files of an encoder, and .*compressed-tensors"):
        bp.export(str(encoder), format="gptq", out=tmp_path / "out")

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("gptq", "read gptq files of an encoder"),
        ("text", "was calibrated on pairs of sentences"),
        ("gguf", "t5 cannot be written for llama.cpp"),
    ],
)
def test_what_no_program_reads_of_an_encoder_decoder_is_not_written(form, words, tmp_path):
    pico.model("t5").save_pretrained(tmp_path / "m")
    pico.tokenizer().save_pretrained(tmp_path / "m")

    with pytest.raises(BadModel, match=words):
        bp.export(str(tmp_path / "m"), format=form, out=tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_the_page_on_translators_tells_which_formats_refuse_one(quantized, tmp_path):
    """A quantized T5 with all that any format asks for."""
    made = quantized(Opened("t5", pico.model("t5"), pico.tokenizer(), torch.float32), Grid(4, 16))
    source = replace(made, moments=cast(Any, object()))

    def refused(form):
        (tmp_path / form).mkdir()
        try:
            FORMATS.get(form)(source, tmp_path / form)
        except BadModel:
            return True
        return False

    page = (Path(__file__).parents[2] / "docs" / "translation.md").read_text(encoding="utf-8")
    written, rest = page.split("**Exports.** ")[1].split(" are written", 1)
    refuses = {form for form in FORMATS.names() if refused(form)}
    assert set(re.findall(r"`([\w-]+)`", rest.split(" are refused")[0])) == refuses
    assert {*re.findall(r"`([\w-]+)`", written), *refuses} == set(FORMATS.names())


def test_an_encoder_decoder_is_served_by_transformers_alone(tmp_path):
    model = pico.model("m2m_100")
    model.save_pretrained(tmp_path / "m")
    pico.tokenizer().save_pretrained(tmp_path / "m")

    last = bp.export(str(tmp_path / "m"), format="safetensors", out=tmp_path / "out").says[-1]

    assert "from transformers import AutoModelForSeq2SeqLM, " in last and "vllm" not in last
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    ids_BT = torch.arange(3, 20)[None]
    assert torch.equal(pico.passed(again, ids_BT).logits, pico.passed(model, ids_BT).logits)
