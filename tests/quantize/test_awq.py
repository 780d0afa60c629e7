"""AWQ's scales against plain loops over inputs, weights and tokens."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from babelpress.errors import BadLayer, BadMoments, BadSetting, NotFinite
from babelpress.numerics.grids import Grid
from babelpress.quantize import awq, rtn
from babelpress.quantize.awq import quantize, scale_inputs

GRIDS = [
    Grid(4, 8),
    Grid(3, "channel", symmetric=False),
    Grid(2, 6),
    Grid(3, 12, clip="mse"),
    Grid(2, 4, symmetric=False),
]


def slow_scale(mean_abs, alpha):
    raw = [mean**alpha for mean in mean_abs]
    middle = (max(raw) * min(raw)) ** 0.5
    return [each / middle for each in raw]


def slow_lost(weight_OI, scale, grid):
    """W − Q(W·s)/s, every group of a row on its own."""
    rows, columns = weight_OI.shape
    width = grid.width(columns, "here")
    lost = np.zeros((rows, columns))
    for row in range(rows):
        for start in range(0, columns, width):
            group = range(start, start + width)
            scaled = [float(np.float32(weight_OI[row, i]) * np.float32(scale[i])) for i in group]
            step, zero = (float(each) for each in grid.fit(torch.tensor([scaled])))
            for i, value in zip(group, scaled, strict=True):
                code = min(max(round(value / step) + zero, 0), 2**grid.bits - 1)
                lost[row, i] = float(weight_OI[row, i]) - (code - zero) * step / scale[i]
    return lost


def slow_error(lost, inputs, shares):
    """The mean square of what every token's outputs lose, each language by its share."""
    total = 0.0
    for language, x_TI in inputs.items():
        squares = sum(float(((lost @ x.numpy()) ** 2).sum()) for x in x_TI.double())
        total += shares[language] * squares / len(x_TI)
    return total


def slow_errors(weight_OI, inputs, shares, grid, steps):
    """Every candidate and its error."""
    means = [shares[tag] * x_TI.double().abs().mean(0) for tag, x_TI in inputs.items()]
    mean_abs = torch.stack(means).sum(0).tolist()
    scales = [slow_scale(mean_abs, step / steps) for step in range(steps)]
    lost = [slow_lost(weight_OI.numpy(), scale, grid) for scale in scales]
    return scales, [slow_error(each, inputs, shares) for each in lost]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("steps", [20, 7])
def test_matches_slow_loops_over_the_same_candidates(weight_OI, stats, inputs, shares, grid, steps):
    scales, errors = slow_errors(weight_OI, inputs, shares, grid, steps)

    scale_I = scale_inputs(weight_OI, stats, grid, steps=steps)

    assert scale_I.dtype == torch.float32
    best = int(np.argmin(errors))
    np.testing.assert_allclose(scale_I.numpy(), scales[best], rtol=1e-5)


def test_the_candidates_are_not_all_won_by_the_plain_grid(weight_OI, stats):
    assert any((scale_inputs(weight_OI, stats, grid) != 1).any() for grid in GRIDS)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_output_never_changes_more_than_on_the_plain_grid(saw, correlated, bits):
    gains = []
    for seed in range(8):
        inputs, shares = {"swh_Latn": correlated(90, 24, seed)}, {"swh_Latn": 1.0}
        weight_OI = torch.randn(7, 24, generator=torch.Generator().manual_seed(seed))
        grid = Grid(bits, 8)
        scale_I = scale_inputs(weight_OI, saw(inputs, shares), grid)
        plain, scaled = (
            slow_error(slow_lost(weight_OI.numpy(), s, grid), inputs, shares)
            for s in ([1.0] * 24, scale_I.tolist())
        )
        assert scaled <= plain * (1 + 1e-6)
        gains.append(scaled / plain)
    assert np.mean(gains) < 0.95


def test_small_weights_of_an_input_far_larger_than_the_others_are_protected(saw):
    generator = torch.Generator().manual_seed(5)
    x_TI = torch.randn(400, 16, generator=generator)
    x_TI[:, 5] *= 64
    weight_OI = torch.rand(40, 16, generator=generator) * 2 - 1
    weight_OI[:, 0] = 1  # the largest of its row: it sets the step
    weight_OI[:, 5] *= 0.06
    inputs, shares, grid = {"swh_Latn": x_TI}, {"swh_Latn": 1.0}, Grid(3, "channel")

    scale_I = scale_inputs(weight_OI, saw(inputs, shares), grid)

    others_I = scale_I[torch.arange(16) != 5]
    alpha = float((scale_I[5] / others_I.mean()).log()) / np.log(64)
    # 64^0.68 = 1/0.06: up to there the step stays, from there on it grows for all others
    assert 0.55 < alpha < 0.85
    before, after = (
        slow_error(slow_lost(weight_OI.numpy(), s, grid), inputs, shares)
        for s in ([1.0] * 16, scale_I.tolist())
    )
    assert after < before / 10


def test_the_mixture_decides_whose_large_inputs_are_protected(saw):
    generator = torch.Generator().manual_seed(6)
    inputs = {tag: torch.randn(200, 16, generator=generator) for tag in ("amh_Ethi", "eng_Latn")}
    inputs["amh_Ethi"][:, 3] *= 40
    inputs["eng_Latn"][:, 11] *= 40
    weight_OI = torch.randn(20, 16, generator=generator)

    amharic_I, english_I = (
        scale_inputs(weight_OI, saw(inputs, shares), Grid(3, "channel"))
        for shares in (
            {"amh_Ethi": 1.0, "eng_Latn": 0.0},
            {"amh_Ethi": 0.0, "eng_Latn": 1.0},
        )
    )

    assert amharic_I.argmax() == 3
    assert english_I.argmax() == 11


def test_the_product_of_largest_and_smallest_scale_is_one(weight_OI, stats):
    scale_I = scale_inputs(weight_OI, stats, Grid(3, "channel"))

    assert scale_I.max() > 1.1
    assert float(scale_I.max() * scale_I.min()) == pytest.approx(1)


def test_inputs_never_seen_alive_keep_a_scale_of_one(saw, inputs, shares, weight_OI):
    for x_TI in inputs.values():
        x_TI[:, [2, 7]] = 0

    scale_I = scale_inputs(weight_OI, saw(inputs, shares), Grid(3, "channel"))

    assert scale_I[[2, 7]].tolist() == [1, 1]
    assert scale_I.max() > 1.1
    live_I = scale_I[[i for i in range(24) if i not in (2, 7)]]
    assert float(live_I.max() * live_I.min()) == pytest.approx(1)


def test_nothing_seen_alive_leaves_all_scales_at_one(saw, weight_OI):
    stats = saw({"swh_Latn": torch.zeros(9, 24)}, {"swh_Latn": 1.0})

    assert (scale_inputs(weight_OI, stats, Grid(4, 8)) == 1).all()


def test_an_input_of_almost_nothing_does_not_make_the_scales_explode(weight_OI, stats):
    faint_I = stats.mean_abs_I.clone()
    faint_I[4] = 1e-300

    scale_I = scale_inputs(weight_OI, replace(stats, mean_abs_I=faint_I), Grid(3, "channel"))

    assert scale_I.isfinite().all()
    assert (scale_I > 0).all()
    assert scale_I.max() / scale_I.min() <= 1.01 / awq.FAINTEST


def test_inputs_of_equal_mean_size_get_equal_scales(weight_OI, stats):
    means_I = stats.mean_abs_I.clone()
    means_I[8:16] = means_I[:8]

    scale_I = scale_inputs(weight_OI, replace(stats, mean_abs_I=means_I), Grid(3, "channel"))

    assert scale_I.max() > 1.1
    assert torch.equal(scale_I[8:16], scale_I[:8])


def test_of_equally_good_scales_the_mildest_is_taken(stats):
    assert (scale_inputs(torch.zeros(5, 24), stats, Grid(4, 8)) == 1).all()


def test_one_step_is_the_plain_grid(weight_OI, stats):
    assert (scale_inputs(weight_OI, stats, Grid(2, "channel"), steps=1) == 1).all()


def test_rows_are_judged_together_however_many_fit_at_once(weight_OI, stats, monkeypatch):
    grid = Grid(2, 6)
    expected_I = scale_inputs(weight_OI, stats, grid)
    alone = [scale_inputs(row_OI, stats, grid) for row_OI in weight_OI.split(3)]
    monkeypatch.setattr(awq, "ROWS", 3)

    assert torch.equal(scale_inputs(weight_OI, stats, grid), expected_I)
    assert not torch.equal(alone[-1], expected_I)


def test_scaling_is_pure_and_takes_bfloat16(weight_OI, stats):
    half_OI = weight_OI.bfloat16()
    before_OI, gram_II, means_I = half_OI.clone(), stats.gram_II.clone(), stats.mean_abs_I.clone()

    scale_I = scale_inputs(half_OI, stats, Grid(3, "channel"))

    assert torch.equal(scale_I, scale_inputs(half_OI.float(), stats, Grid(3, "channel")))
    assert torch.equal(half_OI, before_OI)
    assert torch.equal(stats.gram_II, gram_II)
    assert torch.equal(stats.mean_abs_I, means_I)


def test_quantize_rounds_to_nearest_on_the_grid(weight_OI, stats, keep_OI):
    grid = Grid(3, 8, symmetric=False)

    codes, nearest = (each(weight_OI, stats, grid, keep_OI) for each in (quantize, rtn.quantize))

    assert torch.equal(codes.codes_OI, nearest.codes_OI)
    assert torch.equal(codes.scale_OG, nearest.scale_OG)
    assert torch.equal(codes.zero_OG, nearest.zero_OG)


def test_what_cannot_be_scaled_is_told(weight_OI, stats):
    broken_OI = weight_OI.clone()
    broken_OI[3, 4] = float("nan")

    with pytest.raises(BadSetting, match="awq's steps must be at least 1, not 0"):
        scale_inputs(weight_OI, stats, Grid(4, 8), steps=0)
    with pytest.raises(BadLayer, match=r"a group of 7 does not divide the 24 inputs of blocks\.0"):
        scale_inputs(weight_OI, stats, Grid(4, 7))
    with pytest.raises(BadMoments, match="hold no Gram matrix"):
        scale_inputs(weight_OI, replace(stats, gram_II=None), Grid(4, 8))
    with pytest.raises(NotFinite, match=r"a weight of blocks\.0\.mlp\.up is NaN"):
        scale_inputs(broken_OI, stats, Grid(4, 8))
