"""Models out of GGUF files: the weights that were written, and those that transformers reads."""

import gguf
import numpy as np
import pytest
import torch
from small import FAMILIES, SHAPE, opened, tokenizer
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from babelpress.errors import BadModel
from babelpress.export import FORMATS
from babelpress.export._source import Source
from babelpress.models.names import EMBEDDED
from babelpress.models.open import Opened, config_of, open_model, open_shapes
from babelpress.models.save import save_model
from babelpress.system.processor import attention

every_family = pytest.mark.parametrize("family", FAMILIES)


def made(family="llama", **options):
    """A small model that computes as an opened one: products of attention in the same order."""
    of = opened(family, **options)
    of.model.set_attn_implementation(attention("cpu") or "sdpa")
    return of


def written(of, folder, kind):
    FORMATS.get("gguf")(Source("small", of), folder, kind=kind)
    return str(folder / "model.gguf")


@torch.no_grad()
def logits(model):
    """Of two texts, longer than every window."""
    ids = torch.arange(3, 63).reshape(2, 30) * 7 % 259
    return model(ids).logits


@every_family
def test_float32_comes_back_to_the_bit(family, tmp_path):
    of = made(family)
    found = open_model(written(of, tmp_path, "f32"))

    assert found.stored_dtype == found.model.dtype == torch.float32
    assert torch.equal(logits(found.model), logits(of.model))


@every_family
@pytest.mark.parametrize(("kind", "dtype"), [("bf16", torch.bfloat16), ("f16", torch.float16)])
def test_other_floats_are_the_rounded_weights(family, kind, dtype, tmp_path):
    of = made(family)
    for parameter in of.model.parameters():
        if parameter.ndim == 1:
            parameter.data = parameter.data.to(dtype).float()
    found = open_model(written(of, tmp_path, kind), dtype="float32")

    assert found.stored_dtype == dtype
    for parameter in of.model.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.to(dtype).float()
    assert torch.equal(logits(found.model), logits(of.model))


def test_norms_that_float16_does_not_hold_are_kept(tmp_path):
    of = made()
    found = open_model(written(of, tmp_path, "f16"))

    assert found.stored_dtype == torch.float32
    assert torch.equal(found.model.model.norm.weight, of.model.model.norm.weight)


@every_family
def test_eight_bits_are_within_half_a_step(family, tmp_path):
    of = made(family)
    found = open_model(written(of, tmp_path, "q8_0"))

    assert found.stored_dtype == torch.float32
    assert found.lies_on["attn_q"] == {"Q8_0": 2}
    there = dict(found.model.named_parameters())
    for name, parameter in of.model.named_parameters():
        if parameter.ndim == 1:
            continue
        groups = parameter.detach().reshape(-1, 32)
        step = groups.abs().amax(1, keepdim=True) / 127
        apart = (there[name].reshape(-1, 32) - groups).abs()
        assert (apart <= 0.5 * step * 1.002 + 127 * step / 2048).all(), name


@every_family
def test_transformers_reads_the_same_weights(family, tmp_path):
    """An oracle of its own, given the config: it reads no sizes of heads for some families."""
    path = written(opened(family), tmp_path, "q8_0")
    ours = open_model(path).model
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", config=ours.config, dtype=torch.float32
    )

    known = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, known[name]), name


@every_family
def test_settings_come_back(family, tmp_path):
    of = opened(family).model.config.to_dict()
    of.pop("dtype")
    path = written(opened(family), tmp_path, "f32")
    found = config_of(path)

    close = {"rms_norm_eps": 1e-6}
    # ids are those of the tokenizer, and a Mistral without a window is a Llama to llama.cpp
    told = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    assert {key: found.pop(key) for key in told} == told
    for key in set(found) & set(of) - {"architectures", "model_type"}:
        assert (
            found[key] == pytest.approx(of[key], rel=close[key])
            if key in close
            else (found[key] == of[key])
        ), key
    assert sorted(n for n, _ in open_shapes(path).named_parameters()) == sorted(
        n for n, _ in opened(family).model.named_parameters()
    )


@pytest.mark.parametrize(
    "options",
    [
        {"attention_bias": True, "mlp_bias": True},
        {"tie_word_embeddings": True},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 7000.0, "factor": 3.0}},
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            "head_dim": 64,
        },
    ],
    ids=["biases", "tied", "linear", "llama3"],
)
def test_what_transformers_leaves_out_is_read(options, tmp_path):
    of = made(**options)
    found = open_model(written(of, tmp_path, "f32"))

    for parameter, ours in zip(found.model.parameters(), of.model.parameters(), strict=True):
        assert torch.equal(parameter, ours)
    assert torch.equal(logits(found.model), logits(of.model))


def test_an_opened_file_is_saved_as_any_model(tmp_path):
    found = open_model(written(opened("gemma3"), tmp_path, "q8_0"))
    save_model(found, tmp_path / "saved")
    again = open_model(str(tmp_path / "saved"))

    assert torch.equal(logits(again.model), logits(found.model))
    text = "hello juu, स्वागत"
    assert again.tokenizer(text)["input_ids"] == found.tokenizer(text)["input_ids"]


def test_babel_mini_comes_back(tmp_path):
    of = open_model(EMBEDDED, dtype="float32")
    found = open_model(written(of, tmp_path, "f32"))
    ids = torch.arange(5, 205).reshape(2, 100) * 37 % 8192

    with torch.no_grad():
        assert torch.equal(found.model(ids).logits, of.model(ids).logits)


# ---- what is refused -----------------------------------------------------------------------


def rewritten(path, folder, *, without="", more=None, keys=None):
    """The file with a tensor left out, one more, or other values of some keys."""
    reader = gguf.GGUFReader(path)
    kept = {name: each.contents() for name, each in reader.fields.items() if "." in name}
    kept = {name: value for name, value in kept.items() if not name.startswith("GGUF.")} | (
        keys or {}
    )
    writer = gguf.GGUFWriter(folder / "other.gguf", kept.pop("general.architecture"))
    for name, value in kept.items():
        if value is None:
            continue
        kind = reader.fields[name].types if name in reader.fields else None
        sub = kind[1] if kind and len(kind) > 1 else None
        writer.add_key_value(
            name, value, kind[0] if kind else gguf.GGUFValueType.get_type(value), sub_type=sub
        )
    tensors = {each.name: np.array(each.data) for each in reader.tensors if each.name != without}
    for name, data in {**tensors, **(more or {})}.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(folder / "other.gguf")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return written(opened(), tmp_path_factory.mktemp("whole"), "f32")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"without": "blk.1.ffn_up.weight"}, r"lacks 1 of the tensors.*blk\.1\.ffn_up\.weight"),
        ({"without": "token_embd.weight"}, r"no token_embd\.weight"),
        ({"more": {"blk.0.odd.weight": np.ones(3, dtype=np.float32)}}, r"blk\.0\.odd\.weight"),
        ({"keys": {"llama.feed_forward_length": 97}}, "by the metadata it has to be"),
        ({"keys": {"general.architecture": "bloom"}}, "of the architecture bloom.*llama, qwen2"),
        ({"keys": {"llama.block_count": None}}, r"llama\.block_count is missing"),
        ({"keys": {"llama.rope.dimension_count": 8}}, "heads of 16 of which 8 turn"),
        ({"keys": {"llama.rope.scaling.type": "yarn"}}, "scales its rotary positions by yarn"),
        ({"keys": {"llama.expert_count": 4}}, "has 4 experts"),
        ({"keys": {"tokenizer.ggml.model": "bert"}}, "a tokenizer of the kind 'bert'"),
        ({"keys": {"tokenizer.ggml.model": None}}, "has no tokenizer"),
        ({"keys": {"tokenizer.ggml.pre": "viking"}}, "the way that llama.cpp calls 'viking'"),
        ({"more": {"rope_freqs.weight": np.full(8, 3.0, dtype=np.float32)}}, "not those of Llama"),
    ],
)
def test_a_file_that_would_open_as_another_model_is_one_line(change, words, whole, tmp_path):
    with pytest.raises(BadModel, match=words):
        open_model(rewritten(whole, tmp_path, **change))


def test_the_same_file_written_anew_opens(whole, tmp_path):
    """What makes the changed files above changes nothing by itself."""
    assert open_model(rewritten(whole, tmp_path)).model.config.num_hidden_layers == 2


def test_rows_without_a_token_stay(tmp_path):
    config = LlamaConfig(**{**SHAPE, "vocab_size": 275})
    of = Opened("small", LlamaForCausalLM(config).eval(), tokenizer(), torch.float32)
    found = open_model(written(of, tmp_path, "f32"))

    assert found.model.config.vocab_size == 275
    assert found.tokenizer.get_vocab() == tokenizer().get_vocab()
