"""Wanda against eq. 1 of the paper, written as plain loops."""

import math

import pytest
import torch

from babelpress.numerics.patterns import PerRow
from babelpress.prune.wanda import prune


def slow_wanda(weight, inputs, shares, drop):
    """The definition, one weight at a time, in Python floats."""
    rows, columns = len(weight), len(weight[0])
    rms = []
    for j in range(columns):
        means = {lang: sum(x[j] ** 2 for x in xs) / len(xs) for lang, xs in inputs.items()}
        rms.append(math.sqrt(sum(shares[lang] * mean for lang, mean in means.items())))
    pruned = [row[:] for row in weight]
    for i in range(rows):
        score = [abs(weight[i][j]) * rms[j] for j in range(columns)]
        for j in sorted(range(columns), key=score.__getitem__)[:drop]:
            pruned[i][j] = 0.0
    return pruned


@pytest.mark.parametrize(("fraction", "drop"), [(0.25, 6), (0.29, 6), (0.7, 16)])
def test_matches_the_definition(weight_OI, inputs, shares, stats, fraction, drop):
    lists = {language: x_TI.tolist() for language, x_TI in inputs.items()}

    expected = torch.tensor(slow_wanda(weight_OI.tolist(), lists, shares, drop))

    assert torch.equal(expected, prune(weight_OI, stats, PerRow(fraction)))


def test_the_norm_of_the_paper_gives_the_same_weights(weight_OI, saw, inputs):
    """One language: ‖X_j‖ over all tokens in place of the root mean square."""
    x_TI = inputs["swh_Latn"]
    score_OI = weight_OI.abs() * x_TI.norm(dim=0)

    expected = weight_OI.masked_fill(~PerRow(0.29).keep(score_OI), 0)

    stats = saw({"swh_Latn": x_TI}, {"swh_Latn": 1.0})
    assert torch.equal(expected, prune(weight_OI, stats, PerRow(0.29)))


def test_the_shares_decide_whose_inputs_matter(saw):
    inputs = {"swh_Latn": torch.tensor([[1.0, 0.0]]), "hin_Deva": torch.tensor([[0.0, 1.0]])}
    one_of_two = torch.ones(1, 2), PerRow(0.5)

    def kept(share):
        stats = saw(inputs, {"swh_Latn": share, "hin_Deva": 1 - share})
        return prune(one_of_two[0], stats, one_of_two[1]).tolist()

    assert kept(0.75) == [[1.0, 0.0]]
    assert kept(0.25) == [[0.0, 1.0]]


def test_many_tokens_of_one_language_do_not_outvote_another(saw):
    inputs = {
        "eng_Latn": torch.tensor([[1.0, 0.0]]).repeat(100, 1),
        "yor_Latn": torch.tensor([[0.0, 2.0]]),
    }

    pruned_OI = prune(
        torch.ones(1, 2), saw(inputs, {"eng_Latn": 0.6, "yor_Latn": 0.4}), PerRow(0.5)
    )

    assert pruned_OI.tolist() == [[0.0, 1.0]]


def test_inverted_it_drops_the_highest_and_what_was_zero_before(weight_OI, stats):
    """The control of Kim et al.: the weights that matter most go first."""
    score_OI = weight_OI.abs() * stats.rms_I()
    order = [sorted(range(24), key=row.__getitem__, reverse=True) for row in score_OI.tolist()]
    expected = weight_OI.clone()
    for row, columns in zip(expected, order, strict=True):
        row[columns[:6]] = 0

    found = prune(weight_OI, stats, PerRow(0.25), inverted=True)

    assert torch.equal(expected, found)
    again = prune(found, stats, PerRow(0.25), inverted=True)
    assert torch.equal(found, again)
    more = prune(found, stats, PerRow(0.5), inverted=True)
    assert torch.equal(more == 0, prune(weight_OI, stats, PerRow(0.5), inverted=True) == 0)
