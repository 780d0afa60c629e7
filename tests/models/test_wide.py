"""Wide linears against products in float64, and what may not change by them."""

from typing import Any

import pico
import pytest
import torch
from torch import nn

from babelpress.models.open import open_model
from babelpress.models.wide import ROWS, WideLinear, widen

AMX = {"architecture": "x86_64", "cpu_name": "Intel Xeon", "amx_bf16": True, "avx512_bf16": True}
INTEL = AMX | {"amx_bf16": False}
LAPTOP = {"architecture": "x86_64", "cpu_name": "AMD Ryzen", "avx2": True}
EPYC = {"architecture": "x86_64", "cpu_name": "AMD EPYC", "avx512_bf16": True}
ARM = {"architecture": "aarch64", "cpu_name": "Neoverse", "bf16": True}


@pytest.fixture
def slow(monkeypatch):
    """A processor that is slow in bfloat16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: LAPTOP)


def linear(inputs=37, outputs=11, bias=True) -> Any:
    torch.manual_seed(0)
    layer = nn.Linear(inputs, outputs, bias=bias).bfloat16()
    return layer, torch.randn(3, ROWS, inputs).bfloat16()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("numbers", [1, 100, 1 << 20])
def test_a_wide_linear_is_the_exact_product_rounded_once(slow, bias, numbers, monkeypatch):
    monkeypatch.setattr("babelpress.models.wide.NUMBERS", numbers)
    layer, x = linear(bias=bias)
    exact = nn.functional.linear(
        x.double(), layer.weight.double(), layer.bias.double() if bias else None
    )

    widen(layer)
    with torch.inference_mode():
        found = layer(x)

    assert type(layer) is WideLinear
    assert found.dtype is torch.bfloat16
    assert found.shape == (3, ROWS, 11)
    # One rounding, but for sums of float32 that lie next to the middle of two bfloat16 numbers.
    assert (found == exact.bfloat16()).float().mean() > 0.99
    assert torch.allclose(found.double(), exact, rtol=2**-8, atol=1e-6)


def test_some_outputs_are_those_of_all(slow):
    layer, x = linear()
    widen(layer)

    with torch.inference_mode():
        assert torch.equal(layer.some(x, slice(2, 7)), layer(x)[..., 2:7])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_other_dtypes_and_few_rows_are_those_of_a_plain_linear(slow, dtype):
    plain, x = linear()
    wide, _ = linear()
    widen(wide)
    with torch.inference_mode():
        assert torch.equal(wide(x[0, :4]), plain(x[0, :4]))
        assert torch.equal(wide.to(dtype)(x.to(dtype)), plain.to(dtype)(x.to(dtype)))


def test_gradients_are_those_of_a_plain_linear(slow):
    plain, x = linear()
    wide, _ = linear()
    widen(wide)
    for layer in (plain, wide):
        layer(x).float().square().sum().backward()

    assert torch.equal(wide.weight.grad, plain.weight.grad)


def test_what_a_model_holds_is_the_same_and_so_is_what_is_saved(slow, tmp_path):
    model = pico.model().bfloat16()
    before = {name: each.clone() for name, each in model.state_dict().items()}

    widen(model)

    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert {type(each) for each in model.modules()} >= {WideLinear}


@pytest.mark.parametrize(
    ("processor", "expected"),
    [(AMX, False), (INTEL, True), (LAPTOP, True), (EPYC, False), (ARM, False), ({}, False)],
)
def test_a_model_is_widened_as_it_is_opened_where_that_is_faster(processor, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)

    kinds = {type(each) for each in open_model("babel-mini").model.modules()}

    assert (WideLinear in kinds) is expected
    assert (nn.Linear in kinds) is not expected
