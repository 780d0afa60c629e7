"""Counts are those of a plain loop, for every dtype and layout."""

import pytest
import torch

from babelpress.numerics.counting import nonzeros

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.bool, torch.int8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_count_is_that_of_a_loop(dtype):
    lot = torch.Generator().manual_seed(0)
    numbers = (torch.randn(37, 53, generator=lot) * 2).round()
    tensor = numbers.to(dtype)
    by_hand = sum(value != 0 for row in tensor.tolist() for value in row)

    assert nonzeros(tensor) == by_hand
    assert nonzeros(tensor.T) == by_hand
    assert nonzeros(tensor[::2, 1:]) == sum(v != 0 for r in tensor[::2, 1:].tolist() for v in r)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_minus_zero_is_zero_and_what_is_no_number_is_not(dtype):
    odd = torch.tensor([0.0, -0.0, float("nan"), float("inf"), -float("inf")], dtype=dtype)

    assert nonzeros(odd) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_smallest_numbers_count(dtype):
    smallest = torch.finfo(dtype).smallest_normal / 8  # subnormal

    assert nonzeros(torch.tensor([smallest, -smallest, 0], dtype=dtype)) == 2


def test_nothing_has_none():
    assert nonzeros(torch.empty(0, 7)) == 0
