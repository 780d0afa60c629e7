"""RIA against its formula, written as plain loops."""

import pytest
import torch

from babelpress.errors import BadSetting
from babelpress.numerics.patterns import PerLayer, PerRow
from babelpress.prune.ria import prune


def slow_ria(weight, norm, power):
    """(|W_ij| / Σ_i |W_ij| + |W_ij| / Σ_j |W_ij|) · ‖X_j‖^power in Python floats."""
    in_row = [sum(map(abs, row)) for row in weight]
    in_column = [sum(map(abs, column)) for column in zip(*weight, strict=True)]
    return [
        [(abs(w) / in_column[j] + abs(w) / in_row[i]) * norm[j] ** power for j, w in enumerate(row)]
        for i, row in enumerate(weight)
    ]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.3])
@pytest.mark.parametrize("pattern", [PerRow(0.29), PerLayer(0.7)])
def test_matches_the_definition_with_the_norm_of_the_paper(weight_OI, saw, inputs, pattern, power):
    x_TI = inputs["swh_Latn"]
    norm = [sum(x * x for x in column) ** 0.5 for column in x_TI.T.tolist()]
    score_OI = torch.tensor(slow_ria(weight_OI.tolist(), norm, power), dtype=torch.float64)

    expected = weight_OI.masked_fill(~pattern.keep(score_OI), 0)

    stats = saw({"swh_Latn": x_TI}, {"swh_Latn": 1.0})
    assert torch.equal(expected, prune(weight_OI, stats, pattern, power=power))


def test_the_languages_are_blended_by_their_shares(weight_OI, inputs, shares, stats):
    means = [share * inputs[tag].double().square().mean(0) for tag, share in shares.items()]
    rms = torch.stack(means).sum(0).sqrt().tolist()
    score_OI = torch.tensor(slow_ria(weight_OI.tolist(), rms, 0.5), dtype=torch.float64)

    expected = weight_OI.masked_fill(~PerRow(0.29).keep(score_OI), 0)

    assert torch.equal(expected, prune(weight_OI, stats, PerRow(0.29)))


def test_rows_and_columns_of_zeros_have_no_share(weight_OI, stats):
    weight_OI[2], weight_OI[:, 4] = 0, 0

    pruned_OI = prune(weight_OI, stats, PerRow(0.25))

    assert pruned_OI.isfinite().all()
    assert (pruned_OI[[0, 1, 3, 4, 5, 6]] == 0).sum(1).eq(6).all()


@pytest.mark.parametrize("power", [-0.5, float("nan"), float("inf")])
def test_a_power_out_of_range_is_refused(weight_OI, stats, power):
    with pytest.raises(BadSetting, match="power must be zero or more"):
        prune(weight_OI, stats, PerRow(0.25), power=power)
