"""Grids against plain numbers and exhaustive search; codes against loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from babelpress.errors import BadLayer, BadSetting
from babelpress.numerics import grids
from babelpress.numerics.grids import Codes, Grid

every_bits = pytest.mark.parametrize("bits", [2, 3, 4, 8])
every_symmetric = pytest.mark.parametrize("symmetric", [True, False])
every_clip = pytest.mark.parametrize("clip", ["none", "mse"])
groups_of_weights = st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=9)
every_grid = st.builds(
    Grid,
    bits=st.sampled_from([2, 3, 4, 8]),
    symmetric=st.booleans(),
    clip=st.sampled_from(["none", "mse"]),
)


def eight_bits(value):
    """The nearest number with eight significant bits, ties to even."""
    fraction, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(fraction, 8)), exponent - 8)


def slow_fit(low, high, bits, symmetric):
    """Scale and zero that cover a range, in the steps of the definition."""
    highest = 2**bits - 1
    span = 2 * max(-low, high) if symmetric else high - low
    if span == 0:
        scale = 1.0
    else:
        scale = eight_bits(max(float(np.float32(span) / np.float32(highest)), 2.0**-17))
    if symmetric:
        return scale, 2 ** (bits - 1)
    return scale, min(max(round(float(np.float32(-low) / np.float32(scale))), 0), highest)


def least_error(weight, scale, zero, highest):
    """Squared error, every weight at the best of all codes."""
    points = (np.arange(highest + 1) - zero) * scale
    return float(((np.subtract.outer(weight, points)) ** 2).min(1).sum())


def rows(*weights):
    return torch.tensor(weights, dtype=torch.float32)


@every_bits
@every_symmetric
def test_the_range_of_a_group_is_covered_as_defined(bits, symmetric):
    weight_OB = torch.randn(40, 9, generator=torch.Generator().manual_seed(bits)) + 0.3

    scale_O, zero_O = Grid(bits, symmetric=symmetric).fit(weight_OB)

    expected = [slow_fit(min(0, *row), max(0, *row), bits, symmetric) for row in weight_OB.tolist()]
    assert list(zip(scale_O.tolist(), zero_O.tolist(), strict=True)) == expected


@every_bits
@every_symmetric
def test_clipping_is_the_best_of_all_the_shrinks(bits, symmetric):
    weight_OB = torch.randn(250, 13, generator=torch.Generator().manual_seed(bits)) + 0.3
    weight_OB[:, 0] *= torch.linspace(1, 9, 250)

    scale_O, zero_O = Grid(bits, symmetric=symmetric, clip="mse").fit(weight_OB)

    for row, scale, zero in zip(weight_OB.tolist(), scale_O.tolist(), zero_O.tolist(), strict=True):
        low, high = np.float32(min(0, *row)), np.float32(max(0, *row))
        shrinks = [np.float32(1 - 0.6 * step / 48) for step in range(48)]
        tried = [slow_fit(low * kept, high * kept, bits, symmetric) for kept in shrinks]
        errors = [least_error(row, *each, 2**bits - 1) for each in tried]
        assert (scale, zero) in tried
        assert least_error(row, scale, zero, 2**bits - 1) == pytest.approx(min(errors), rel=1e-5)


def test_clipping_goes_as_far_as_two_fifths_of_the_range():
    """The last shrink puts the one point above zero nearest to all weights but an outlier."""
    scale, _ = slow_fit(0.0, 1 - 0.6 * 47 / 48, 2, symmetric=True)

    scale_O, _ = Grid(2, clip="mse").fit(rows([1.0] + [scale] * 400))

    assert scale_O.item() == scale


@settings(deadline=None)
@given(weight=groups_of_weights, grid=every_grid)
def test_clipping_never_adds_error(weight, grid):
    def error(clip):
        chosen = Grid(grid.bits, grid.group, grid.symmetric, clip)
        scale_O, zero_O = chosen.fit(rows(weight))
        return least_error(weight, scale_O.item(), int(zero_O.item()), grid.highest)

    assert error("mse") <= error("none") * (1 + 1e-5) + 1e-9


@settings(deadline=None)
@given(weight=groups_of_weights, grid=every_grid)
def test_scales_lose_nothing_in_half_precision_and_zeros_are_codes(weight, grid):
    scale_O, zero_O = grid.fit(rows(weight))

    assert (scale_O.dtype, zero_O.dtype) == (torch.float32, torch.float32)
    assert scale_O > 0
    assert torch.equal(scale_O.bfloat16().float(), scale_O)
    assert torch.equal(scale_O.half().float(), scale_O)
    assert zero_O.item() in range(grid.highest + 1)


@settings(deadline=None)
@given(weight=groups_of_weights, bits=st.sampled_from([2, 3, 4, 8]), symmetric=st.booleans())
def test_without_clipping_no_weight_is_further_off_than_half_a_step_and_rounding(
    weight, bits, symmetric
):
    grid = Grid(bits, symmetric=symmetric)
    scale_O, zero_O = grid.fit(rows(weight))

    codes_OB = grid.code(rows(weight), scale_O, zero_O)

    off_OB = ((codes_OB - zero_O) * scale_O - rows(weight)).abs()
    # a scale of eight bits is off by at most 1/256, and the ends by that times the codes
    assert (off_OB <= (0.5 + grid.highest / 256 + 1e-4) * scale_O).all()


@settings(deadline=None)
@given(weight=groups_of_weights, grid=every_grid)
def test_zero_is_a_point_of_every_grid(weight, grid):
    scale_O, zero_O = grid.fit(rows(weight))

    assert torch.equal(grid.code(torch.zeros(1), scale_O, zero_O), zero_O)


@settings(deadline=None)
@given(weight=groups_of_weights, grid=every_grid)
def test_a_code_is_the_nearest_of_all(weight, grid):
    scale_O, zero_O = grid.fit(rows(weight))
    scale, zero = scale_O.item(), int(zero_O.item())

    codes = grid.code(rows(weight), scale_O, zero_O)[0].tolist()

    best = least_error(weight, scale, zero, grid.highest)
    ours = sum(((q - zero) * scale - w) ** 2 for q, w in zip(codes, weight, strict=True))
    assert ours <= best * (1 + 1e-5) + 1e-12


@every_bits
@every_symmetric
@every_clip
def test_a_group_of_zeros_stays_zero(bits, symmetric, clip):
    grid = Grid(bits, symmetric=symmetric, clip=clip)

    scale_O, zero_O = grid.fit(torch.zeros(2, 5))

    assert scale_O.tolist() == [1, 1]
    assert zero_O.tolist() == [2 ** (bits - 1)] * 2 if symmetric else [0, 0]


@pytest.mark.parametrize("constant", [0.75, -0.75, 1e-3])
@every_bits
def test_a_row_of_one_number_is_stood_for_to_the_precision_of_its_scale(bits, constant):
    grid = Grid(bits, symmetric=False)
    weight_OB = torch.full((1, 6), constant)
    scale_O, zero_O = grid.fit(weight_OB)

    near_OB = (grid.code(weight_OB, scale_O, zero_O) - zero_O) * scale_O

    torch.testing.assert_close(near_OB, weight_OB, rtol=2 / 256, atol=0)


@every_bits
@every_symmetric
@every_clip
def test_one_huge_outlier_is_met_and_the_others_are_finite(bits, symmetric, clip):
    weight_OB = torch.tensor([[0.01, -0.02, 3e4, 0.005]])
    grid = Grid(bits, symmetric=symmetric, clip=clip)

    scale_O, zero_O = grid.fit(weight_OB)

    near_OB = (grid.code(weight_OB, scale_O, zero_O) - zero_O) * scale_O
    assert near_OB.isfinite().all()
    assert near_OB[0, 2] > 3e4 * 0.6
    assert (near_OB[0, [0, 1, 3]] == 0).all()


def test_weights_too_faint_for_a_scale_in_half_precision_become_zero():
    scale_O, zero_O = Grid(4).fit(rows([1e-7, -2e-7]))

    assert scale_O.tolist() == [2.0**-17]
    assert Grid(4).code(rows([1e-7, -2e-7]), scale_O, zero_O).tolist() == [[8, 8]]


@every_symmetric
@every_clip
def test_the_groups_of_a_linear_are_fitted_each_by_itself(monkeypatch, symmetric, clip):
    weight_OI = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    grid = Grid(3, 4, symmetric, clip)
    expected = [grid.fit(weight_OI[:, start : start + 4]) for start in (0, 4, 8)]
    monkeypatch.setattr(grids, "CACHED", 16)  # so that it works in more than one part

    scale_OG, zero_OG = grid.fit_groups(weight_OI, "q")

    assert torch.equal(torch.stack([scale_O for scale_O, _ in expected], 1), scale_OG)
    assert torch.equal(torch.stack([zero_O for _, zero_O in expected], 1), zero_OG)


def test_weights_in_half_precision_are_fitted_in_full():
    weight_OB = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).bfloat16()

    scale_O, _ = Grid(4, clip="mse").fit(weight_OB)

    assert torch.equal(Grid(4, clip="mse").fit(weight_OB.float())[0], scale_O)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 5}, r"bits is 5\. Choose one of 2, 3, 4, 8\."),
        ({"group": 0}, r"group is 0\. Give a number of inputs, or channel\."),
        ({"group": "row"}, r"group is row\. Give a number of inputs, or channel\."),
        ({"clip": "best"}, r"clip is 'best'\. Choose one of none, mse\."),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(BadSetting, match=message):
        Grid(**settings)


def test_a_group_that_does_not_divide_says_what_would_help():
    with pytest.raises(BadLayer) as error:
        Grid(4, 64).width(100, "blocks.3.mlp.down")

    assert str(error.value) == (
        "a group of 64 does not divide the 100 inputs of blocks.3.mlp.down. "
        "Give a group that does, or channel, or leave the site out with --skip."
    )


def test_the_width_of_a_group():
    assert Grid(4, 64).width(192, "q") == 64
    assert Grid(4, "channel").width(192, "q") == 192


@pytest.mark.parametrize(
    ("grid", "text"),
    [
        (Grid(), "4 bits, group 128"),
        (Grid(3, "channel", symmetric=False), "3 bits, channel, asymmetric"),
        (Grid(2, 32, clip="mse"), "2 bits, group 32, clip mse"),
    ],
)
def test_a_grid_in_words(grid, text):
    assert str(grid) == text


@pytest.fixture
def codes():
    """Three rows of six inputs in groups of three."""
    generator = torch.Generator().manual_seed(0)
    codes_OI = torch.randint(0, 8, (3, 6), generator=generator)
    zero_OG = torch.tensor([[0, 3], [7, 4], [2, 5]])
    return Codes.of(Grid(3, 3, False), codes_OI, torch.rand(3, 2, generator=generator), zero_OG)


def test_codes_stand_for_steps_from_zero_times_the_scale_of_their_group(codes):
    weight_OI = codes.dequantize()

    assert weight_OI.dtype == torch.float32
    for o in range(3):
        for i in range(6):
            steps = int(codes.codes_OI[o, i]) - int(codes.zero_OG[o, i // 3])
            assert weight_OI[o, i] == steps * codes.scale_OG[o, i // 3]


def test_codes_are_kept_in_bytes(codes):
    assert [each.dtype for each in codes.tensors().values()] == [
        torch.uint8,
        torch.float32,
        torch.uint8,
    ]
    assert (codes.bits, codes.symmetric, codes.group) == (3, False, 3)


def test_stacked_codes_come_apart_into_those_of_each_linear(codes):
    first, second = codes.split((1, 2))

    assert first.codes_OI.shape == (1, 6)
    assert torch.equal(torch.cat([first.dequantize(), second.dequantize()]), codes.dequantize())
    assert (second.bits, second.symmetric, second.group) == (3, False, 3)


def test_codes_come_back_from_their_tensors(codes):
    again = Codes.from_tensors(3, False, codes.tensors())

    assert list(codes.tensors()) == ["codes", "scale", "zero"]
    assert torch.equal(again.dequantize(), codes.dequantize())
    assert (again.bits, again.symmetric) == (3, False)
