"""Names in sentences: entities by seqeval's rules, F1 against a plain loop over words."""

import random
import re

import labelling
import pico
import pytest
import torch
from running import refusal

from babelpress.errors import BadCorpus, BadModel, NotFinite
from babelpress.evals._labels import logits
from babelpress.evals.ner import entities, measure, texts
from babelpress.judge.evaluate import evaluate
from babelpress.judge.settings import EvaluationSettings
from babelpress.system.progress import silent
from babelpress.text.labelled import Labelled
from babelpress.text.pieces import pieces_of

TYPES = ("PER", "LOC", "ORG")


def slow_entities(labels):
    """By a scan of the labels as one word each: B- begins, I- of the same type goes on."""
    found, place = set(), 0
    while place < len(labels):
        if labels[place] == "O":
            place += 1
            continue
        kind, end = labels[place][2:], place + 1
        while end < len(labels) and labels[end] == f"I-{kind}":
            end += 1
        found.add((kind, place, end))
        place = end
    return found


def drawn(seed, number=40):
    dice = random.Random(seed)
    some = ["O", "O", *(f"{begin}-{kind}" for kind in TYPES for begin in "BI")]
    return [[dice.choice(some) for _ in range(dice.randint(1, 9))] for _ in range(number)]


@pytest.mark.parametrize("seed", range(5))
def test_entities_are_those_of_a_scan_by_hand(seed):
    for labels in drawn(seed):
        assert entities(labels) == slow_entities(labels)


def test_what_begins_with_i_begins_an_entity_too():
    assert entities(["I-PER", "I-LOC", "B-LOC", "I-LOC", "O"]) == {
        ("PER", 0, 1),
        ("LOC", 1, 2),
        ("LOC", 2, 4),
    }


def test_entities_and_f1_are_those_of_seqeval():
    reason = "seqeval is not installed"
    found = pytest.importorskip("seqeval.metrics.sequence_labeling", reason=reason)
    for seed in range(20):
        right, said = drawn(seed), drawn(seed + 100)
        said = [(each * 9)[: len(r)] for each, r in zip(said, right, strict=True)]
        for labels in right:
            theirs = {(kind, a, b + 1) for kind, a, b in found.get_entities(labels)}
            assert entities(labels) == theirs
        mine, there = ([entities(each) for each in part] for part in (said, right))
        hits = sum(len(a & b) for a, b in zip(mine, there, strict=True))
        f1 = 2 * hits / sum(len(a) + len(b) for a, b in zip(mine, there, strict=True))
        assert found.f1_score(right, said) == pytest.approx(f1)


@torch.no_grad()
def slow_labels(model, tokenizer, document, window):
    """One piece at a time, the words that fit, each by the logits at its first token."""
    words = [word if n == 0 else f" {word}" for n, word in enumerate(document.words)]
    tokens = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    assert sum(map(len, tokens)) <= window - 2
    ids = [0, *(token for each in tokens for token in each), 1]
    logits_TC = model(torch.tensor([ids])).logits[0]
    place, labels = 1, []
    for each in tokens:
        labels.append(labelling.NAMES[int(logits_TC[place].argmax())])
        place += len(each)
    return labels


@pytest.mark.parametrize("family", labelling.OF_WORDS)
def test_f1_is_that_of_a_loop_over_sentences(family):
    model, tokenizer = labelling.head(labelling.OF_WORDS, family, labelling.NAMES), pico.tokenizer()
    documents = labelling.sentences(12)
    parts = {}

    tally = measure(
        model,
        tokenizer,
        {"swh_Latn": documents},
        window=128,
        detail=lambda _, each: parts.update(each),
    )["swh_Latn"]

    mine = [slow_entities(slow_labels(model, tokenizer, each, 128)) for each in documents]
    there = [slow_entities(each.labels) for each in documents]
    both = [len(a & b) for a, b in zip(mine, there, strict=True)]
    assert tally.numerator_D.tolist() == [2.0 * each for each in both]
    assert tally.denominator_D.tolist() == [
        float(len(a) + len(b)) for a, b in zip(mine, there, strict=True)
    ]
    assert sum(map(len, mine)) > 12
    for kind in {kind for each in (*mine, *there) for kind, _, _ in each}:
        own = [[e for e in each if e[0] == kind] for each in mine]
        right = [[e for e in each if e[0] == kind] for each in there]
        hits = sum(len({*a} & {*b}) for a, b in zip(own, right, strict=True))
        total = sum(len(a) + len(b) for a, b in zip(own, right, strict=True))
        assert parts[kind] == pytest.approx(2 * hits / total)


def test_a_sentence_longer_than_a_window_is_split_and_none_of_its_words_is_lost():
    model, tokenizer = labelling.head(labelling.OF_WORDS, "bert", labelling.NAMES), pico.tokenizer()
    words = tuple("neno" for _ in range(40))
    labels = tuple("B-PER" if n % 3 == 0 else "O" for n in range(40))
    long = Labelled("ner/swh_Latn/long", words, labels)
    with torch.no_grad():  # whatever is read: always B-PER
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]))

    tally = measure(model, tokenizer, {"swh_Latn": [long]}, window=32)["swh_Latn"]

    assert tally.numerator_D.tolist() == [2.0 * 14]
    assert tally.denominator_D.tolist() == [40.0 + 14]


@torch.no_grad()
def test_the_words_of_a_split_sentence_are_in_their_order():
    model, tokenizer = labelling.head(labelling.OF_WORDS, "bert", labelling.NAMES), pico.tokenizer()
    words = ("moja", "mbili", "tatu", "nne", "tano", "sita", "saba", "nane", "tisa", "kumi")
    documents = [Labelled(str(at), words[at:] + words[:at], ("O",) * 10) for at in (0, 3)]

    found = logits(
        model, tokenizer, "swh_Latn", documents, window=20, by_word=True, what="x", progress=silent
    )

    for document, rows_WC in zip(documents, found, strict=True):
        pieces = pieces_of(tokenizer, [document], 20, by_word=True)
        assert len(pieces) > 2
        ids = [torch.tensor([each.ids_T.tolist()]) for each in pieces]
        alone = [
            model(each).logits[0, list(piece.places_W)]
            for each, piece in zip(ids, pieces, strict=True)
        ]
        assert torch.from_numpy(rows_WC) == pytest.approx(torch.cat(alone).double(), abs=1e-4)


def test_some_types_can_be_counted_alone():
    model, tokenizer = labelling.head(labelling.OF_WORDS, "bert", labelling.NAMES), pico.tokenizer()
    documents = labelling.sentences(6)
    other = [Labelled(each.id, each.words, ("B-DATE", *each.labels[1:])) for each in documents]

    of_all = measure(model, tokenizer, {"swh_Latn": documents}, window=128)["swh_Latn"]
    places = measure(model, tokenizer, {"swh_Latn": documents}, window=128, types="LOC")["swh_Latn"]
    persons = measure(model, tokenizer, {"swh_Latn": documents}, window=128, types="PER")[
        "swh_Latn"
    ]
    without = measure(model, tokenizer, {"swh_Latn": other}, window=128, types="LOC")["swh_Latn"]

    assert (places.denominator_D + persons.denominator_D == of_all.denominator_D).all()
    assert (without.denominator_D == places.denominator_D).all()


def test_what_cannot_be_scored_is_one_line():
    model, tokenizer = labelling.head(labelling.OF_WORDS, "bert", labelling.NAMES), pico.tokenizer()
    documents = labelling.sentences(3)

    def fault(kind, some, made=model, **options):
        return refusal(kind, measure, made, tokenizer, {"swh_Latn": some}, window=64, **options)

    dates = [Labelled("ner/swh_Latn/x", ("leo", "Amina"), ("B-DATE", "B-PER"))]
    assert fault(BadModel, dates).startswith(
        "ner/swh_Latn/x has the label 'B-DATE', and the head of the model has O, B-PER, I-PER"
    )
    nothing = [Labelled("x", ("leo",), ("O",))]
    assert "swh_Latn has no entity to find" in fault(BadCorpus, nothing)
    assert "no entity of the types ORG to find" in fault(BadCorpus, documents, types="ORG")
    assert re.match(
        r"BertModel has no head that labels words \(…ForTokenClassification\)\. Put one on it: "
        r"babelpress finetune MODEL --task ner",
        fault(BadModel, documents, labelling.bare()),
    )
    broken = labelling.head(labelling.OF_WORDS, "bert", labelling.NAMES)
    with torch.no_grad():
        broken.classifier.bias[1] = float("nan")
    assert "a logit of 'ner/swh_Latn/train-" in fault(NotFinite, documents, broken)


def test_a_folder_is_scored_and_kept_by_sentence(tmp_path):
    place = labelling.write_sentences(tmp_path / "names", {"swa": {"test": 7}, "en": {"test": 5}})
    made = labelling.opened(labelling.head(labelling.OF_WORDS, "bert", labelling.NAMES))
    asked = EvaluationSettings(on=("ner",), corpus=place, languages=("sw",))

    (row,) = evaluate(made, tmp_path / "out", asked)

    assert (row["language"], row["metric"], row["documents"]) == ("swh_Latn", "f1", 7)
    assert row["value"] == pytest.approx(row["numerator"] / row["denominator"])
    assert texts(place).languages() == ["eng_Latn", "swh_Latn"]
