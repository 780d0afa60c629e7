"""What cannot be pressed is known from its config.json, and refused in one clear line."""

import json
import subprocess
import sys
from typing import Any

import pico
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
    BertLMHeadModel,
    BertModel,
    LlamaForSequenceClassification,
    MT5Config,
    MT5EncoderModel,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaForTokenClassification,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from babelpress import commands
from babelpress.errors import BabelpressError, BadCorpus, BadModel, BadSetting
from babelpress.models import accepted
from babelpress.models.open import open_model
from babelpress.text.draw import draw
from babelpress.text.settings import CalibrationSettings

TINY: dict[str, Any] = {
    "vocab_size": pico.VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 130,
}
FIVE: dict[str, Any] = {**TINY, "num_labels": 5}
TEXT: dict[str, Any] = {"languages": "sw", "tokens": 64}
BOTH_WAYS = {"bart", "mbart", "mvp"}  # encoder-decoders, which say so themselves


def save(model, folder):
    model.save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    return folder


def llama(folder, **config):
    """A llama whose config says something more."""
    save(pico.model(), folder)
    known = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**known, **config}))
    return folder


ENCODERS = {
    "tokens": lambda: XLMRobertaForTokenClassification(XLMRobertaConfig(**FIVE)),
    "masked words": lambda: XLMRobertaForMaskedLM(XLMRobertaConfig(**TINY)),
    "text": lambda: BertForSequenceClassification(BertConfig(**FIVE)),
    "sentences": lambda: BertModel(BertConfig(**TINY)),
    "one block four times": lambda: AlbertForSequenceClassification(
        AlbertConfig(**{**FIVE, "num_hidden_layers": 4}, embedding_size=16)
    ),
    "relative positions": pico.EVERY["deberta_v2"],
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_head_of_an_encoder_comes_and_goes_unchanged(kind, tmp_path):
    made: Any = ENCODERS[kind]().eval()
    model, out = str(save(made, tmp_path / "m")), tmp_path / "out"

    commands.prune(model, out=out, method="wanda", pattern="0.5", length=32, **TEXT)

    again: Any = open_model(str(out / "model"))
    assert type(again.model) is type(made)
    assert again.model.config.id2label == made.config.id2label
    changed = {
        name
        for name, tensor in made.state_dict().items()
        if not torch.equal(tensor, again.model.state_dict()[name])
    }
    assert changed and all("encoder." in name and name.endswith("weight") for name in changed)


@pytest.mark.parametrize("kind", ENCODERS)
def test_what_an_encoder_makes_of_the_next_token_is_not_scored(kind, tmp_path):
    model = str(save(ENCODERS[kind](), tmp_path / "m"))
    with pytest.raises(BadModel, match=r"sees the tokens that it should predict.*--on masked"):
        commands.evaluate(model, out=tmp_path / "out", languages="sw")


def test_an_encoder_writes_no_calibration_text(tmp_path):
    model = str(save(ENCODERS["masked words"](), tmp_path / "m"))
    with pytest.raises(BadSetting, match="reads text on both sides and cannot write"):
        commands.prune(model, out=tmp_path / "out", corpus="self", length=32, **TEXT)


def test_an_encoder_is_given_no_padding(tmp_path):
    """It would see what stands after the text."""
    model = str(save(ENCODERS["masked words"](), tmp_path / "m"))
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "swh_Latn.txt").write_text("habari ya asubuhi\n" * 3, encoding="utf-8")
    asked: dict[str, Any] = {"corpus": str(folder), "languages": "sw", "length": 32}

    found = draw(
        open_model(model), CalibrationSettings(**{**asked, "languages": ["sw"]}, tokens=512)
    )
    blocks = found.blocks["swh_Latn"]
    assert blocks.ids_BT.shape[0] >= 1
    assert not (blocks.ids_BT == pico._IDS["pad_token_id"]).any()

    with pytest.raises(BadCorpus, match="can have no padding"):
        commands.calibrate(model, out=tmp_path / "b", **(asked | {"length": 100, "tokens": 512}))


def test_half_of_an_encoder_decoder_is_refused_everywhere_in_the_same_words(tmp_path):
    half = MT5EncoderModel(
        MT5Config(vocab_size=pico.VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2)
    )
    model, out = str(save(half, tmp_path / "m")), tmp_path / "out"
    said = set()
    for call in (
        lambda: commands.calibrate(model, out=out, **TEXT),
        lambda: commands.prune(model, out=out, **TEXT),
        lambda: commands.prune(model, out=out, length=32, **TEXT),
        lambda: commands.quantize(model, out=out, length=32, **TEXT),
        lambda: commands.evaluate(model, out=out, languages="sw"),
        lambda: commands.languages(model, only="sw"),
        lambda: commands.export(model, out=out, format="safetensors"),
        lambda: open_model(model),
    ):
        with pytest.raises(BadModel) as caught:
            call()
        said.add(str(caught.value))
    (words,) = said
    assert "half of one (MT5EncoderModel), and cannot be pressed" in words
    assert "Give a decoder" in words and not out.exists()


def test_a_classifier_made_of_a_decoder_is_refused(tmp_path):
    config = pico.model().config
    with pytest.raises(
        BadModel, match=r"is a classifier \(LlamaForSequenceClassification\) made of"
    ):
        open_model(str(save(LlamaForSequenceClassification(config), tmp_path)))


def test_bert_that_decodes_goes_on(tmp_path):
    decoder = BertLMHeadModel(BertConfig(**TINY, is_decoder=True))
    accepted.peek(str(save(decoder, tmp_path)))
    assert type(open_model(str(tmp_path)).model) is BertLMHeadModel


def test_every_type_that_transformers_masks_words_of_is_known():
    masked = set(MODEL_FOR_MASKED_LM_MAPPING_NAMES) - BOTH_WAYS
    assert masked <= accepted.ENCODERS
    plain = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - set(MODEL_FOR_MASKED_LM_MAPPING_NAMES)
    assert plain & accepted.ENCODERS <= {"bert-generation"}


def test_half_of_a_model_is_known_without_torch(tmp_path):
    model = save(
        MT5EncoderModel(MT5Config(vocab_size=99, d_model=32, num_layers=1)), tmp_path / "m"
    )
    code = (
        "import sys\nfrom babelpress.models.accepted import peek\n"
        f"try:\n    peek({str(model)!r})\n"
        "except Exception as error:\n    print(error)\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "half of one (MT5EncoderModel)" in made.stdout


# ---- quantized -----------------------------------------------------------------------------

SAYS = {
    "fp8": {"quantization_config": {"quant_method": "fp8"}},
    "gptq": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    "awq": {"text_config": {"quantization_config": {"quant_method": "awq"}}},
    "compression_config in its config": {"compression_config": {"format": "pack-quantized"}},
    "quantization in its config": {"quantization": {"group_size": 64, "bits": 4}},
}


@pytest.mark.parametrize("how", SAYS)
def test_a_quantized_model_is_refused_by_all_that_press_or_calibrate(how, tmp_path):
    with pytest.raises(BadModel) as caught:
        accepted.check_config("mine", {"model_type": "llama", **SAYS[how]})
    assert str(caught.value).startswith(f"mine is quantized already ({how}), and quantized")
    accepted.check_config("mine", {"model_type": "llama", **SAYS[how]}, quantized=True)


def test_the_same_words_wherever_a_quantized_model_is_to_be_pressed(tmp_path):
    model = str(llama(tmp_path / "m", quantization_config={"quant_method": "fp8"}))
    out, said = tmp_path / "out", set()
    for call in (
        lambda: commands.calibrate(model, out=out, **TEXT),
        lambda: commands.prune(model, out=out, **TEXT),
        lambda: commands.quantize(model, out=out, **TEXT),
        lambda: commands.export(model, out=out, format="safetensors"),
        lambda: open_model(model),
    ):
        with pytest.raises(BabelpressError) as caught:
            call()
        said.add(str(caught.value))
    assert len(said) == 1 and "can be scored, but neither pressed nor calibrated" in said.pop()


def test_a_file_beside_the_config_may_say_so(tmp_path):
    model = llama(tmp_path / "m")
    accepted.peek(str(model))
    (model / "quantize_config.json").write_text("{}")
    with pytest.raises(BadModel, match=r"quantized already \(quantize_config\.json\)"):
        accepted.peek(str(model))


def test_eight_bit_floats_are_known_by_the_file(tmp_path):
    model = llama(tmp_path / "m")
    tensors = load_file(model / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadModel, match=rf"quantized already \({name} is F8_E4M3\)"):
        open_model(str(model))


# ---- dtype ---------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["absent", None, "float32"])
def test_a_model_stays_in_the_type_of_its_file(said, tmp_path):
    model = llama(tmp_path / "m")
    config = json.loads((model / "config.json").read_text())
    config.pop("dtype")
    if said != "absent":
        config["dtype"] = said
    (model / "config.json").write_text(json.dumps(config))
    tensors = load_file(model / "model.safetensors")
    half = {name: each.bfloat16() for name, each in tensors.items()}
    half["model.norm.weight"] = tensors["model.norm.weight"]  # a few may be wider
    save_file(half, model / "model.safetensors", {"format": "pt"})
    found = open_model(str(model))
    assert found.stored_dtype is found.model.dtype is torch.bfloat16
    assert open_model(str(model), dtype="float32").model.dtype is torch.float32


def test_a_config_may_ask_for_less_than_its_file_has(tmp_path):
    assert open_model(str(llama(tmp_path / "m", dtype="bfloat16"))).stored_dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("config", "opener"),
    [
        (ENCODERS["tokens"], "AutoModelForTokenClassification"),
        (ENCODERS["masked words"], "AutoModelForMaskedLM"),
        (ENCODERS["text"], "AutoModelForSequenceClassification"),
        (ENCODERS["sentences"], "AutoModel"),
        (pico.EVERY["llama"], "AutoModelForCausalLM"),
    ],
)
def test_it_is_said_as_what_transformers_opens_a_model(config, opener, tmp_path):
    model = config()
    model.save_pretrained(tmp_path)
    again = getattr(transformers, opener).from_pretrained(tmp_path)

    assert accepted.opened_as(again.config.to_dict())[0] == opener
    assert type(again) is type(model)


def test_what_cuts_text_into_windows_of_its_own_is_refused_before_it_is_opened():
    with pytest.raises(BadModel, match=r"^it cuts text into windows .*\(LongformerModel\).*XLM-R"):
        accepted.check_config(
            "it", {"model_type": "longformer", "architectures": ["LongformerModel"]}
        )


def test_an_encoder_whose_file_has_no_pooler_gets_none(tmp_path):
    save(BertModel(BertConfig(**TINY), add_pooling_layer=False), tmp_path / "m")
    out = tmp_path / "out"

    opened: Any = open_model(str(tmp_path / "m"))
    commands.prune(str(tmp_path / "m"), out=out, method="wanda", pattern="0.5", length=32, **TEXT)

    assert opened.model.pooler is None
    kept = load_file(out / "model" / "model.safetensors")
    assert kept.keys() == load_file(tmp_path / "m" / "model.safetensors").keys()


def test_a_model_for_pretraining_is_said_to_open_as_it_is_written(tmp_path):
    save(BertForPreTraining(BertConfig(**TINY)), tmp_path / "m")

    told = commands.export(str(tmp_path / "m"), format="safetensors", out=tmp_path / "x")

    assert "AutoModelForMaskedLM.from_pretrained" in told.says[-1]
