"""Hidden tokens against a loop over tokens, in every family of encoders that predicts them."""

import math
from typing import Any

import pico
import pytest
import torch
from small import TEXTS, documents
from transformers import BertModel, XLMRobertaConfig, XLMRobertaForMaskedLM

from babelpress import evals
from babelpress.errors import BadCorpus, BadModel, BadSetting, NotFinite
from babelpress.evals import _head, masked
from babelpress.evals.masked import measure
from babelpress.models.around import Around

ROBERTA = XLMRobertaConfig(**pico._ROBERTA)
MODELS = {
    "bert": lambda: pico.model("bert"),
    "modernbert": lambda: pico.model("modernbert"),
    "xlm_roberta": lambda: XLMRobertaForMaskedLM(ROBERTA).eval(),
}


@pytest.fixture(scope="module")
def tokenizer():
    made = pico.tokenizer()
    made.mask_token = "<pad>"
    return made


@pytest.fixture(scope="module")
def bert():
    return MODELS["bert"]()


def model_of(family) -> Any:
    """Loud enough that what is hidden matters."""
    torch.manual_seed(5)
    made = MODELS[family]()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.2)
    return made


@torch.no_grad()
def slow_nats(model, tokenizer, text, window, every):
    """The definition, one token and one pass of one window at a time."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    total = 0.0
    for start in range(0, len(ids), window - 2):
        piece = ids[start : start + window - 2]
        for place, own in enumerate(piece):
            shown = [
                tokenizer.mask_token_id if other % every == place % every else token
                for other, token in enumerate(piece)
            ]
            given = torch.tensor([[tokenizer.bos_token_id, *shown, tokenizer.eos_token_id]])
            logits_V = model(given).logits[0, place + 1].double()
            total -= logits_V.log_softmax(0)[own].item()
    return total


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize(("window", "every"), [(16, 2), (128, 6), (9, 100)])
def test_every_token_is_hidden_once_with_its_like_and_scored(family, window, every, tokenizer):
    model = model_of(family)

    found = measure(model, tokenizer, documents(), window=window, every=every)

    for tag, texts in TEXTS.items():
        nats_D = [slow_nats(model, tokenizer, text, window, every) for text in texts]
        bits = [each / math.log(2) for each in nats_D]
        assert found[tag].numerator_D.tolist() == pytest.approx(bits, rel=1e-4)
        assert found[tag].denominator_D.tolist() == [len(text.encode()) for text in texts]
        assert found[tag].documents == tuple(each.id for each in documents()[tag])


def test_what_is_hidden_is_not_seen(tokenizer):
    """With every token hidden, all texts of one length cost the same but for what they are."""
    model = model_of("bert")
    texts = {"eng_Latn": ["ab", "cb"], "fra_Latn": ["cb"]}
    seen: list[torch.Tensor] = []
    model.get_input_embeddings().register_forward_pre_hook(
        lambda _module, args: seen.append(args[0].clone())
    )

    measure(model, tokenizer, documents(texts), window=16, every=2)

    for ids_BT in seen:
        assert ((ids_BT == tokenizer.mask_token_id).sum(1) >= 1).all()


@pytest.mark.parametrize("family", MODELS)
def test_batches_slices_and_whole_logits_give_the_same(family, tokenizer, monkeypatch):
    model = model_of(family)
    together = measure(model, tokenizer, documents(), window=12)
    monkeypatch.setitem(masked.BATCH_TOKENS, "cpu", 1)
    monkeypatch.setitem(_head.SLICE_LOGITS, "cpu", 40)
    apart = measure(model, tokenizer, documents(), window=12)
    monkeypatch.setattr(masked, "runs_apart", lambda *_: False)
    whole = measure(model, tokenizer, documents(), window=12)

    for tag in TEXTS:
        for other in (apart, whole):
            assert other[tag].value == pytest.approx(together[tag].value, rel=1e-5)


def test_the_output_layer_runs_apart_in_every_family(tokenizer, monkeypatch):
    monkeypatch.setattr(masked, "of_model", lambda *_: pytest.fail("all logits at once"))

    for family in MODELS:
        found = measure(model_of(family), tokenizer, documents(), window=12)
        assert found.keys() == TEXTS.keys()


def test_marks_are_those_of_the_tokenizer(tokenizer):
    assert Around.of(tokenizer) == Around((0,), (1,))
    bare = pico.tokenizer()
    bare.bos_token = bare.eos_token = None
    assert Around.of(bare).put([7, 8]) == [7, 8]
    bare.cls_token = "<eos>"
    assert Around.of(bare).put([7, 8]) == [1, 7, 8]


def test_a_model_that_knows_nothing_needs_the_logarithm_of_its_vocabulary(tokenizer, bert):
    with torch.no_grad():
        silent = MODELS["bert"]()
        for parameter in silent.parameters():
            parameter.zero_()

    found = measure(silent, tokenizer, documents(), window=16)

    for tally in found.values():  # one token a byte
        assert tally.value == pytest.approx(math.log2(pico.VOCABULARY))


def test_what_cannot_be_scored_is_told_in_one_line(tokenizer, bert):
    bare = pico.tokenizer()
    with pytest.raises(BadModel, match=r"no mask token.*bits_per_byte"):
        measure(bert, bare, documents(), window=16)
    with pytest.raises(BadModel, match=r"BertModel has no head.*retrieval"):
        measure(BertModel(bert.config), tokenizer, documents(), window=16)
    for window in (2, 129):
        with pytest.raises(BadSetting, match="Give one of 3 to 128, the positions"):
            measure(bert, tokenizer, documents(), window=window)
    for every in (1, True):
        with pytest.raises(BadSetting, match="every is"):
            measure(bert, tokenizer, documents(), window=16, every=every)
    for texts in ({"fra_Latn": []}, {"fra_Latn": [""]}):
        with pytest.raises(BadCorpus, match="no text to score"):
            measure(bert, tokenizer, documents(texts), window=16)


def test_the_positions_of_a_roberta_begin_after_its_padding(tokenizer):
    model = MODELS["xlm_roberta"]()
    long = documents({"eng_Latn": ["habari " * 40]})

    measure(model, tokenizer, long, window=128)
    with pytest.raises(BadSetting, match="3 to 128"):
        measure(model, tokenizer, long, window=129)


def test_a_score_that_is_no_number_names_language_and_document(tokenizer):
    model = MODELS["bert"]()
    model.get_input_embeddings().weight.data[tokenizer("q")["input_ids"][0]] = math.nan
    texts = documents({"eng_Latn": ["fine"], "fra_Latn": ["aussi", "quoi"]})

    with pytest.raises(NotFinite):
        measure(model, tokenizer, texts, window=16)


def test_progress_counts_every_pass_over_every_token(tokenizer, bert):
    seen: list[Any] = []

    measure(bert, tokenizer, documents(), window=16, every=3, progress=lambda *at: seen.append(at))

    total = 3 * sum(len(text.encode()) for texts in TEXTS.values() for text in texts)
    assert seen[-1] == ("masked", total, total)


def test_what_it_declares():
    assert evals.facts("masked") == ("masked_bits", "bits per byte of hidden tokens", True, False)
    assert evals.options("masked") == {"every": 6}
