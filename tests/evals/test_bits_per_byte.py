import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerFast,
)

from babelpress import evals
from babelpress.errors import BadCorpus, BadModel, BadSetting, NotFinite, UnknownName
from babelpress.evals import _next_token
from babelpress.evals._head import SLICE_LOGITS, SLICE_TOKENS, Said, runs_apart, same
from babelpress.evals._next_token import BATCH_TOKENS
from babelpress.evals._windows import prepare
from babelpress.evals.bits_per_byte import measure, score
from babelpress.text.corpus import Document

TEXTS = {
    "eng_Latn": ["hello, world", "a longer one: the rain in Spain stays mainly in the plain", "no"],
    "hin_Deva": ["नमस्ते", "तुम कैसे हो?"],
    "tha_Thai": ["สวัสดี"],
    "zho_Hans": ["你好", "天气很好"],
}
WIDTH = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
SHAPE = WIDTH | {"num_hidden_layers": 2, "num_key_value_heads": 2, "vocab_size": 300}


def documents(texts=TEXTS):
    return {
        tag: [Document(f"src/{i}", tag, "src", "test", text) for i, text in enumerate(given)]
        for tag, given in texts.items()
    }


def byte_tokenizer(merges=(), **special):
    """One token for each byte, in the order of the alphabet, and then one for each merge."""
    alphabet = sorted(ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate([*alphabet, *map("".join, merges)])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


def tiny(family="llama", seed=3, **settings):
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **SHAPE | settings)
    model = AutoModelForCausalLM.from_config(config, dtype=settings.get("dtype", torch.float32))
    for parameter in model.parameters():  # else every logit is nearly zero and hides faults
        torch.nn.init.normal_(parameter.data, std=0.3)
    return model.eval()


def slow_nats(model, ids, first_scored=1):
    """Plain windows of one sequence: one forward pass, full softmax, Python loop."""
    with torch.no_grad():
        logits_TV = model(torch.tensor([ids])).logits[0].double()
    return [-logits_TV[t - 1].log_softmax(-1)[ids[t]].item() for t in range(first_scored, len(ids))]


def slow_value(model, tokenizer, texts, prefix):
    nats = 0.0
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        nats += sum(slow_nats(model, [prefix, *ids]))
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)


def slow_long(model, tokens, prefix, window, step):
    """Each token by itself: find its window as the definition says, run it, take one number."""
    nats = 0.0
    for t in range(1, len(tokens)):
        k = max(0, math.ceil((t - window) / step))
        piece = tokens[k * step : k * step + window + 1][: t - k * step + 1]
        nats += slow_nats(model, [prefix, *piece[1:]], first_scored=len(piece) - 1)[0]
    return nats


@pytest.fixture(scope="module")
def llama():
    return tiny()


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer(bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("tag", TEXTS)
def test_a_model_that_knows_nothing_needs_eight_bits_a_byte_in_any_script(tag):
    model = tiny(vocab_size=256)
    model.get_output_embeddings().weight.data.zero_()
    tokenizer = byte_tokenizer(bos_token=sorted(ByteLevel.alphabet())[7])

    scores = measure(model, tokenizer, {tag: documents()[tag]}, window=5)

    assert scores[tag].value == pytest.approx(8.0, abs=1e-6)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary_a_token(llama):
    model = tiny(vocab_size=301)
    model.get_output_embeddings().weight.data.zero_()
    tokenizer = byte_tokenizer([("r", "a"), ("ra", "i")], bos_token="<s>")
    text = "rain, rain, raw"  # rai n , _ rai n , _ ra w

    scores = measure(model, tokenizer, documents({"eng_Latn": [text]}), window=40)

    assert scores["eng_Latn"].value == pytest.approx(math.log2(301) * 10 / 15)


def test_scores_equal_a_slow_loop_over_documents(llama, tokenizer):
    scores = measure(llama, tokenizer, documents(), window=128)

    assert list(scores) == list(TEXTS)
    for tag, texts in TEXTS.items():
        expected = slow_value(llama, tokenizer, texts, tokenizer.bos_token_id)
        assert scores[tag].value == pytest.approx(expected, rel=1e-5)


def test_documents_keep_their_order_their_names_and_their_own_bytes(llama, tokenizer):
    tally = measure(llama, tokenizer, documents(), window=128)["eng_Latn"]

    assert tally.documents == ("src/0", "src/1", "src/2")
    assert tally.denominator_D.tolist() == [len(text) for text in TEXTS["eng_Latn"]]
    for text, bits in zip(TEXTS["eng_Latn"], tally.numerator_D, strict=True):
        expected = slow_value(llama, tokenizer, [text], tokenizer.bos_token_id) * len(text)
        assert bits == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("window", "stride"), [(2, 1), (7, 3), (16, 4), (16, 15), (57, 56)])
def test_every_token_of_a_long_document_is_scored_once_in_its_window(
    llama, tokenizer, window, stride
):
    text = TEXTS["eng_Latn"][1]
    tokens = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]

    long = documents({"eng_Latn": [text]})
    tally = measure(llama, tokenizer, long, window=window, stride=stride)["eng_Latn"]

    expected = slow_long(llama, tokens, tokens[0], window, stride)
    assert tally.numerator_D[0] * math.log(2) == pytest.approx(expected, rel=1e-5)
    windows = prepare(tokenizer, long, window=window, stride=stride)["eng_Latn"].windows
    assert sum(w.scored for w in windows) == len(tokens) - 1
    assert max(len(w.ids_T) for w in windows) <= window + 1


def test_the_stride_is_half_a_window_unless_given(tokenizer):
    usual = prepare(tokenizer, documents(), window=10)["eng_Latn"].windows
    given = prepare(tokenizer, documents(), window=10, stride=5)["eng_Latn"].windows

    assert [w.ids_T.tolist() for w in usual] == [w.ids_T.tolist() for w in given]


def test_batch_size_changes_a_score_by_rounding_only(llama, tokenizer, monkeypatch):
    scores = []
    for tokens in (1, 37, 4096):
        monkeypatch.setitem(BATCH_TOKENS, "cpu", tokens)
        scores.append(measure(llama, tokenizer, documents(), window=16))

    for tag in TEXTS:
        for one, other in pairwise(scores):
            np.testing.assert_allclose(one[tag].numerator_D, other[tag].numerator_D, rtol=1e-5)


def test_without_bos_the_first_token_is_scored_after_eos(llama):
    tokenizer = byte_tokenizer(eos_token="</s>")

    scores = measure(llama, tokenizer, documents(), window=128)

    for tag, texts in TEXTS.items():
        expected = slow_value(llama, tokenizer, texts, tokenizer.eos_token_id)
        assert scores[tag].value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "left_out"), [("rain", 2), ("क", 1), ("aé", 2), ("é", 2), ("éa", 2), ("日本", 2)]
)
def test_without_bos_and_eos_the_first_token_and_its_bytes_are_left_out(llama, text, left_out):
    def symbols(data):
        return ByteLevel(False, use_regex=False).pre_tokenize_str(data)[0][0]

    e, day = symbols("é"), symbols("日")
    tokenizer = byte_tokenizer([("r", "a"), ("a", e[0]), (e[0], e[1]), (day[0], day[1])])
    ids = tokenizer(text + "!")["input_ids"]

    tally = measure(llama, tokenizer, documents({"eng_Latn": [text + "!"]}), window=128)["eng_Latn"]

    assert tally.denominator_D[0] == len(text.encode()) + 1 - left_out
    expected = sum(slow_nats(llama, ids)) / math.log(2)
    assert tally.numerator_D[0] == pytest.approx(expected, rel=1e-5)


def test_byte_fallback_tokens_count_one_byte(llama):
    vocabulary = {"<unk>": 0, "a": 1} | {f"<0x{b:02X}>": b + 2 for b in range(256)}
    inner = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>")
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)

    tally = measure(llama, tokenizer, documents({"eng_Latn": ["éa", "aé"]}), window=128)["eng_Latn"]

    assert tally.denominator_D.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {}),
        ("qwen3", {"head_dim": 8}),
        ("gemma3_text", {"head_dim": 8, "sliding_window": 8}),
        ("gemma3_text", {"head_dim": 8, "final_logit_softcapping": 1.5}),
        ("gemma2", {"head_dim": 8, "final_logit_softcapping": 1.5}),
        ("cohere", {"logit_scale": 0.25}),
        ("granite", {"logits_scaling": 4.0}),
        ("mistral", {}),
        ("bloom", {"n_head": 4, "n_layer": 2}),
        ("xglm", {"d_model": 32, "attention_heads": 4, "num_layers": 2, "ffn_dim": 48}),
        ("gpt2", {"n_embd": 32, "n_head": 4, "n_layer": 2}),
        ("gpt_neox", {}),
        ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 16}),
        (
            "qwen3_moe",
            {
                "head_dim": 8,
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 16,
            },
        ),
    ],
)
def test_slices_of_logits_give_what_the_whole_model_gives_in_every_family(
    family, settings, tokenizer, monkeypatch
):
    model = tiny(family, **settings)
    monkeypatch.setitem(SLICE_TOKENS, "cpu", 5)
    monkeypatch.setitem(SLICE_LOGITS, "cpu", 5 * 7)

    scores = measure(model, tokenizer, documents(), window=128)

    for tag, texts in TEXTS.items():
        expected = slow_value(model, tokenizer, texts, tokenizer.bos_token_id)
        assert scores[tag].value == pytest.approx(expected, rel=1e-4)
    assert "forward" not in model.base_model.__dict__


def test_no_more_logits_than_the_budget_are_ever_made(tokenizer, monkeypatch):
    monkeypatch.setitem(SLICE_LOGITS, "cpu", 1 << 30)
    model = tiny(vocab_size=20_000)
    seen = []
    model.get_output_embeddings().register_forward_hook(
        lambda _module, _inputs, logits: seen.append(logits.numel())
    )
    text = documents({"eng_Latn": ["the budget holds " * 60]})

    tight = measure(model, tokenizer, text, window=1500, memory_mb=3)["eng_Latn"]
    rows_at_once, seen[:] = max(seen), []
    wide = measure(model, tokenizer, text, window=1500, memory_mb=500)["eng_Latn"]

    assert rows_at_once * 16 <= 3 * 2**20
    assert max(seen) > rows_at_once
    assert tight.value == pytest.approx(wide.value, rel=1e-6)


def test_a_model_whose_head_cannot_run_apart_gives_its_own_logits(llama, tokenizer, monkeypatch):
    expected = measure(llama, tokenizer, documents(), window=16)
    monkeypatch.setattr(
        "babelpress.evals._next_token.of_states", lambda *_: pytest.fail("not to be used")
    )
    monkeypatch.setattr("babelpress.evals._next_token.runs_apart", lambda *_: False)

    scores = measure(llama, tokenizer, documents(), window=16)

    for tag in TEXTS:
        assert scores[tag].value == pytest.approx(expected[tag].value, rel=1e-5)


def test_a_head_that_needs_more_than_hidden_states_is_noticed(tokenizer):
    model = tiny()
    inner = model.forward
    model.forward = lambda ids, **given: _plus(inner(ids, **given), ids)  # logits depend on the ids
    ids = torch.tensor([[5, 6, 7]])

    assert not runs_apart(model, ids, model(ids, use_cache=False).logits)


def _plus(output, ids_BT):
    output.logits = output.logits + ids_BT[..., None]
    return output


def test_tokenising_once_serves_many_models(tokenizer):
    prepared = prepare(tokenizer, documents(), window=16)

    for seed in (1, 2):
        model = tiny(seed=seed)
        assert score(model, prepared)["tha_Thai"].value == pytest.approx(
            measure(model, tokenizer, documents(), window=16)["tha_Thai"].value
        )


def test_the_model_is_left_as_it_was(tokenizer):
    model = tiny(attention_dropout=0.5).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    first = measure(model, tokenizer, documents(), window=16)
    second = measure(model, tokenizer, documents(), window=16)

    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert first["eng_Latn"].value == second["eng_Latn"].value


def test_progress_counts_every_token_once(llama, tokenizer):
    seen = []

    measure(llama, tokenizer, documents(), window=16, progress=lambda *at: seen.append(at))

    total = sum(len(text.encode()) for texts in TEXTS.values() for text in texts)
    assert seen[-1] == ("bits per byte", total, total)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_a_half_precision_model_is_scored_in_float32(tokenizer):
    model = tiny().bfloat16()

    scores = measure(model, tokenizer, documents(), window=128)

    for tag, texts in TEXTS.items():
        expected = slow_value(model, tokenizer, texts, tokenizer.bos_token_id)
        assert scores[tag].value == pytest.approx(expected, rel=2e-2)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_score_that_is_no_number_names_language_and_document(tokenizer, broken):
    model = tiny()
    model.get_input_embeddings().weight.data[tokenizer("q")["input_ids"][0]] = broken
    texts = documents({"eng_Latn": ["fine"], "fra_Latn": ["aussi", "quoi"]})

    with pytest.raises(NotFinite, match=r"'src/1' in fra_Latn"):
        measure(model, tokenizer, texts, window=16)


@pytest.mark.parametrize("texts", [{}, {"fra_Latn": []}, {"fra_Latn": [""]}])
def test_a_language_without_text_is_an_error(llama, tokenizer, texts):
    with pytest.raises(BadCorpus, match=r"no text|no language"):
        measure(llama, tokenizer, documents(texts), window=16)


@pytest.mark.parametrize(("window", "stride"), [(1, None), (8, 8), (8, 0), (0, None)])
def test_a_window_that_leaves_tokens_without_context_is_refused(tokenizer, window, stride):
    with pytest.raises(BadSetting, match="stride"):
        prepare(tokenizer, documents(), window=window, stride=stride)


def test_a_window_longer_than_the_model_knows_is_refused(tokenizer):
    model = tiny(max_position_embeddings=16)

    with pytest.raises(BadSetting, match="--window 16 or less"):
        measure(model, tokenizer, documents(), window=32)


def test_a_tokenizer_of_another_model_is_refused(tokenizer):
    with pytest.raises(BadModel, match="knows 40 tokens"):
        measure(tiny(vocab_size=40), tokenizer, documents(), window=16)


def said_of(logits_NV, target_N, size=1000):
    """Slices one by one, as they come from a model."""
    said = Said.nothing(target_N, ranks=True)
    for start in range(0, logits_NV.shape[1], size):
        said.add(logits_NV[:, start : start + size].clone(), start)
    return said


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_slices_of_a_vocabulary_say_what_all_of_it_says(size):
    torch.manual_seed(0)
    logits_NV, target_N = torch.randn(7, 50).bfloat16() * 9, torch.arange(7) * 8
    logits_NV[3] = logits_NV[3, 0]  # equal ones: the first is ranked first
    said = said_of(logits_NV, target_N, size)

    expected = torch.nn.functional.cross_entropy(logits_NV.double(), target_N, reduction="none")
    assert torch.allclose(_next_token.nats(said).double(), expected, atol=1e-5)
    assert said.place_N.tolist() == logits_NV.max(1).indices.tolist()
    assert said.best_N.tolist() == logits_NV.max(1).values.tolist()
    assert said.here_N.tolist() == logits_NV[range(7), target_N].tolist()


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 4, 8])
@pytest.mark.parametrize("size", [2, 9])
def test_a_logit_that_is_no_number_is_never_lost_among_slices(broken, place, size):
    logits_NV, target_N = torch.zeros(2, 9), torch.tensor([4, 4])
    logits_NV[0, place] = broken
    said = said_of(logits_NV, target_N, size)

    found_N = _next_token.nats(said)
    assert not found_N[0].isfinite()
    assert found_N[1].item() == pytest.approx(math.log(9))


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_a_slice_of_tokens_that_a_model_never_says_is_no_error(size):
    logits_NV, target_N = torch.zeros(1, 9), torch.tensor([5])
    logits_NV[0, [0, 1, 2, 8]] = -math.inf

    assert _next_token.nats(said_of(logits_NV, target_N, size)).item() == pytest.approx(math.log(5))


def test_logits_far_below_the_largest_count_for_nothing():
    logits_NV, target_N = torch.tensor([[0.0, -1000.0, -math.inf]]), torch.tensor([0])

    assert _next_token.nats(said_of(logits_NV, target_N)).item() == 0.0


def test_what_differs_by_rounding_is_the_same_and_shapes_count():
    one = torch.ones(3)

    assert same(one, one + 2**-23)
    assert not same(one, one + 1e-4)
    assert not same(one, torch.ones(4))
    assert same(torch.tensor([torch.nan]), torch.tensor([torch.nan]))


def test_a_budget_too_small_is_refused_with_what_would_do(tokenizer, monkeypatch):
    model = tiny(vocab_size=20_000)

    with pytest.raises(BadSetting, match=r"1 MiB are too little.*Give at least 2 MiB with"):
        measure(model, tokenizer, documents(), window=16, memory_mb=1)
    measure(model, tokenizer, documents(), window=16, memory_mb=2)

    monkeypatch.setattr("babelpress.evals._next_token.runs_apart", lambda *_: False)
    with pytest.raises(BadSetting, match="Give at least 5 MiB"):
        measure(model, tokenizer, documents(), window=16, memory_mb=2)


def test_models_that_see_what_they_should_predict_are_refused(tokenizer):
    torch.manual_seed(0)
    bert = AutoModelForMaskedLM.from_config(AutoConfig.for_model("bert", **SHAPE))
    t5 = AutoModelForSeq2SeqLM.from_config(
        AutoConfig.for_model("mt5", vocab_size=300, d_model=32, d_kv=8)
    )

    with pytest.raises(BadModel, match="bert sees"):
        measure(bert, tokenizer, documents(), window=16)
    with pytest.raises(BadModel, match="encoder-decoder"):
        measure(t5, tokenizer, documents(), window=16)


def test_a_text_that_spells_a_special_token_is_text(llama, tokenizer):
    windows = prepare(tokenizer, documents({"eng_Latn": ["a<s>b"]}), window=16)["eng_Latn"].windows

    assert windows[0].scored == 5


def test_the_folder_is_the_registry():
    names = evals.EVALUATIONS.names()
    assert names == sorted(names)
    assert {"alignment", "bits_per_byte", "confusion", "ece", "range", "top1"} < {*names}
    assert evals.facts("bits_per_byte") == ("bits_per_byte", "bits per byte", True, False)
    assert evals.EVALUATIONS.get("bits_per_byte") is measure
    assert evals.options("bits_per_byte") == {"stride": None}
    with pytest.raises(UnknownName, match="bits_per_byte"):
        evals.facts("bits_per_bite")
