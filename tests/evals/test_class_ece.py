"""Calibration of labels against equation 3 of Guo et al. in plain Python."""

import math

import labelling
import pico
import pytest

from babelpress.evals.class_ece import measure

BINS = 15


@pytest.mark.parametrize("family", labelling.OF_TEXTS)
def test_it_is_equation_3_over_texts(family):
    documents = labelling.topics(20)
    model = labelling.undecided(family, documents)
    gaps = [0.0] * BINS
    for _, sure, right in labelling.slow_classes(model, pico.tokenizer(), documents, 64):
        gaps[next(k for k in range(BINS) if sure <= (k + 1) / BINS)] += sure - right
    told = {}

    tally = measure(
        model,
        pico.tokenizer(),
        {"swh_Latn": documents},
        window=64,
        detail=lambda tag, parts: told.update({tag: parts}),
    )["swh_Latn"]

    assert tally.value == pytest.approx(sum(map(abs, gaps)) / 20, rel=1e-6)
    assert list(told["swh_Latn"].values()) == pytest.approx([gap / 20 for gap in gaps], abs=1e-6)
    assert math.isclose(sum(map(abs, told["swh_Latn"].values())), tally.value)
