"""Alignment with English against loops over a model's own hidden states."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pico
import pytest
import torch

from babelpress import evals
from babelpress.errors import BadCorpus, BadSetting, NotFinite
from babelpress.evals import _sentences
from babelpress.evals._parallel import Pair, PairedDocument
from babelpress.evals.alignment import measure

PAIRS = [
    ("maji ni uhai", "water is life"),
    ("mtoto anakimbia nyumbani", "the child runs home"),
    ("mvua", "rain"),
    ("tunaimba pamoja", "we sing together"),
    ("naona mbwa mdogo", "I see a small dog"),
    ("njoo hapa", "come here"),
    ("rain", "rain in the hills"),
    ("we sing", "we sing"),
]
SIZES = (3, 1, 4)
WINDOW = 64


def documents(pairs=PAIRS, sizes=SIZES):
    given = iter([Pair(f"s{at}", text, english) for at, (text, english) in enumerate(pairs)])
    return {
        "swh_Latn": [
            PairedDocument(f"d{at}", tuple(next(given) for _ in range(size)))
            for at, size in enumerate(sizes)
        ]
    }


@pytest.fixture(scope="module")
def tokenizer():
    return pico.tokenizer()


def random_model(family="llama") -> Any:
    model: Any = pico.model(family)
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def slow_vectors(model, tokenizer, text, pool):
    """One sentence by itself: a vector of plain numbers at every layer."""
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        states = model.base_model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    found = []
    for state in states:
        rows = state[0, 1:].double().tolist()
        places = range(1, len(rows) + 1)
        if pool == "last":
            found.append(rows[-1])
            continue
        weights = [place if pool == "weighted" else 1 for place in places]
        found.append(
            [
                sum(w * x for w, x in zip(weights, column, strict=True)) / sum(weights)
                for column in zip(*rows, strict=True)
            ]
        )
    return found


def cosine(one, other):
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


def slow_scores(model, tokenizer, pairs, metric, pool):
    """By sentence, by layer: whether it finds and is found, or its cosine."""
    mine = [slow_vectors(model, tokenizer, text, pool) for text, _ in pairs]
    theirs = [slow_vectors(model, tokenizer, english, pool) for _, english in pairs]
    found = []
    for i in range(len(pairs)):
        row = []
        for layer in range(len(mine[0])):
            own = cosine(mine[i][layer], theirs[i][layer])
            others = [j for j in range(len(pairs)) if j != i]
            hit = all(own > cosine(mine[i][layer], theirs[j][layer]) for j in others) and all(
                own > cosine(mine[j][layer], theirs[i][layer]) for j in others
            )
            row.append(float(hit) if metric == "mexa" else own)
        found.append(row)
    return found


def by_document(values):
    starts = np.cumsum([0, *SIZES])
    return [sum(values[a:b]) for a, b in pairwise(starts)]


@pytest.mark.parametrize("family", ["llama", "gemma3", "bloom"])
@pytest.mark.parametrize(
    ("metric", "pool"),
    [("mexa", ""), ("mexa", "mean"), ("mexa", "last"), ("ranker", ""), ("ranker", "weighted")],
)
def test_scores_are_those_of_a_loop_over_sentences_and_layers(family, metric, pool, tokenizer):
    model = random_model(family)
    heard: dict[str, Any] = {}

    tally = measure(
        model,
        tokenizer,
        documents(),
        window=WINDOW,
        metric=metric,
        pool=pool,
        detail=lambda tag, parts: heard.update({tag: parts}),
    )["swh_Latn"]

    default = {"mexa": "weighted", "ranker": "last"}[metric]
    slow = slow_scores(model, tokenizer, PAIRS, metric, pool or default)
    means = [sum(row) / len(row) for row in slow]
    assert tally.numerator_D.tolist() == pytest.approx(by_document(means), abs=1e-5)
    assert tally.denominator_D.tolist() == list(SIZES)
    assert tally.documents == ("d0", "d1", "d2")
    layers = [sum(column) / len(column) for column in zip(*slow, strict=True)]
    assert list(heard["swh_Latn"].values()) == pytest.approx(layers, abs=1e-5)
    assert len(layers) == 3
    assert 0 < tally.value < 1


def test_the_best_layer_is_that_of_the_language(tokenizer):
    model = random_model()

    tally = measure(model, tokenizer, documents(), window=WINDOW, layers="max")["swh_Latn"]

    slow = slow_scores(model, tokenizer, PAIRS, "mexa", "weighted")
    columns = [list(column) for column in zip(*slow, strict=True)]
    best = max(columns, key=sum)
    assert len({sum(column) for column in columns}) > 1
    assert tally.numerator_D.tolist() == by_document(best)


def test_a_sentence_that_is_its_own_translation_is_aligned_at_every_layer(tokenizer):
    same = [(english, english) for _, english in PAIRS]

    for metric in ("mexa", "ranker"):
        tally = measure(
            random_model(), tokenizer, documents(same), window=WINDOW, metric=metric, pool="mean"
        )["swh_Latn"]
        assert tally.value == pytest.approx(1.0)


def test_two_sentences_alike_are_both_missed(tokenizer):
    """The cosine with the translation must be larger, not as large."""
    pairs = [("maji", "water"), ("mvua", "water"), ("njoo hapa", "come here")]

    tally = measure(
        random_model(), tokenizer, documents(pairs, (1, 1, 1)), window=WINDOW, metric="mexa"
    )["swh_Latn"]

    assert tally.numerator_D[:2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("tokens", [1, 30, 4096])
def test_how_sentences_are_batched_changes_no_score(tokenizer, monkeypatch, tokens):
    model = random_model()
    whole = measure(model, tokenizer, documents(), window=WINDOW, metric="ranker")["swh_Latn"]
    monkeypatch.setattr(_sentences, "BATCH_TOKENS", tokens)
    seen = []

    found = measure(
        model,
        tokenizer,
        documents(),
        window=WINDOW,
        metric="ranker",
        progress=lambda *at: seen.append(at),
    )["swh_Latn"]

    assert found.numerator_D.tolist() == pytest.approx(whole.numerator_D.tolist(), abs=1e-5)
    assert seen[-1] == ("alignment: English beside swh_Latn", 8, 8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metric": "cka"}, "no metric 'cka'. Choose one of mexa, ranker"),
        ({"pool": "first"}, "no pool 'first'. Choose one of weighted, mean, last"),
        ({"layers": "min"}, "no layers 'min'. Choose one of mean, max"),
        ({"metric": "ranker", "layers": "max"}, "ranker is a mean over layers"),
        ({"window": 20}, r"'s1' of swh_Latn has 25 tokens, and the window 20.*--window 25"),
    ],
)
def test_options_that_cannot_be_met_are_refused(tokenizer, options, said):
    with pytest.raises(BadSetting, match=said):
        measure(random_model(), tokenizer, documents(), **{"window": WINDOW, **options})


def test_one_sentence_has_nothing_to_be_told_from(tokenizer):
    with pytest.raises(BadCorpus, match="swh_Latn has one sentence"):
        measure(random_model(), tokenizer, documents(PAIRS[:1], (1,)), window=WINDOW)


def test_a_hidden_state_that_is_no_number_is_an_error_that_names_the_sentence(tokenizer):
    model = random_model()
    token = tokenizer("j", add_special_tokens=False)["input_ids"][0]
    model.get_input_embeddings().weight.data[token] = math.nan

    with pytest.raises(NotFinite, match="'s3' in swh_Latn is NaN"):
        measure(model, tokenizer, documents(), window=WINDOW)


def test_what_it_declares():
    assert evals.facts("alignment") == ("mexa", "alignment with English", False, False)
    assert evals.options("alignment") == {"metric": "mexa", "pool": "", "layers": "mean"}
    assert evals.metric("alignment", {"metric": "ranker"}) == "ranker"
