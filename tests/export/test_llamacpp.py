"""llama.cpp's quantizer, and what llama.cpp itself computes with our files and reads of text."""

import ctypes
import sys
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import trimming
from small import SHAPE, opened
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from babelpress.commands.exporting import export
from babelpress.errors import BadRun, BadSetting, MissingPackage
from babelpress.export import FORMATS, _llamacpp
from babelpress.export._source import Source
from babelpress.models import gguf_header, probes
from babelpress.models.open import Opened, open_model
from babelpress.models.tokenizers import encode
from babelpress.moments.calibrate import calibrate
from babelpress.text.settings import CalibrationSettings

WIDE = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}  # that blocks of 256 divide
SHARES = {"swh_Latn": 0.25, "hin_Deva": 0.75}


@pytest.fixture(scope="module")
def engine() -> Any:
    """llama.cpp's functions, which say nothing."""
    found = pytest.importorskip(
        "llama_cpp", reason="llama.cpp is not installed: pip install 'babelpress[llamacpp]'"
    )
    silent = found.llama_log_callback(lambda *_: None)
    found.llama_log_set(silent, None)
    found.llama_backend_init()
    found.kept = silent  # as long as it is called
    return found


class Running:
    """A model in llama.cpp, on one thread, with keys and values in float32."""

    def __init__(self, engine: Any, path: Any, length: int = 64):
        self.engine = engine
        settings = engine.llama_model_default_params()
        settings.use_extra_bufts = False
        self.model = engine.llama_model_load_from_file(str(path).encode(), settings)
        assert self.model, f"llama.cpp cannot load {path}"
        self.words = engine.llama_model_get_vocab(self.model)
        wanted = engine.llama_context_default_params()
        wanted.n_ctx = wanted.n_batch = wanted.n_ubatch = length
        wanted.n_threads = wanted.n_threads_batch = 1
        wanted.type_k = wanted.type_v = wanted.flash_attn_type = 0
        self.context = engine.llama_init_from_model(self.model, wanted)
        assert self.context

    def tokens(self, text: str) -> list[int]:
        data = text.encode()
        room = (ctypes.c_int32 * (len(data) + 8))()
        count = self.engine.llama_tokenize(
            self.words, data, len(data), room, len(room), False, False
        )
        return list(room[:count])

    def logits(self, ids: list[int]) -> torch.Tensor:
        batch = self.engine.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for place, token in enumerate(ids):
            batch.token[place], batch.pos[place] = token, place
            batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, 0, 1
        assert self.engine.llama_decode(self.context, batch) == 0
        size = self.engine.llama_vocab_n_tokens(self.words)
        found = self.engine.llama_get_logits(self.context)
        return torch.from_numpy(np.ctypeslib.as_array(found, (len(ids), size)).copy())


def wide(family="llama"):
    own = {"query_pre_attn_scalar": WIDE["head_dim"]} if family == "gemma3" else {}
    return opened(family, **WIDE, **own)


def with_tokenizer(kind, family, **options):
    """A small random model with a tokenizer of the embedded text."""
    tokenizer = trimming.tokenizer(kind)
    classes = {
        "llama": (LlamaForCausalLM, LlamaConfig),
        "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig),
    }
    made, config = classes[family]
    torch.manual_seed(1)
    shape = {**SHAPE, "vocab_size": len(tokenizer), "rope_parameters": None}
    model = made(config(**{**shape, **options})).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return Opened("small", model, tokenizer, torch.float32)


# ---- what llama.cpp makes of our files ------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma3"])
def test_llama_cpp_gives_the_logits_of_transformers(family, engine, tmp_path):
    of = opened(family)
    FORMATS.get("gguf")(Source("small", of), tmp_path, kind="f32")
    ids = [(7 * each + 3) % 259 for each in range(40)]
    found = Running(engine, tmp_path / "model.gguf").logits(ids)

    with torch.no_grad():
        expected = of.model(torch.tensor([ids])).logits[0]
    # llama.cpp takes the gelu of Gemma from a table in float16
    close = 2e-3 if family == "gemma3" else 2e-4
    assert torch.allclose(found, expected, atol=close * float(expected.std()), rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "family"),
    [("byte_level_bpe", "llama"), ("sentencepiece_bpe", "gemma3"), ("sentencepiece_bpe", "llama")],
)
def test_llama_cpp_reads_the_tokens_of_the_tokenizer(kind, family, engine, tmp_path):
    own = {"query_pre_attn_scalar": 16} if family == "gemma3" else {}
    of = with_tokenizer(kind, family, **own)
    FORMATS.get("gguf")(Source("small", of), tmp_path, kind="f16")
    running = Running(engine, tmp_path / "model.gguf")
    texts = [*probes.texts()[:80], *trimming.lines()[:80]]

    for text, expected in zip(texts, encode(of.tokenizer, texts)["input_ids"], strict=True):
        assert running.tokens(text) == expected, text


def test_what_is_quantized_opens_here_with_the_logits_of_llama_cpp(engine, tmp_path):
    of = wide("gemma3")
    lines = FORMATS.get("gguf")(Source("small", of), tmp_path, kind="q6_k")
    header = gguf_header.read(tmp_path / "model.gguf")
    here = open_model(str(tmp_path / "model.gguf"))
    ids = [(5 * each + 3) % 259 for each in range(40)]
    found = Running(engine, tmp_path / "model.gguf").logits(ids)

    assert lines[0].startswith("matrices: ") and "Q6_K" in lines[0]
    assert header.kinds["ffn_up"] == {"Q6_K": 2}
    with torch.no_grad():
        expected = here.model(torch.tensor([ids])).logits[0]
    # llama.cpp rounds inputs of a product to 8 bits; the weights are the same
    assert float((found - expected).std() / expected.std()) < 0.02


# ---- its quantizer -------------------------------------------------------------------------


def test_an_imatrix_moves_the_weights_that_matter(engine, tmp_path):
    of = wide()
    asked = CalibrationSettings(languages=tuple(SHARES), tokens=480, length=48)
    store = calibrate(of, asked, tmp_path / "m", gram=False)
    source = Source("small", of, moments=store, shares=SHARES)
    (tmp_path / "with").mkdir()
    (tmp_path / "alone").mkdir()
    (tmp_path / "file").mkdir()
    lines = FORMATS.get("gguf")(source, tmp_path / "with", kind="q3_k_s")
    FORMATS.get("gguf")(Source("small", of), tmp_path / "alone", kind="q3_k_s")
    FORMATS.get("imatrix")(source, tmp_path)
    FORMATS.get("gguf")(
        Source("small", of),
        tmp_path / "file",
        kind="q3_k_s",
        imatrix=str(tmp_path / "imatrix.gguf"),
    )

    assert "rounding errors are weighed by an imatrix of 14 linears" in lines
    names = sorted(each.name for each in (tmp_path / "with").iterdir())
    assert names == ["model.gguf"]
    fields = gguf_header.read(tmp_path / "with" / "model.gguf").metadata
    assert fields["quantize.imatrix.entries_count"] == 14
    assert "hin_Deva share=0.75" in fields["quantize.imatrix.dataset"]
    made = {
        each: gguf.GGUFReader(tmp_path / each / "model.gguf") for each in ("with", "alone", "file")
    }
    data = {key: {t.name: t.data for t in each.tensors} for key, each in made.items()}
    name = "blk.1.ffn_down.weight"
    assert not np.array_equal(data["with"][name], data["alone"][name])
    assert np.array_equal(data["with"][name], data["file"][name])

    # the error that the imatrix weighs is smaller with it than without
    means = _llamacpp.means(tmp_path / "imatrix.gguf")
    weight = dict(of.model.named_parameters())["model.layers.1.mlp.down_proj.weight"]
    lost = {}
    for key in ("with", "alone"):
        tensor = next(t for t in made[key].tensors if t.name == name)
        rounded = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        lost[key] = float((means[name] * (rounded - weight.detach().numpy()) ** 2).sum())
    assert lost["with"] < lost["alone"]


def test_matrices_that_have_another_type_are_told(engine, tmp_path):
    lines = FORMATS.get("gguf")(Source("small", opened()), tmp_path, kind="q4_k_m")

    assert any("have inputs that 256 does not divide" in line for line in lines)


def test_in_one_command(engine, tmp_path):
    out = export("babel-mini", format="gguf", type="Q4_K_M", out=tmp_path / "out")

    assert [row["file"] for row in out.rows] == ["model.gguf"]
    assert out.says[0].startswith("matrices: 24 Q4_K")


def test_where_it_gives_up_nothing_is_left(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(_llamacpp, "WITH_IMATRIX", ())  # so that llama.cpp has to say it

    with pytest.raises(BadRun, match=r"gave up on iq2_xxs: .*imatrix"):
        FORMATS.get("gguf")(Source("small", wide()), tmp_path, kind="iq2_xxs")
    assert not (tmp_path / "model.gguf").exists()


# ---- without it ----------------------------------------------------------------------------


def test_a_missing_quantizer_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(_llamacpp, "find_spec", lambda _: None)

    with pytest.raises(MissingPackage, match=r"llama-cpp-python.*babelpress\[llamacpp\]"):
        FORMATS.get("gguf")(Source("small", opened()), tmp_path, kind="q4_k_m")


def test_types_that_need_an_imatrix_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(_llamacpp, "find_spec", lambda _: sys)

    with pytest.raises(BadSetting, match=r"iq2_xs is only good with an imatrix.*--moments"):
        FORMATS.get("gguf")(Source("small", opened()), tmp_path, kind="iq2_xs")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "gguf", "imatrix": "none.gguf", "type": "q4_k_m"}, "is no file"),
        ({"format": "gguf", "imatrix": __file__}, "imatrix is for kind=q4_k_m, not for auto"),
        ({"format": "gguf", "moments": "seen"}, "--moments seen is for what llama.cpp quantizes"),
        ({"format": "text", "type": "f16"}, "--type f16 has no effect on text: it is for gguf"),
        (
            {"format": "gguf", "type": "f16", "option": {"kind": "q8_0"}},
            "--type f16 and --option kind=q8_0 say two things",
        ),
    ],
)
def test_flags_without_effect_are_refused(options, words, tmp_path):
    with pytest.raises(BadSetting, match=words):
        export("babel-mini", out=tmp_path / "out", **options)


def test_a_file_that_is_no_imatrix_is_one_line(tmp_path):
    (tmp_path / "odd.gguf").write_bytes(b"GGUF" + bytes(20))

    with pytest.raises(BadSetting, match="cannot be read as GGUF"):
        _llamacpp.means(tmp_path / "odd.gguf")


def test_the_types_of_the_option_are_those_of_the_quantizer():
    assert FORMATS.facts("gguf")["ONLY_WITH"]["imatrix"]["kind"] == _llamacpp.TYPES
