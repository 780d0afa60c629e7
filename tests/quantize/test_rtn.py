"""Rounding against exhaustive search, a weight at a time."""

import pytest
import torch

from babelpress.numerics.grids import Grid
from babelpress.quantize.rtn import quantize


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group", [8, "channel"])
@pytest.mark.parametrize("clip", ["none", "mse"])
def test_every_weight_goes_to_the_nearest_point_of_the_grid_of_its_group(
    weight_OI, stats, keep_OI, bits, symmetric, group, clip
):
    grid = Grid(bits, group, symmetric, clip)
    kept_OI = weight_OI * keep_OI

    codes = quantize(weight_OI, stats, grid, keep_OI)

    width = grid.width(24, "")
    for start in range(0, 24, width):
        scale_O, zero_O = grid.fit(kept_OI[:, start : start + width])
        assert torch.equal(codes.scale_OG[:, start // width], scale_O)
        assert torch.equal(codes.zero_OG[:, start // width].float(), zero_O)
    kept, new = kept_OI.tolist(), codes.dequantize().tolist()
    scales, zeros = codes.scale_OG.tolist(), codes.zero_OG.tolist()
    for o in range(7):
        for i in range(24):
            scale, zero = scales[o][i // width], zeros[o][i // width]
            points = [(code - zero) * scale for code in range(2**bits)]
            near = min(abs(kept[o][i] - point) for point in points)
            assert abs(kept[o][i] - new[o][i]) == pytest.approx(near, rel=1e-5, abs=1e-7)


def test_pruned_weights_do_not_widen_the_grid(weight_OI, stats, keep_OI):
    codes = quantize(weight_OI, stats, Grid(4, 8), keep_OI)

    huge_OI = weight_OI.masked_fill(~keep_OI, 1000)
    assert torch.equal(quantize(huge_OI, stats, Grid(4, 8), keep_OI).scale_OG, codes.scale_OG)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_that_lie_on_an_asymmetric_grid_and_span_it_stay_as_they_are(stats, bits):
    """A group of whole steps from the lowest code to the highest has that very grid."""
    generator = torch.Generator().manual_seed(3)
    steps_OGB = torch.randint(0, 2**bits, (7, 3, 8), generator=generator)
    steps_OGB[..., 0], steps_OGB[..., 1] = 0, 2**bits - 1
    zero_OG1 = torch.randint(0, 2**bits, (7, 3, 1), generator=generator)
    scale_OG1 = 0.0078125 * (1 + torch.randint(0, 128, (7, 3, 1), generator=generator) / 128)
    weight_OI = ((steps_OGB - zero_OG1) * scale_OG1).flatten(1)
    keep_OI = torch.ones(7, 24, dtype=torch.bool)

    codes = quantize(weight_OI, stats, Grid(bits, 8, symmetric=False), keep_OI)

    assert torch.equal(weight_OI, codes.dequantize())
    assert torch.equal(steps_OGB.flatten(1), codes.codes_OI.long())


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_clipping_finds_a_symmetric_grid_that_weights_lie_on(stats, bits):
    """Its lowest code is half a step beyond the range that is covered without clipping."""
    generator = torch.Generator().manual_seed(4)
    half = 2 ** (bits - 1)
    steps_OGB = torch.randint(-half, half, (7, 3, 8), generator=generator)
    steps_OGB[..., 0] = -half
    weight_OI = (steps_OGB * 0.0078125).flatten(1)
    keep_OI = torch.ones(7, 24, dtype=torch.bool)

    plain, clipped = (
        quantize(weight_OI, stats, Grid(bits, 8, clip=clip), keep_OI) for clip in ("none", "mse")
    )

    assert torch.equal(weight_OI, clipped.dequantize())
    assert not torch.equal(weight_OI, plain.dequantize())
