"""Expected calibration error against a plain loop over a model's own probabilities."""

import math
from typing import Any

import numpy as np
import pico
import pytest
import torch
from small import TEXTS, documents
from transformers import PreTrainedTokenizerFast

from babelpress import evals
from babelpress.errors import NotFinite
from babelpress.evals._calibration import BINS
from babelpress.evals._head import Said
from babelpress.evals.ece import _gaps, measure


@pytest.fixture(scope="module")
def tokenizer():
    return pico.tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer) -> Any:
    """A random llama whose head is half fitted to the texts: some guesses hit, and not all."""
    llama: Any = pico.model()
    with torch.no_grad():
        for parameter in llama.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        ids = [ids_of(tokenizer, text) for text in TEXTS["eng_Latn"]]
        seen = [llama.model(torch.tensor([each])).last_hidden_state[0, :-1] for each in ids]
        came = torch.cat([torch.tensor(each[1:]) for each in ids])
        one_hot = torch.nn.functional.one_hot(came, pico.VOCABULARY).float()
        llama.lm_head.weight.copy_(7 * torch.linalg.lstsq(torch.cat(seen), one_hot).solution.T)
    return llama


def ids_of(tokenizer, text):
    return [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]


def slow_guesses(model, tokenizer, text):
    """Probability of the first guess and whether it came, token by token."""
    ids = ids_of(tokenizer, text)
    found = []
    for place in range(1, len(ids)):
        with torch.no_grad():
            logits = model(torch.tensor([ids[:place]])).logits[0, -1].double().tolist()
        top = max(logits)
        whole = sum(math.exp(each - top) for each in logits)
        found.append((1 / whole, logits.index(top) == ids[place]))
    return found


def bin_of(sure):
    return next(k for k in range(BINS) if k / BINS < sure <= (k + 1) / BINS)


def slow_ece(guesses):
    """Guo et al. (2017), equation 3, with means in every bin as the paper has it."""
    total = 0.0
    for k in range(BINS):
        inside = [each for each in guesses if bin_of(each[0]) == k]
        if inside:
            accuracy = sum(hit for _, hit in inside) / len(inside)
            confidence = sum(sure for sure, _ in inside) / len(inside)
            total += len(inside) / len(guesses) * abs(accuracy - confidence)
    return total


def test_the_value_is_the_ece_of_all_guesses_of_a_language(model, tokenizer):
    found = measure(model, tokenizer, documents(), window=128)

    for tag, texts in TEXTS.items():
        by_document = [slow_guesses(model, tokenizer, text) for text in texts]
        guesses = [each for some in by_document for each in some]
        assert found[tag].value == pytest.approx(slow_ece(guesses), abs=1e-6)
        assert found[tag].denominator_D.tolist() == [len(some) for some in by_document]
    used = {
        bin_of(s) for text in TEXTS["eng_Latn"] for s, _ in slow_guesses(model, tokenizer, text)
    }
    assert len(used) > 5
    assert 0.02 < found["eng_Latn"].value < 0.9


def test_a_document_has_its_gaps_by_the_sign_that_the_language_has_in_a_bin(model, tokenizer):
    found = measure(model, tokenizer, documents(), window=128)["eng_Latn"]

    by_document = [slow_guesses(model, tokenizer, text) for text in TEXTS["eng_Latn"]]
    gaps = np.zeros((len(by_document), BINS))
    for row, some in enumerate(by_document):
        for sure, hit in some:
            gaps[row, bin_of(sure)] += sure - hit
    signs = [math.copysign(1, each) for each in gaps.sum(0)]
    expected = [sum(s * g for s, g in zip(signs, row, strict=True)) for row in gaps]
    assert found.numerator_D.tolist() == pytest.approx(expected, abs=1e-5)
    assert {*signs} == {1.0, -1.0}


def test_what_every_bin_adds_is_told(model, tokenizer):
    heard: dict[str, dict[str, float]] = {}

    found = measure(
        model,
        tokenizer,
        documents(),
        window=128,
        detail=lambda tag, p: heard.update({tag: dict(p)}),
    )

    for tag, parts in heard.items():
        assert len(parts) == BINS
        assert sum(map(abs, parts.values())) == pytest.approx(found[tag].value)
    guesses = [g for t in TEXTS["eng_Latn"] for g in slow_guesses(model, tokenizer, t)]
    gap = sum(sure - hit for sure, hit in guesses) / len(guesses)
    assert sum(heard["eng_Latn"].values()) == pytest.approx(gap, abs=1e-6)


def gaps(logits_NV, target_N):
    """What is told of logits that come at once."""
    said = Said.nothing(target_N, ranks=True)
    said.add(logits_NV.clone(), 0)
    return _gaps(said)


def test_bins_are_closed_above():
    """Probabilities of exactly 1/3, the upper bound of the fifth bin, and of one."""
    logits_NV = torch.tensor([[0.0, 0.0, 0.0], [200.0, 0.0, 0.0]])

    gap_NK = gaps(logits_NV, torch.tensor([1, 0]))

    assert gap_NK.nonzero().tolist() == [[0, 4]]
    assert gap_NK[0, 4].item() == pytest.approx(1 / 3)
    assert gaps(logits_NV[1:], torch.tensor([2]))[0].tolist() == [0.0] * (BINS - 1) + [1.0]


def test_a_model_that_knows_how_often_it_is_right_has_no_error(tokenizer):
    """It always guesses `a`, with a probability of 3/4, and three of four bytes are `a`."""
    llama: Any = pico.model()
    head = llama.get_output_embeddings()
    head.weight.data.zero_()
    bias = torch.zeros(pico.VOCABULARY)
    a = tokenizer("a", add_special_tokens=False)["input_ids"][0]
    bias[a] = math.log(3 * (pico.VOCABULARY - 1))
    head.bias = torch.nn.Parameter(bias)

    right = measure(llama, tokenizer, documents({"eng_Latn": ["aaab", "baaa"]}), window=9)
    wrong = measure(llama, tokenizer, documents({"eng_Latn": ["aaab", "bbbb"]}), window=9)

    assert right["eng_Latn"].value == pytest.approx(0, abs=1e-6)
    assert wrong["eng_Latn"].value == pytest.approx(3 / 4 - 3 / 8)


@pytest.mark.parametrize(("window", "memory_mb"), [(128, 1), (9, 256)])
def test_windows_and_memory_change_no_count(model, tokenizer, window, memory_mb):
    whole = measure(model, tokenizer, documents(), window=128)

    found = measure(model, tokenizer, documents(), window=window, memory_mb=memory_mb)

    for tag, tally in whole.items():
        assert found[tag].denominator_D.tolist() == tally.denominator_D.tolist()
        if window == 128:
            assert found[tag].numerator_D == pytest.approx(tally.numerator_D, abs=1e-5)


def test_without_bos_and_eos_the_first_token_is_no_guess(model, tokenizer):
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)

    tally = measure(model, bare, documents({"eng_Latn": ["hello"]}), window=128)["eng_Latn"]

    assert tally.denominator_D.tolist() == [4]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_probability_that_is_no_number_is_an_error(tokenizer, broken):
    llama: Any = pico.model()
    llama.get_input_embeddings().weight.data[ids_of(tokenizer, "q")[1]] = broken
    texts = documents({"eng_Latn": ["fine"], "fra_Latn": ["aussi", "quoi"]})

    with pytest.raises(NotFinite, match=r"'src/1' in fra_Latn"):
        measure(llama, tokenizer, texts, window=16)


def test_what_it_declares():
    assert evals.facts("ece") == ("ece", "expected calibration error", True, False)
    assert evals.options("ece") == {"stride": None}
