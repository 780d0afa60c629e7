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
from tokenizers import processors
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from babelpress.commands.exporting import export
from babelpress.errors import BadRun, BadSetting, MissingPackage
from babelpress.export import FORMATS, _llamacpp
from babelpress.export._source import Source
from babelpress.models import gguf_header, probes
from babelpress.models.open import Opened, open_model
from babelpress.models.tokenizers import encode
from babelpress.moments.calibrate import calibrate
from babelpress.numerics.grids import Grid
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

    def tokens(self, text: str, *, around: bool = False) -> list[int]:
        data = text.encode()
        room = (ctypes.c_int32 * (len(data) + 8))()
        count = self.engine.llama_tokenize(
            self.words, data, len(data), room, len(room), around, False
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


@pytest.mark.parametrize("around", ["<bos> $A", "$A <eos>", "<bos> $A <eos>", "<bos> <pad> $A"])
def test_what_llama_cpp_puts_around_a_text_is_told(around, engine, tmp_path):
    of = opened()
    tokenizer: Any = of.tokenizer
    marks = [(mark, tokenizer.convert_tokens_to_ids(mark)) for mark in ("<bos>", "<eos>", "<pad>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=marks
    )
    lines = FORMATS.get("gguf")(Source("small", of), tmp_path, kind="f16")
    running = Running(engine, tmp_path / "model.gguf")

    expected = tokenizer("juu ya")["input_ids"]
    left_out = [each for each in expected if each == tokenizer.pad_token_id]
    assert running.tokens("juu ya", around=True) == [e for e in expected if e not in left_out]
    assert any("nothing else: <pad> of the tokenizer" in line for line in lines) == bool(left_out)


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

    assert "rounding errors are weighed by an imatrix of 14 of 14 matrices in blocks" in lines
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

    # a file that was given says what it says itself
    fields = gguf_header.read(tmp_path / "file" / "model.gguf").metadata
    told = fields["quantize.imatrix.dataset"]
    assert told.startswith("imatrix.gguf; ") and "hin_Deva share=0.75" in told


@pytest.mark.parametrize(("kind", "told"), [("q4_k_m", True), ("iq4_nl", False)])
def test_matrices_that_have_another_type_are_told(kind, told, engine, tmp_path):
    lines = FORMATS.get("gguf")(Source("small", opened()), tmp_path, kind=kind)

    assert any("have inputs that 256 does not divide" in line for line in lines) == told


def test_integers_that_are_rounded_anew_are_told(engine, quantized, tmp_path):
    source = quantized(opened(), Grid(4, 32))
    lines = FORMATS.get("gguf")(source, tmp_path, kind="q8_0")
    again = FORMATS.get("gguf")(source, tmp_path, kind="q5_0")

    line = "not carried over by their codes: 14 linears, model.layers.0.mlp.down_proj first"
    assert line in lines and line in again


def test_who_watches_is_told_of_every_tensor(engine, tmp_path, monkeypatch):
    (tmp_path / "llama_cpp.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    seen: list[tuple[str, int, int]] = []
    source = Source("small", opened(), progress=lambda *each: seen.append(each))
    (tmp_path / "out").mkdir()
    FORMATS.get("gguf")(source, tmp_path / "out", kind="q5_0")

    count = len(gguf_header.read(tmp_path / "out" / "model.gguf").tensors)
    assert seen == [("quantize q5_0: tensor", n, count) for n in range(1, count + 1)]


def test_a_float64_model_is_quantized(engine, tmp_path):
    of = opened()
    wide = Opened("small", of.model.double(), of.tokenizer, torch.float64)
    lines = FORMATS.get("gguf")(Source("small", wide), tmp_path, kind="q5_0")

    assert lines[0].startswith("matrices: ") and "Q5_0" in lines[0]


def test_in_one_command(engine, tmp_path):
    out = export("babel-mini", format="gguf", type="Q4_K_M", out=tmp_path / "out")

    assert [row["file"] for row in out.rows] == ["model.gguf"]
    assert out.says[0].startswith("matrices: 24 Q4_K")


def test_where_it_gives_up_nothing_is_left(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(_llamacpp, "WITH_IMATRIX", ())  # so that llama.cpp has to say it

    with pytest.raises(BadRun, match=r"gave up on iq2_xxs: .*imatrix"):
        FORMATS.get("gguf")(Source("small", wide()), tmp_path, kind="iq2_xxs")
    assert not list(tmp_path.iterdir())


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
        ({"type": "IQ2_XS"}, "iq2_xs is only good with an imatrix"),
        ({"option": {"kind": "IQ2_XS"}}, "iq2_xs is only good with an imatrix"),
        ({"type": "q4_k_m", "imatrix": __file__}, "cannot be read as GGUF"),
        ({"type": "q4_k_m", "imatrix": __file__, "moments": "seen"}, "say two things"),
    ],
)
def test_what_the_words_alone_tell_comes_before_the_model(options, words, tmp_path, monkeypatch):
    monkeypatch.setattr(_llamacpp, "find_spec", lambda _: sys)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen" / "manifest.json").write_text('{"identity": {"languages": ["swh_Latn"]}}')
    given = {"mixture": "uniform"} if "moments" in options else {}

    def opened(*_: object) -> None:
        raise AssertionError("a model was looked at")

    monkeypatch.setattr("babelpress.commands.checks.model", opened)
    with pytest.raises(BadSetting, match=words):
        export("babel-mini", format="gguf", out=tmp_path / "out", **options, **given)


def test_a_kind_in_capitals_is_an_option_too(tmp_path):
    out = export("babel-mini", format="gguf", option={"kind": "BF16"}, out=tmp_path / "out")

    assert out.says[0].endswith(" BF16")


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


def imatrix(path, entries, *, counts=True):
    """A file of sums and counts, by name."""
    writer = gguf.GGUFWriter(path, "")
    writer.add_type("imatrix")
    for name, (sums, count) in entries.items():
        writer.add_tensor(f"{name}.in_sum2", np.array([sums], dtype=np.float32))
        if counts:
            writer.add_tensor(f"{name}.counts", np.array([[count]], dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_inputs_that_were_never_seen_weigh_one(tmp_path):
    found = _llamacpp.means(
        imatrix(tmp_path / "i.gguf", {"a": ([2.0, 6.0], 2), "b": ([0.0, 0.0], 0)})
    )

    assert {name: mean.tolist() for name, mean in found.items()} == {"a": [1, 3], "b": [1, 1]}


def test_an_imatrix_without_counts_is_one_line(tmp_path):
    with pytest.raises(BadSetting, match=r"has a\.in_sum2 and no a\.counts: it is damaged"):
        _llamacpp.means(imatrix(tmp_path / "i.gguf", {"a": ([2.0], 2)}, counts=False))


Q = "blk.0.attn_q.weight"


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({Q: ([1.0] * 64, 1), "blk.2.attn_q.weight": ([1.0] * 64, 1)}, r"it has blk\.2\.attn_q"),
        ({Q: ([1.0] * 32, 1)}, r"attn_q\.weight has 32 inputs there, and 64 here"),
        ({"output.weight": ([1.0] * 64, 1)}, "has no matrix of this model's blocks"),
    ],
)
def test_an_imatrix_of_another_model_is_refused_before_anything_is_written(
    entries, words, tmp_path, monkeypatch
):
    monkeypatch.setattr(_llamacpp, "find_spec", lambda _: sys)
    monkeypatch.setattr(_llamacpp, "quantize", None)
    path = imatrix(tmp_path / "i.gguf", entries)
    (tmp_path / "out").mkdir()

    with pytest.raises(BadSetting, match=words):
        FORMATS.get("gguf")(
            Source("small", opened()), tmp_path / "out", kind="q4_k_m", imatrix=str(path)
        )
    assert not list((tmp_path / "out").iterdir())


def test_an_imatrix_of_some_matrices_says_of_how_many(engine, tmp_path):
    path = imatrix(tmp_path / "i.gguf", {Q: ([1.0] * 64, 1), "output.weight": ([1.0] * 64, 1)})
    (tmp_path / "out").mkdir()
    lines = FORMATS.get("gguf")(
        Source("small", opened()), tmp_path / "out", kind="q5_0", imatrix=str(path)
    )

    assert "rounding errors are weighed by an imatrix of 1 of 14 matrices in blocks" in lines


def test_a_file_that_is_no_imatrix_is_one_line(tmp_path):
    (tmp_path / "odd.gguf").write_bytes(b"GGUF" + bytes(20))

    with pytest.raises(BadSetting, match="cannot be read as GGUF"):
        _llamacpp.means(tmp_path / "odd.gguf")


def test_the_types_of_the_option_are_those_of_the_quantizer():
    assert FORMATS.facts("gguf")["ONLY_WITH"]["imatrix"]["kind"] == _llamacpp.TYPES
