"""LLM.int8 against its definition in plain loops, and against bitsandbytes."""

from typing import Any

import pytest
import torch

from babelpress.numerics.vectorwise import coded, product, stood_for


def layer(seed=0, outputs=5, inputs=7, rows=4):
    """A weight with a row of zeros, and rows of which one has two large inputs."""
    lot = torch.Generator().manual_seed(seed)
    weight_OI = 0.3 * torch.randn(outputs, inputs, generator=lot)
    weight_OI[1] = 0
    x_RI = torch.randn(rows, inputs, generator=lot)
    x_RI[2, 3], x_RI[2, 5] = 9.5, -6.0
    return weight_OI, x_RI


def half(number):
    return torch.tensor(number, dtype=torch.float16).item()


def slow_row(numbers):
    """Codes of a row and its largest number."""
    largest = max(abs(number) for number in numbers)
    return [round(127 * n / largest) if largest else 0 for n in numbers], largest


def slow_product(x_RI, weight_OI, threshold):
    """The definition, one number at a time, in Python floats."""
    rows = [[half(n) for n in row] for row in x_RI.tolist()]
    weights = [slow_row([half(n) for n in row]) for row in weight_OI.tolist()]
    outlier = {i for row in rows for i, n in enumerate(row) if abs(n) >= threshold}
    found = []
    for whole, row in zip(x_RI.tolist(), rows, strict=True):
        codes, largest = slow_row([n if abs(n) < threshold else 0 for n in row])
        sums = []
        for code, most in weights:
            rest = sum(codes[i] * code[i] for i in range(len(code)) if i not in outlier)
            kept = sum(whole[i] * code[i] * most / 127 for i in outlier)
            sums.append(rest * largest * most / 127**2 + kept)
        found.append(sums)
    return found


@pytest.mark.parametrize("threshold", [6.0, 1.5, 100.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_product_is_its_definition(threshold, seed):
    weight_OI, x_RI = layer(seed)

    found = product(x_RI, *coded(weight_OI), threshold)

    expected = torch.tensor(slow_product(x_RI, weight_OI, threshold))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_codes_are_the_nearest_of_each_row_and_zero_stays_zero():
    weight_OI, _ = layer()
    code_OI, largest_O = coded(weight_OI)

    assert code_OI.dtype is torch.int8
    assert code_OI.abs().amax(1).tolist() == [127, 0, 127, 127, 127]
    off_OI = (stood_for(code_OI, largest_O) - weight_OI.half().float()).abs()
    assert (off_OI <= 0.5001 * largest_O[:, None] / 127).all()


def test_an_input_at_the_threshold_is_not_rounded():
    """Else its whole row would be rounded to steps of 60/127."""
    weight_OI, x_RI = layer()
    x_RI[2, 3] = 60
    exact_RO = x_RI @ stood_for(*coded(weight_OI)).T
    off = [
        (product(x_RI, *coded(weight_OI), threshold) - exact_RO)[2].abs().max()
        for threshold in (60.0, 61.0)
    ]

    assert off[0] < off[1] / 5


@pytest.mark.parametrize("threshold", [6.0, 0.0])
@pytest.mark.parametrize("seed", range(3))
def test_bitsandbytes_computes_the_same(threshold, seed):
    theirs: Any = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    weight_OI, x_RI = layer(seed, outputs=48, inputs=64, rows=9)
    linear = theirs.nn.Linear8bitLt(64, 48, bias=False, has_fp16_weights=False, threshold=threshold)
    linear.weight = theirs.nn.Int8Params(weight_OI.clone(), requires_grad=False)
    with torch.no_grad():
        expected_RO = linear.to("cpu").eval()(x_RI)
    code_OI, largest_O = coded(weight_OI)

    assert torch.equal(code_OI, linear.state.CB)
    assert torch.equal(largest_O, linear.state.SCB)
    found_RO = product(x_RI, code_OI, largest_O, threshold)
    torch.testing.assert_close(found_RO, expected_RO, rtol=1e-4, atol=1e-4)
