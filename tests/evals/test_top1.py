"""Top 1 against plain loops over a model's own logits."""

import math
from typing import Any

import numpy as np
import pico
import pytest
import torch
from small import TEXTS, documents
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from babelpress import evals
from babelpress.errors import BadCorpus, NotFinite
from babelpress.evals._head import SLICE_LOGITS, SLICE_TOKENS, Said
from babelpress.evals._next_token import BATCH_TOKENS
from babelpress.evals.top1 import _first, measure
from babelpress.judge.compare import compare, gate
from babelpress.numerics.tally import Tally


@pytest.fixture(scope="module")
def tokenizer():
    return pico.tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    """A random llama whose head is fitted to the texts, so that hits are neither all nor none."""
    llama = random_model()
    with torch.no_grad():
        for parameter in llama.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        ids = [ids_of(tokenizer, text) for texts in TEXTS.values() for text in texts]
        seen = [llama.model(torch.tensor([each])).last_hidden_state[0, :-1] for each in ids]
        came = torch.cat([torch.tensor(each[1:]) for each in ids])
        one_hot = torch.nn.functional.one_hot(came, pico.VOCABULARY).float()
        llama.lm_head.weight.copy_(torch.linalg.lstsq(torch.cat(seen), one_hot).solution.T)
    return llama


def first(logits_NV, target_N):
    """What top 1 tells of logits that come at once."""
    said = Said.nothing(target_N, ranks=True)
    said.add(logits_NV.clone(), 0)
    return _first(said)


def random_model() -> Any:
    """A llama whose parts may be changed."""
    return pico.model()


def ids_of(tokenizer, text):
    return [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]


def slow_hits(model, tokens, window, step):
    """Each token by itself: find its window, run what came before, look for the largest logit."""
    hits = 0
    for t in range(1, len(tokens)):
        start = max(0, math.ceil((t - window) / step)) * step
        piece = [tokens[0], *tokens[start + 1 : t]]
        with torch.no_grad():
            logits = model(torch.tensor([piece])).logits[0, -1].tolist()
        hits += logits.index(max(logits)) == tokens[t]
    return hits


@pytest.mark.parametrize(("window", "stride"), [(128, None), (7, 3), (16, None), (2, 1)])
def test_hits_are_those_of_a_loop_over_tokens(model, tokenizer, window, stride):
    found = measure(model, tokenizer, documents(), window=window, stride=stride)

    assert list(found) == list(TEXTS)
    for tag, texts in TEXTS.items():
        tokens = [ids_of(tokenizer, text) for text in texts]
        step = stride or window // 2
        expected = [slow_hits(model, each, window, step) for each in tokens]
        assert found[tag].numerator_D.tolist() == expected
        assert found[tag].denominator_D.tolist() == [len(each) - 1 for each in tokens]
        assert found[tag].documents == tuple(f"src/{i}" for i in range(len(texts)))
        assert found[tag].value == sum(expected) / sum(len(each) - 1 for each in tokens)
    assert 0 < found["eng_Latn"].value < 1


def test_a_model_that_always_says_one_token_hits_as_often_as_the_text_has_it(tokenizer):
    """Two of "hello, world" are o, and three of "to do or" are; all are one byte."""
    model = random_model()
    head = model.get_output_embeddings()
    head.weight.data.zero_()
    bias = torch.zeros(pico.VOCABULARY)
    bias[tokenizer("o", add_special_tokens=False)["input_ids"][0]] = 1.0
    head.bias = torch.nn.Parameter(bias)

    tally = measure(
        model, tokenizer, documents({"eng_Latn": ["hello, world", "to do or", "xyz"]}), window=5
    )["eng_Latn"]

    assert tally.numerator_D.tolist() == [2, 3, 0]
    assert tally.denominator_D.tolist() == [12, 8, 3]
    assert tally.value == 5 / 23


def test_of_equally_likely_tokens_the_first_of_the_vocabulary_is_ranked_first():
    logits_NV = torch.tensor([[0.0, 2.0, 2.0, -1.0]]).repeat(4, 1)

    hits = first(logits_NV, torch.arange(4))

    assert hits.tolist() == [0.0, 1.0, 0.0, 0.0]


def test_a_model_that_knows_nothing_hits_the_first_token_only(tokenizer):
    model = random_model()
    model.get_output_embeddings().weight.data.zero_()
    first = tokenizer.convert_tokens_to_string([sorted(ByteLevel.alphabet())[0]])
    assert ids_of(tokenizer, first)[1] == len(pico.SPECIAL)

    found = measure(model, tokenizer, documents(), window=16)

    assert all(tally.value == 0 for tally in found.values())  # <bos> is the first, and never comes


@pytest.mark.parametrize("memory_mb", [1, 256])
@pytest.mark.parametrize(("batch", "chunk"), [(1, 1), (37, 5), (4096, 128)])
def test_how_windows_are_batched_and_logits_sliced_changes_no_document(
    model, tokenizer, monkeypatch, memory_mb, batch, chunk
):
    together = measure(model, tokenizer, documents(), window=9)
    monkeypatch.setitem(BATCH_TOKENS, "cpu", batch)
    monkeypatch.setitem(SLICE_TOKENS, "cpu", chunk)
    monkeypatch.setitem(SLICE_LOGITS, "cpu", chunk * 50)

    found = measure(model, tokenizer, documents(), window=9, memory_mb=memory_mb)

    for tag, tally in together.items():
        assert tally.numerator_D.tolist() == found[tag].numerator_D.tolist()
        assert tally.denominator_D.tolist() == found[tag].denominator_D.tolist()


def test_a_document_alone_has_the_hits_that_it_has_among_others(model, tokenizer):
    whole = measure(model, tokenizer, documents(), window=9)["eng_Latn"]

    for text, hits in zip(TEXTS["eng_Latn"], whole.numerator_D, strict=True):
        alone = measure(model, tokenizer, documents({"eng_Latn": [text]}), window=9)["eng_Latn"]
        assert alone.numerator_D.tolist() == [hits]


def test_without_bos_and_eos_the_first_token_is_no_prediction(model, tokenizer):
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    text = TEXTS["eng_Latn"][1]

    tally = measure(model, bare, documents({"eng_Latn": [text]}), window=128)["eng_Latn"]

    assert tally.denominator_D.tolist() == [len(text) - 1]
    ids = torch.tensor([bare(text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        said = model(ids).logits[0].argmax(1)
    assert tally.numerator_D.tolist() == [int((said[:-1] == ids[0, 1:]).sum())]


def test_an_empty_document_among_others_counts_nothing(model, tokenizer):
    tally = measure(model, tokenizer, documents({"eng_Latn": ["no", "", "yes"]}), window=9)

    assert tally["eng_Latn"].denominator_D.tolist() == [2, 0, 3]


def test_progress_counts_every_token_once(model, tokenizer):
    seen = []

    measure(model, tokenizer, documents(), window=16, progress=lambda *at: seen.append(at))

    total = sum(len(text.encode()) for texts in TEXTS.values() for text in texts)
    assert seen[-1] == ("top 1", total, total)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_logit_that_is_no_number_is_an_error_and_never_a_miss(tokenizer, broken):
    model = random_model()
    model.get_input_embeddings().weight.data[ids_of(tokenizer, "q")[1]] = broken
    texts = documents({"eng_Latn": ["fine"], "fra_Latn": ["aussi", "quoi"]})

    with pytest.raises(NotFinite, match=r"'src/1' in fra_Latn"):
        measure(model, tokenizer, texts, window=16)


def test_a_token_that_cannot_come_is_no_error():
    """Models mask tokens that they never say with −inf."""
    logits_NV = torch.tensor([[-math.inf, 1.0], [2.0, -math.inf]])

    assert first(logits_NV, torch.tensor([1, 1])).tolist() == [1.0, 0.0]
    assert first(torch.full((1, 2), -math.inf), torch.tensor([0])).isnan().all()
    assert first(torch.tensor([[0.0, math.inf]]), torch.tensor([1])).isnan().all()


def test_a_language_without_text_is_an_error(model, tokenizer):
    with pytest.raises(BadCorpus, match="fra_Latn has no text to score"):
        measure(model, tokenizer, documents({"fra_Latn": [""]}), window=16)


def test_what_it_declares():
    facts = evals.facts("top1")

    assert facts == ("top1", "share of next tokens ranked first", False, False)
    assert evals.options("top1") == {"stride": None}


def test_a_change_for_the_worse_is_one_that_lowers_it():
    """Of 100 tokens each in 40 documents, from 50 hits to 45 in Swahili and to 55 in Thai."""

    def hits(number):
        names = tuple(f"doc/{i}" for i in range(40))
        return Tally(names, np.full(40, float(number)), np.full(40, 100.0))

    dense = {"swh_Latn": hits(50), "tha_Thai": hits(50)}
    pressed = {"swh_Latn": hits(45), "tha_Thai": hits(55)}

    result = compare(dense, pressed, lower_is_better=evals.facts("top1").lower_is_better)

    assert [change.change for change in result.changes] == pytest.approx([0.1, -0.1])
    assert [change.verdict for change in result.changes] == ["worse", "better"]
    assert [change.language for change in gate(result, 0.05)] == ["swh_Latn"]
