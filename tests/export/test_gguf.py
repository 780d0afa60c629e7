"""GGUF files, read back by the gguf package."""

import math
import re
import sys
from typing import Any

import gguf
import pytest
import torch
from small import FAMILIES, opened
from tokenizers import normalizers

from babelpress.errors import BadModel, BadRun, BadSetting, MissingPackage, NotFinite
from babelpress.export import FORMATS
from babelpress.export._source import Source
from babelpress.models.names import EMBEDDED
from babelpress.models.open import open_model
from babelpress.models.walk import Walk
from babelpress.numerics.grids import Codes, Grid
from babelpress.press import codes as codes_folder
from babelpress.press.codes import CodesFolder
from babelpress.press.embeddings import quantize_tables

SCALED = {
    "rope_type": "llama3",
    "rope_theta": 7000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def written(source, folder, **options):
    """The tensors and fields of the file, and the lines."""
    lines = FORMATS.get("gguf")(source, folder, **options)
    reader = gguf.GGUFReader(folder / "model.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    return {tensor.name: tensor for tensor in reader.tensors}, fields, lines


def weights(tensor):
    """What a tensor of the file stands for."""
    return torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())


def turned(weight, heads):
    """Rows i and i + d/2 of every head side by side, one row at a time."""
    size = len(weight) // heads
    rows = []
    for head in range(heads):
        for i in range(size // 2):
            rows += [weight[head * size + i], weight[head * size + size // 2 + i]]
    return torch.stack(rows)


def quantized(folder, grid, *, embeddings=False, **options):
    """A model whose linears are codes of a grid, and the source that a run would give."""
    of = opened(**options)
    made = quantize_tables(of.model) if embeddings else {}
    for name, module in of.model.named_modules():
        if isinstance(module, torch.nn.Linear) and "layers" in name:
            made[name] = nearest(module.weight.detach(), grid, name)
            module.weight.data.copy_(made[name].dequantize())
    codes_folder.save(folder, made, Walk(of.model).index_of)
    return Source("RUN", of, codes=CodesFolder.open(folder)), made


def nearest(weight_OI, grid, where):
    scale_OG, zero_OG = grid.fit_groups(weight_OI, where)
    width = grid.width(weight_OI.shape[1], where)
    wide = (each.repeat_interleave(width, 1) for each in (scale_OG, zero_OG))
    return Codes.of(grid, grid.code(weight_OI, *wide), scale_OG, zero_OG)


def test_what_llama_cpp_has_to_know_is_in_the_file(tmp_path):
    _, fields, lines = written(Source("small", opened()), tmp_path)

    expected = {
        "general.architecture": "llama",
        "general.name": "small",
        "general.file_type": 1,
        "llama.context_length": 100,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 96,
        "llama.block_count": 2,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 16,
        "llama.attention.value_length": 16,
        "llama.attention.layer_norm_rms_epsilon": pytest.approx(3e-6),
        "llama.rope.freq_base": 7000.0,
        "llama.rope.dimension_count": 16,
        "llama.vocab_size": 270,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.merges": ["j u", "ju u"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
    }
    assert {name: fields[name] for name in expected} == expected
    assert len(fields["tokenizer.ggml.tokens"]) == 270
    assert lines == [
        "matrices: 16 F16",
        "tokenizer: byte-level BPE, pre-tokenizer gpt-2",
    ]


@pytest.mark.parametrize("family", [each for each in FAMILIES if each != "gemma3"])
def test_every_weight_is_in_the_file_under_its_name(family, tmp_path):
    of = opened(family)
    tensors, fields, _ = written(Source("small", of), tmp_path)
    state = dict(of.model.named_parameters())
    permuted = fields["general.architecture"] == "llama"

    assert len(tensors) == len(state)
    for name, ours in {
        "token_embd.weight": "model.embed_tokens.weight",
        "output.weight": "lm_head.weight",
        "output_norm.weight": "model.norm.weight",
        "blk.1.attn_norm.weight": "model.layers.1.input_layernorm.weight",
        "blk.1.ffn_norm.weight": "model.layers.1.post_attention_layernorm.weight",
        "blk.1.attn_v.weight": "model.layers.1.self_attn.v_proj.weight",
        "blk.0.attn_output.weight": "model.layers.0.self_attn.o_proj.weight",
        "blk.0.ffn_gate.weight": "model.layers.0.mlp.gate_proj.weight",
        "blk.0.ffn_up.weight": "model.layers.0.mlp.up_proj.weight",
        "blk.1.ffn_down.weight": "model.layers.1.mlp.down_proj.weight",
    }.items():
        exact = tensors[name].tensor_type == gguf.GGMLQuantizationType.F32
        assert exact == (state[ours].ndim == 1)
        expected = state[ours] if exact else state[ours].half().float()
        assert torch.equal(weights(tensors[name]), expected)
    for letter, heads in (("q", 4), ("k", 2)):
        ours = state[f"model.layers.1.self_attn.{letter}_proj.weight"].half().float()
        expected = turned(ours, heads) if permuted else ours
        assert torch.equal(weights(tensors[f"blk.1.attn_{letter}.weight"]), expected)


def test_biases_are_kept_and_change_rows_with_their_weights(tmp_path):
    of = opened(attention_bias=True, mlp_bias=True)
    tensors, _, _ = written(Source("small", of), tmp_path)
    state = of.model.state_dict()

    key = state["model.layers.0.self_attn.k_proj.bias"]
    assert torch.equal(weights(tensors["blk.0.attn_k.bias"]), turned(key, 2))
    down = state["model.layers.1.mlp.down_proj.bias"]
    assert torch.equal(weights(tensors["blk.1.ffn_down.bias"]), down)


def test_a_tied_head_is_not_stored_again(tmp_path):
    tensors, _, _ = written(Source("small", opened(tie_word_embeddings=True)), tmp_path)

    assert "output.weight" not in tensors
    assert "token_embd.weight" in tensors


@pytest.mark.parametrize(
    ("grid", "kinds"),
    [
        (Grid(2, 32), {"Q4_0"}),
        (Grid(4, 32), {"Q4_0"}),
        (Grid(8, "channel"), {"Q8_0"}),
        (Grid(4, 32, symmetric=False), {"Q4_1", "Q5_0"}),
    ],
)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_codes_are_carried_over_bit_for_bit(family, grid, kinds, tmp_path):
    source, made = quantized(tmp_path / "codes", grid, family=family)
    tensors, _, lines = written(source, tmp_path)

    found = set()
    for module, name in (("self_attn.q_proj", "attn_q"), ("mlp.down_proj", "ffn_down")):
        for index in range(2):
            tensor = tensors[f"blk.{index}.{name}.weight"]
            found.add(tensor.tensor_type.name)
            expected = made[f"model.layers.{index}.{module}"].dequantize()
            if family == "llama" and name == "attn_q":
                expected = turned(expected, 4)
            assert torch.equal(weights(tensor), expected)
    assert found <= kinds
    assert "the codes of 14 linears are carried over exactly" in lines
    assert tensors["token_embd.weight"].tensor_type == gguf.GGMLQuantizationType.F16


@pytest.mark.parametrize("tied", [True, False])
def test_embedding_and_head_of_eight_bits_are_exact(tied, tmp_path):
    source, made = quantized(
        tmp_path / "codes", Grid(4, 32), embeddings=True, tie_word_embeddings=tied
    )
    tensors, fields, _ = written(source, tmp_path, kind="codes")

    tables = {"token_embd.weight": "model.embed_tokens"}
    tables |= {} if tied else {"output.weight": "lm_head"}
    assert ("output.weight" in tensors) is not tied
    for name, module in tables.items():
        assert tensors[name].tensor_type == gguf.GGMLQuantizationType.Q8_0
        assert torch.equal(weights(tensors[name]), made[module].dequantize())
    assert fields["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q4_0


def test_codes_that_gguf_cannot_hold_become_f16_and_are_named(tmp_path):
    source, _ = quantized(tmp_path / "codes", Grid(4, 16))
    tensors, _, lines = written(source, tmp_path)

    assert tensors["blk.0.attn_v.weight"].tensor_type == gguf.GGMLQuantizationType.F16
    first = "model.layers.0.mlp.down_proj"
    assert lines[-1] == f"not carried over by their codes: 14 linears, {first} first"


def test_q8_0_rounds_every_matrix_to_eight_bits(tmp_path):
    source, made = quantized(tmp_path / "codes", Grid(2, 32))
    tensors, _, _ = written(source, tmp_path, kind="q8_0")

    assert tensors["token_embd.weight"].tensor_type == gguf.GGMLQuantizationType.Q8_0
    expected = made["model.layers.0.mlp.up_proj"].dequantize()
    found = weights(tensors["blk.0.ffn_up.weight"])
    largest = expected.reshape(-1, 32).abs().amax(1).repeat_interleave(32).view_as(expected)
    # half a step, and what float16 takes from 127 times the scale
    assert ((found - expected).abs() <= largest * (0.5 / 127 + 2**-11)).all()
    assert not torch.equal(found, expected)


def test_writing_twice_gives_the_same_bytes(tmp_path):
    source, _ = quantized(tmp_path / "codes", Grid(4, 32))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(source, tmp_path / name)

    a, b = ((tmp_path / name / "model.gguf").read_bytes() for name in "ab")
    assert a == b


def test_scaled_positions_are_factors_of_frequencies(tmp_path):
    tensors, _, _ = written(Source("small", opened(rope_parameters=SCALED)), tmp_path)

    expected = []
    for i in range(8):
        frequency = 7000.0 ** (-2 * i / 16)
        length = 2 * math.pi / frequency
        if length < 64 / 4:
            expected.append(1.0)
        elif length > 64:
            expected.append(8.0)
        else:
            smooth = (64 / length - 1) / (4 - 1)
            expected.append(1 / ((1 - smooth) / 8 + smooth))
    assert 1 < expected[2] < 8
    assert weights(tensors["rope_freqs.weight"]).tolist() == pytest.approx(expected, rel=1e-5)


def test_another_scaling_of_positions_is_refused(tmp_path):
    dynamic = {"rope_type": "dynamic", "rope_theta": 7000.0, "factor": 2.0}

    with pytest.raises(BadModel, match="by 'dynamic'"):
        written(Source("small", opened(rope_parameters=dynamic)), tmp_path)


def test_gemma_has_norms_with_one_added_and_says_which_blocks_see_a_window(tmp_path):
    of = opened("gemma3")
    tensors, fields, _ = written(Source("small", of), tmp_path)
    state = dict(of.model.named_parameters())

    assert len(tensors) == len(state)
    for name, ours in {
        "output_norm": "model.norm",
        "blk.1.attn_norm": "model.layers.1.input_layernorm",
        "blk.1.post_attention_norm": "model.layers.1.post_attention_layernorm",
        "blk.0.ffn_norm": "model.layers.0.pre_feedforward_layernorm",
        "blk.0.post_ffw_norm": "model.layers.0.post_feedforward_layernorm",
        "blk.1.attn_q_norm": "model.layers.1.self_attn.q_norm",
    }.items():
        expected = [1 + each for each in state[f"{ours}.weight"].tolist()]
        assert tensors[f"{name}.weight"].data.tolist() == pytest.approx(expected, rel=1e-6)
    query = state["model.layers.0.self_attn.q_proj.weight"]
    assert torch.equal(weights(tensors["blk.0.attn_q.weight"]), query.half().float())
    assert fields["gemma3.attention.sliding_window"] == 9
    assert fields["gemma3.attention.sliding_window_pattern"] == [False, True]
    assert fields["gemma3.rope.freq_base"] == 7000
    assert fields["gemma3.rope.freq_base_swa"] == 500
    assert fields["gemma3.rope.scaling.type"] == "linear"
    assert fields["gemma3.rope.scaling.factor"] == 2
    assert fields["gemma3.context_length"] == 100


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"query_pre_attn_scalar": 20}, "by the root of 20, not of 16"),
        ({"attn_logit_softcapping": 30.0}, "bends scores of attention"),
        ({"use_bidirectional_attention": True}, "sees text on both sides"),
        ({"hidden_activation": "silu"}, "uses silu where llama.cpp computes gelu"),
        ({"attention_bias": True}, "has no place for the weight"),
    ],
)
def test_what_llama_cpp_computes_otherwise_of_gemma_is_refused(options, words, tmp_path):
    with pytest.raises(BadModel, match=words):
        written(Source("small", opened("gemma3", **options)), tmp_path)


@pytest.mark.parametrize(
    ("kind", "stored", "dtype"),
    [("f32", "F32", torch.float32), ("bf16", "BF16", torch.bfloat16), ("f16", "F16", torch.half)],
)
def test_floats_are_rounded_to_the_kind_that_is_asked_for(kind, stored, dtype, tmp_path):
    of = opened()
    tensors, _, lines = written(Source("small", of), tmp_path, kind=kind)
    matrix = of.model.model.layers[1].mlp.down_proj.weight

    assert lines[0] == f"matrices: 16 {stored}"
    found = tensors["blk.1.ffn_down.weight"]
    assert found.tensor_type.name == stored
    assert torch.equal(weights(found), matrix.to(dtype).float())


def test_text_that_the_file_reads_otherwise_is_told(tmp_path):
    of = opened()
    tokenizer: Any = of.tokenizer
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    *_, line = written(Source("small", of), tmp_path)[2]

    assert re.fullmatch(
        r"\d+ of \d+ texts of all scripts are read as other tokens from the file, '.+' first", line
    )


def test_where_the_tokens_cannot_be_compared_that_is_told(tmp_path):
    *_, line = written(Source("small", opened()), tmp_path, pre="viking")[2]

    assert re.match("not checked: .* for model.gguf cuts words in the way .* 'viking'", line)


def test_a_kind_in_capitals_is_the_same(tmp_path):
    assert written(Source("small", opened()), tmp_path, kind="BF16")[2][0] == "matrices: 16 BF16"


def test_a_sliding_window_bounds_the_context(tmp_path):
    _, fields, lines = written(Source("small", opened("mistral", sliding_window=24)), tmp_path)

    assert fields["llama.context_length"] == 24
    assert lines[-1] == "context length 24: llama.cpp has no sliding window here"


def test_a_weight_beyond_f16_is_named(tmp_path):
    of = opened()
    of.model.model.layers[1].mlp.up_proj.weight.data[3, 5] = -7e4

    with pytest.raises(NotFinite, match=r"layers\.1\.mlp\.up_proj\.weight holds 7e\+04"):
        written(Source("small", of), tmp_path)


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(BadSetting, match=r"'q4_k'\. Choose one of auto, codes, f32, .*, q4_k_m"):
        written(Source("small", opened()), tmp_path, kind="q4_k")


def test_codes_of_a_model_that_was_not_quantized_are_refused(tmp_path):
    with pytest.raises(BadRun, match="small holds no codes"):
        written(Source("small", opened()), tmp_path, kind="codes")


def test_without_the_package_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)

    with pytest.raises(MissingPackage, match=r"babelpress\[gguf\]"):
        FORMATS.get("gguf")(Source("small", opened()), tmp_path)


def test_the_embedded_model_is_written_and_a_name_that_cuts_at_marks_is_told(tmp_path):
    source = Source(EMBEDDED, open_model(EMBEDDED))

    _, fields, lines = written(source, tmp_path)
    assert fields["tokenizer.ggml.pre"] == "granite-embed-multi-97m"
    assert len(lines) == 2
    _, fields, lines = written(source, tmp_path, pre="gpt-4o")
    assert fields["tokenizer.ggml.pre"] == "gpt-4o"
    assert lines[2].startswith("under gpt-4o llama.cpp cuts words at combining marks")
