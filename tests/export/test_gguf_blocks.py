"""Codes as blocks of GGUF: the gguf package reads the very weights out of them."""

import struct

import gguf
import pytest
import torch

from babelpress.export import _gguf_blocks as blocks
from babelpress.numerics.grids import Codes, Grid

GRIDS = {
    "2 bits": (Grid(2, 32), "Q4_0"),
    "3 bits": (Grid(3, 64), "Q4_0"),
    "4 bits": (Grid(4, 32), "Q4_0"),
    "8 bits": (Grid(8, "channel"), "Q8_0"),
    "2 bits, asymmetric": (Grid(2, 96, symmetric=False), "Q4_0"),
    "3 bits, asymmetric": (Grid(3, 32, symmetric=False), "Q4_0"),
    "4 bits, asymmetric": (Grid(4, 64, symmetric=False), "Q4_1"),
    "4 bits, asymmetric, mostly below zero": (Grid(4, 64, symmetric=False), "Q5_0"),
}


def rounded(grid, *, outputs=5, inputs=192, lean=0.3):
    """A weight of unequal rows, leaning to one side, as codes of a grid."""
    generator = torch.Generator().manual_seed(0)
    weight_OI = torch.randn(outputs, inputs, generator=generator) + lean
    weight_OI *= torch.linspace(0.01, 3, outputs)[:, None]
    scale_OG, zero_OG = grid.fit_groups(weight_OI, "here")
    width = grid.width(inputs, "here")
    wide = (each.repeat_interleave(width, 1) for each in (scale_OG, zero_OG))
    return Codes.of(grid, grid.code(weight_OI, *wide), scale_OG, zero_OG)


def hand_made(steps, scale, zero, bits=4, inputs=32):
    """Codes of one row and one group, all equal but the first."""
    codes_OI = torch.full((1, inputs), zero)
    codes_OI[0, : len(steps)] = torch.tensor(steps) + zero
    return Codes(
        bits,
        False,
        codes_OI.to(torch.uint8),
        torch.tensor([[scale]]),
        torch.tensor([[zero]], dtype=torch.uint8),
    )


def read(codes, kind):
    """The weights that the gguf package finds in our bytes."""
    return torch.from_numpy(
        gguf.quants.dequantize(blocks.encode(codes, kind), gguf.GGMLQuantizationType[kind])
    )


@pytest.mark.parametrize("name", GRIDS)
def test_the_weights_of_the_codes_are_read_back_exactly(name):
    grid, kind = GRIDS[name]
    codes = rounded(grid, lean=-1.3 if "below" in name else 0.3)

    assert blocks.kind(codes) == kind
    assert torch.equal(read(codes, kind), codes.dequantize())


@pytest.mark.parametrize("kind", ["Q4_0", "Q5_0", "Q8_0"])
def test_every_type_that_can_hold_the_steps_holds_them_exactly(kind):
    codes = rounded(Grid(3, 64, symmetric=False))

    assert torch.equal(read(codes, kind), codes.dequantize())


def test_four_bits_lie_where_llama_cpp_looks_for_them():
    codes = rounded(Grid(4, 32), inputs=64)
    row = bytes(blocks.encode(codes, "Q4_0")[3])

    found = []
    for start in range(0, len(row), 18):
        (d,) = struct.unpack_from("<e", row, start)
        low = [d * ((byte & 15) - 8) for byte in row[start + 2 : start + 18]]
        high = [d * ((byte >> 4) - 8) for byte in row[start + 2 : start + 18]]
        found += low + high

    assert found == codes.dequantize()[3].tolist()


def test_the_fifth_bits_lie_in_a_word_of_their_own():
    codes = hand_made([-9, 7, 10], scale=0.5, zero=9)
    row = bytes(blocks.encode(codes, "Q5_0")[0])
    d, fifth = struct.unpack_from("<eI", row)

    steps = [-9, 7, 10] + [0] * 29
    low = [byte & 15 for byte in row[6:]] + [byte >> 4 for byte in row[6:]]
    found = [d * (low[j] + 16 * (fifth >> j & 1) - 16) for j in range(32)]

    assert found == [0.5 * step for step in steps]


def test_a_minimum_that_float16_holds_makes_the_smaller_type():
    codes = hand_made([-9, 6], scale=0.375, zero=9)

    assert blocks.kind(codes) == "Q4_1"
    assert torch.equal(read(codes, "Q4_1"), codes.dequantize())


def test_a_minimum_that_float16_rounds_is_not_used():
    scale = 2 - 2.0**-7  # 13 times that has twelve significant bits
    codes = hand_made([-13, 2], scale=scale, zero=13)

    assert torch.tensor(13 * scale).half().float() != 13 * scale
    assert blocks.kind(codes) == "Q5_0"


def test_eight_asymmetric_bits_fit_only_within_a_signed_byte():
    inside = hand_made([-128, 127], scale=0.25, zero=128, bits=8)
    beyond = hand_made([-129, 5], scale=0.25, zero=129, bits=8)

    assert blocks.kind(inside) == "Q8_0"
    assert torch.equal(read(inside, "Q8_0"), inside.dequantize())
    assert blocks.kind(beyond) is None


@pytest.mark.parametrize(
    "codes",
    [
        pytest.param(rounded(Grid(4, 48)), id="groups that cut a block"),
        pytest.param(rounded(Grid(4, "channel"), inputs=80), id="rows that end within a block"),
        pytest.param(hand_made([1], scale=1 / 3, zero=8), id="a scale that float16 rounds"),
    ],
)
def test_what_would_be_rounded_is_refused(codes):
    assert blocks.kind(codes) is None
