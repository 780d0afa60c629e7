"""Folded matrices against plain loops over their numbers, and back to the same bits."""

import pytest
import torch

from babelpress.numerics.triangles import COLUMNS, folded, folded_shape, is_whole, panel, whole

SIZES = [1, 2, 3, 4, 7, 10, COLUMNS - 1, COLUMNS, COLUMNS + 1, 2 * COLUMNS + 3, 3 * COLUMNS + 2]
every_size = pytest.mark.parametrize("inputs", SIZES)


def symmetric(inputs, dtype=torch.float32, seed=0):
    """Random numbers, some of them minus zero, whose sign is one of the bits that must stay."""
    generator = torch.Generator().manual_seed(seed)
    some_II = torch.randn(inputs, inputs, generator=generator, dtype=torch.float64).to(dtype)
    some_II[torch.rand(inputs, inputs, generator=generator) < 0.1] = -0.0
    return torch.where(torch.ones(inputs, inputs).tril().bool(), some_II, some_II.T).contiguous()


def bits(tensor):
    return tensor.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


@pytest.mark.parametrize("inputs", [1, 2, 3, 6, 7])
def test_every_number_of_the_triangle_lies_where_the_format_says(inputs):
    gram_II = symmetric(inputs)

    folded_HJ = folded(gram_II)

    height = (inputs + 1) // 2
    assert folded_HJ.shape == folded_shape(inputs) == (height, inputs + 1)
    for i in range(height):
        for j in range(inputs + 1):
            at = (i, j - 1) if j > i else (inputs - 1 - i, inputs - 1 - j)
            assert folded_HJ[i, j] == gram_II[at]


@every_size
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_matrix_comes_back_with_the_same_bits(inputs, dtype):
    gram_II = symmetric(inputs, dtype)
    before_II = gram_II.clone()

    again_II = whole(folded(gram_II))

    assert again_II.dtype == dtype and again_II.is_contiguous()
    assert torch.equal(bits(again_II), bits(gram_II))
    assert torch.equal(bits(gram_II), bits(before_II))


@every_size
def test_half_of_the_numbers_are_kept(inputs):
    kept = folded(symmetric(inputs)).numel()

    assert kept - inputs * (inputs + 1) // 2 == (inputs % 2) * (inputs + 1) // 2


@pytest.mark.parametrize(
    ("inputs", "start", "end"),
    [(9, 0, 9), (9, 2, 4), (9, 3, 7), (9, 6, 9), (8, 0, 3), (8, 3, 5), (8, 5, 20), (1, 0, 1)],
)
def test_a_panel_of_a_folded_matrix_is_that_of_the_whole_one(inputs, start, end):
    gram_II = symmetric(inputs)

    found = panel(folded(gram_II), start, end)

    assert torch.equal(bits(found.contiguous()), bits(gram_II[start:end, start:].contiguous()))
    assert torch.equal(panel(gram_II, start, end), gram_II[start:end, start:])


def test_what_is_whole_or_folded_already_is_left_as_it_is():
    gram_II = symmetric(5)
    folded_HJ = folded(gram_II)

    assert is_whole(gram_II) and not is_whole(folded_HJ)
    assert whole(gram_II) is gram_II
    assert folded(folded_HJ) is folded_HJ
