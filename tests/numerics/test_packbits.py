"""Packing against one long Python integer, and against the packer of compressed-tensors."""

import pytest
import torch

from babelpress.numerics.packbits import pack, words

every_width = pytest.mark.parametrize("bits", [2, 3, 4, 8])
every_length = pytest.mark.parametrize("columns", [1, 5, 16, 31, 32, 33, 71])


def random_codes(rows, columns, bits):
    generator = torch.Generator().manual_seed(columns)
    return torch.randint(0, 2**bits, (rows, columns), generator=generator).to(torch.uint8)


def slow_pack(row, bits):
    """The row as one stream of bits, cut into words."""
    stream = 0
    for place, value in enumerate(row):
        stream |= value << (place * bits)
    found = []
    for _ in range(words(len(row), bits)):
        word = stream & 0xFFFFFFFF
        found.append(word - 2**32 if word >= 2**31 else word)
        stream >>= 32
    assert stream == 0
    return found


@every_width
@every_length
def test_values_follow_one_another_from_the_lowest_bit(bits, columns):
    codes_RC = random_codes(3, columns, bits)

    packed_RW = pack(codes_RC, bits)

    assert packed_RW.dtype == torch.int32
    assert packed_RW.is_contiguous()
    assert packed_RW.tolist() == [slow_pack(row, bits) for row in codes_RC.tolist()]


def test_eight_values_of_four_bits_read_backwards_in_hexadecimal():
    assert pack(torch.arange(8)[None], 4).item() == 0x76543210


def test_three_bits_straddle_words():
    """Value 10 has its low two bits in the first word and its high one in the second."""
    codes_RC = torch.zeros(1, 32, dtype=torch.uint8)
    codes_RC[0, 10] = 0b101

    assert [word % 2**32 for word in pack(codes_RC, 3)[0].tolist()] == [0b01 << 30, 0b1, 0]


@every_width
@every_length
def test_compressed_tensors_packs_the_same_words(bits, columns):
    helpers = pytest.importorskip(
        "compressed_tensors.compressors.pack_quantized.helpers",
        reason="compressed-tensors is not installed",
    )
    codes_RC = random_codes(3, columns, bits)
    signed_RC = (codes_RC.int() - 2 ** (bits - 1)).to(torch.int8)

    assert torch.equal(pack(codes_RC, bits), helpers.pack_to_int32(signed_RC, bits))


def test_what_lies_the_other_way_round_is_packed_alike():
    codes_RC = random_codes(5, 40, 3)

    assert torch.equal(pack(codes_RC.T.contiguous().T, 3), pack(codes_RC, 3))
