"""Gram matrices and their sums against plain float64, at every kind of input."""

import pytest
import torch

from babelpress.numerics.products import CHUNK, COLUMNS, add_gram, dots, mirror


def numbers(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("inputs", [1, 7, COLUMNS, COLUMNS + 3, 2 * COLUMNS + 1])
def test_a_gram_matrix_is_the_sum_of_outer_products(inputs, dtype):
    x_TI = numbers(300, inputs, dtype=dtype)
    gram_II = torch.zeros(inputs, inputs)

    add_gram(gram_II, x_TI[:100])
    add_gram(gram_II, x_TI[100:])
    mirror(gram_II)

    exact_II = x_TI.double().T @ x_TI.double()
    # as near as float32 sums of 300 products get, though a bfloat16 has three digits
    assert (gram_II - exact_II).abs().max() < 300 * 6e-8 * exact_II.abs().max()
    assert torch.equal(gram_II, gram_II.T)


def test_a_long_text_is_converted_in_pieces(monkeypatch):
    x_TI = numbers(64, 8, dtype=torch.bfloat16)
    whole_II, parts_II = torch.zeros(8, 8), torch.zeros(8, 8)
    add_gram(whole_II, x_TI)
    assert CHUNK // 8 > 64

    monkeypatch.setattr("babelpress.numerics.products.CHUNK", 8 * 5)
    add_gram(parts_II, x_TI)

    torch.testing.assert_close(parts_II, whole_II, rtol=1e-6, atol=1e-6)


def test_a_gram_matrix_of_float64_has_its_digits():
    x_TI = numbers(50, 9).double()
    gram_II = torch.zeros(9, 9, dtype=torch.float64)

    add_gram(gram_II, x_TI)
    mirror(gram_II)

    torch.testing.assert_close(gram_II, x_TI.T @ x_TI, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inputs", [1, 5, COLUMNS + 9, 2 * COLUMNS])
def test_dots_are_traces(inputs, dtype):
    weight_OI = numbers(11, inputs, dtype=dtype)
    grams = [(x := numbers(40, inputs, seed=seed)).T @ x for seed in (1, 2)]

    found = dots(weight_OI, grams)

    exact = [(weight_OI.double() @ g.double() @ weight_OI.double().T).trace() for g in grams]
    torch.testing.assert_close(torch.tensor(found), torch.stack(exact).float(), rtol=2e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_precision_of_the_process_is_as_it_was(dtype):
    torch.set_float32_matmul_precision("highest")

    add_gram(torch.zeros(3, 3), numbers(4, 3, dtype=dtype))

    assert torch.get_float32_matmul_precision() == "highest"


def test_the_precision_is_as_it_was_after_a_fault():
    with pytest.raises(RuntimeError):
        add_gram(torch.zeros(3, 3), numbers(4, 5, dtype=torch.bfloat16))

    assert torch.get_float32_matmul_precision() == "highest"
