"""One NaN or infinity anywhere is found."""

import pytest
import torch

from babelpress.numerics.finite import all_finite

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("place", [0, 17, 4095])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_number_is_found(bad, place, dtype):
    tensor = torch.linspace(-1, 1, 4096).to(dtype)
    assert all_finite(tensor)

    tensor[place] = bad

    assert not all_finite(tensor)
    assert not all_finite(tensor.view(64, 64).T)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_largest_numbers_are_finite(dtype):
    largest = torch.finfo(dtype).max

    assert all_finite(torch.tensor([largest, largest, -largest], dtype=dtype))


def test_what_has_no_floats_is_finite():
    assert all_finite(torch.tensor([1, 2]))
    assert all_finite(torch.empty(0))
