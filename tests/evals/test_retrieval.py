"""Retrieval against a loop over sentences, one sentence a pass."""

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pico
import pytest
import torch

from babelpress import evals
from babelpress.errors import BadCorpus, BadSetting, NotFinite
from babelpress.evals import _sentences, retrieval
from babelpress.evals._parallel import Pair, PairedDocument
from babelpress.evals.retrieval import measure
from babelpress.judge.evaluate import wanted_of
from babelpress.judge.settings import EvaluationSettings

PAIRS = [
    ("habari ya asubuhi", "good morning"),
    ("mtoto anasoma", "the child reads a book"),
    ("maji", "water"),
    ("nyumba kubwa sana", "a very large house"),
    ("leo ni siku njema", "today is a good day"),
]
SIZES = [2, 1, 2]


def documents(pairs=PAIRS, sizes=SIZES):
    given = iter([Pair(f"s{at}", text, english) for at, (text, english) in enumerate(pairs)])
    some = [
        PairedDocument(f"d{at}", tuple(next(given) for _ in range(size)))
        for at, size in enumerate(sizes)
    ]
    return {"swh_Latn": some}


@pytest.fixture(scope="module")
def tokenizer():
    return pico.tokenizer()


def loud(family) -> Any:
    model: Any = pico.model(family)
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def slow_vector(model, tokenizer, text, pool):
    """One sentence by itself, as a list of plain numbers."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    given = torch.tensor([[tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]])
    with torch.no_grad():
        rows = model.base_model(given)[0][0].double().tolist()
    return (
        rows[0] if pool == "first" else [sum(each) / len(rows) for each in zip(*rows, strict=True)]
    )


def slow_hits(model, tokenizer, pairs, pool, prefix):
    def cosine(one, other):
        product = sum(a * b for a, b in zip(one, other, strict=True))
        return product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))

    mine = [slow_vector(model, tokenizer, prefix + text, pool) for text, _ in pairs]
    theirs = [slow_vector(model, tokenizer, prefix + english, pool) for _, english in pairs]
    every = range(len(pairs))
    hits = []
    for i in every:
        finds = max(every, key=lambda j, i=i: cosine(mine[i], theirs[j])) == i
        found = max(every, key=lambda j, i=i: cosine(mine[j], theirs[i])) == i
        hits.append((finds + found) / 2)
    return hits


WAYS = [("mean", ""), ("first", ""), ("mean", "query: ")]
# The first token of a decoder sees nothing, so there all sentences would be one vector.
CASES = [(family, *way) for family in pico.ENCODERS for way in WAYS] + [("llama", *WAYS[0])]


@pytest.mark.parametrize(("family", "pool", "prefix"), CASES)
def test_hits_are_those_of_a_loop_over_sentences(family, pool, prefix, tokenizer):
    model = loud(family)
    found = measure(model, tokenizer, documents(), window=64, pool=pool, prefix=prefix)["swh_Latn"]

    hits = slow_hits(model, tokenizer, PAIRS, pool, prefix)
    ends = np.cumsum([0, *SIZES])
    assert found.numerator_D.tolist() == [sum(hits[a:b]) for a, b in pairwise(ends)]
    assert found.denominator_D.tolist() == SIZES
    assert found.documents == ("d0", "d1", "d2")


def test_a_sentence_finds_itself(tokenizer):
    same = [(text, text) for text, _ in PAIRS]

    assert measure(loud("bert"), tokenizer, documents(same), window=64)["swh_Latn"].value == 1.0


def test_half_a_hit_is_one_direction(tokenizer, monkeypatch):
    """The first sentence is nearest to the second's translation, which finds its own."""
    vectors = iter([np.array([[1.0, 0.0], [1.0, 0.1]]), np.array([[0.0, 1.0], [1.0, 0.1]])])
    monkeypatch.setattr(retrieval, "vectors", lambda *_, **__: next(vectors))

    found = measure(loud("bert"), tokenizer, documents(PAIRS[:2], [1, 1]), window=64)["swh_Latn"]

    assert found.numerator_D.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("tokens", [1, 40, 4096])
def test_how_sentences_are_batched_changes_no_score(tokenizer, monkeypatch, tokens):
    model = loud("bert")
    expected = measure(model, tokenizer, documents(), window=64)["swh_Latn"]
    monkeypatch.setattr(_sentences, "BATCH_TOKENS", tokens)

    found = measure(model, tokenizer, documents(), window=64)["swh_Latn"]

    assert found.numerator_D.tolist() == expected.numerator_D.tolist()


def test_what_cannot_be_scored_is_told_in_one_line(tokenizer):
    model = loud("bert")
    with pytest.raises(BadSetting, match=r"no pool 'last'\. Choose one of mean, first"):
        measure(model, tokenizer, documents(), window=64, pool="last")
    with pytest.raises(BadSetting, match=r"'s0' of swh_Latn has 19 tokens, and the window 18"):
        measure(model, tokenizer, documents(), window=18)
    with pytest.raises(BadCorpus, match="has one sentence with an English counterpart"):
        measure(model, tokenizer, documents(PAIRS[:1], [1]), window=64)


def test_a_vector_that_is_no_number_names_the_sentence(tokenizer):
    model = loud("bert")
    model.get_input_embeddings().weight.data[tokenizer("j")["input_ids"][0]] = math.nan

    with pytest.raises(NotFinite, match="'s4' in swh_Latn"):
        measure(model, tokenizer, documents(), window=64)


def test_what_it_declares():
    said = ("retrieval", "share of sentences that find their translation", False, False)
    assert evals.facts("retrieval") == said
    assert evals.options("retrieval") == {"pool": "mean", "prefix": ""}
    assert evals.compared_with("retrieval", {}) == "eng_Latn"
    with pytest.raises(BadSetting, match=r"no pool 'last'"):
        evals.check("retrieval", {"pool": "last"})


def test_english_among_languages_is_left_out_and_stops_nothing(tmp_path):
    for tag, words in {"eng_Latn": "a rain", "swh_Latn": "mvua"}.items():
        rows = [
            {"id": str(n), "src": "ours", "doc": "d", "split": "test", "text": f"{words} {n}"}
            for n in range(3)
        ]
        (tmp_path / f"{tag}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = EvaluationSettings(on=("retrieval",), corpus=str(tmp_path), languages=("en", "sw"))

    (wanted,) = wanted_of(asked)

    assert wanted.tags == ("swh_Latn",)
    assert asked.set_aside() == [
        "English is what retrieval compares with; it has no score of its own."
    ]


def test_english_is_read_once_where_it_is_the_same(tokenizer, monkeypatch):
    read: list[str] = []
    real = retrieval.vectors

    def counted(model, tokenizer, name, sentences, **how):
        read.append(name)
        return real(model, tokenizer, name, sentences, **how)

    monkeypatch.setattr(retrieval, "vectors", counted)
    own = documents()["swh_Latn"]
    other = documents([(text[::-1], english) for text, english in PAIRS])["swh_Latn"]
    third = documents([(text, english[::-1]) for text, english in PAIRS])["swh_Latn"]
    every = {"swh_Latn": own, "hau_Latn": other, "yor_Latn": third}

    together = measure(loud("bert"), tokenizer, every, window=64)

    beside = "English beside swh_Latn", "English beside yor_Latn"
    assert read == ["swh_Latn", beside[0], "hau_Latn", "yor_Latn", beside[1]]
    for tag, some in every.items():
        alone = measure(loud("bert"), tokenizer, {tag: some}, window=64)[tag]
        assert together[tag].numerator_D.tolist() == alone.numerator_D.tolist()
