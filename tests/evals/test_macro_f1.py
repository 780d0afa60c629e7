"""Macro F1 against a loop over labels, and what a text is said to add to it against dropping it."""

import labelling
import numpy as np
import pico
import pytest

from babelpress.evals._classes import Classified
from babelpress.evals.macro_f1 import baselines, measure


def slow_macro_f1(pairs):
    """From (right, found) pairs, label by label."""
    scores = []
    for label in sorted({each for pair in pairs for each in pair}):
        hit = sum(r == f == label for r, f in pairs)
        said = sum((r == label) + (f == label) for r, f in pairs)
        scores.append(2 * hit / said)
    return sum(scores) / len(scores)


def scored(model, documents, **options):
    given = {"swh_Latn": documents}
    return measure(model, pico.tokenizer(), given, window=64, **options)["swh_Latn"]


@pytest.mark.parametrize("family", labelling.OF_TEXTS)
def test_it_is_what_a_loop_over_texts_and_labels_finds(family):
    documents = labelling.topics(20)
    model = labelling.undecided(family, documents)
    expected = labelling.slow_classes(model, pico.tokenizer(), documents, 64)
    pairs = [(d.labels[0], label) for d, (label, _, _) in zip(documents, expected, strict=True)]
    assert len({found for _, found in pairs}) > 1

    tally = scored(model, documents)

    assert tally.value == pytest.approx(slow_macro_f1(pairs))
    assert tally.denominator_D.tolist() == [1.0] * 20


def test_macro_f1_of_a_draw_is_what_its_first_order_form_says():
    """By dropping each text once: the jackknife agrees with what a text is said to add."""
    dice = np.random.default_rng(3)
    right, found = dice.integers(0, 3, (2, 400))
    found = np.where(dice.random(400) < 0.6, right, found)
    said = Classified(labelling.TOPICS, right, found, np.ones(400))
    pairs = list(zip(right.tolist(), found.tolist(), strict=True))
    whole = slow_macro_f1(pairs)

    influence_D = said.influence_D()

    assert influence_D.mean() == pytest.approx(whole)
    for place in range(0, 400, 37):
        without = slow_macro_f1(pairs[:place] + pairs[place + 1 :])
        assert whole + 399 * (whole - without) == pytest.approx(influence_D[place], abs=0.02)


def test_the_f1_of_every_label_is_told():
    told = {}
    model = labelling.head(labelling.OF_TEXTS, "bert", labelling.TOPICS)
    documents = labelling.topics(20)

    scored(model, documents, detail=lambda tag, parts: told.update({tag: parts}))

    value = sum(told["swh_Latn"].values()) / len(told["swh_Latn"])
    assert value == pytest.approx(scored(model, documents).value)


def test_it_is_held_against_the_label_that_is_there_most_often():
    documents = labelling.topics(5)  # of three labels 2, 2 and 1
    always = [(each.labels[0], "travel") for each in documents]

    assert baselines(documents) == pytest.approx({"majority": slow_macro_f1(always)})
