"""Where numbers lie in memory does not show: a file is mapped as it comes, and kernels may care."""

import pytest
import torch

from babelpress.moments.accumulator import Accumulator, vectors_of
from babelpress.moments.blend import blend
from babelpress.moments.damage import energies
from babelpress.moments.moments import OPTIONAL, Moments
from babelpress.numerics.grids import Grid
from babelpress.numerics.least_squares import inverse_factor
from babelpress.quantize import gptq

LINE = 64  # bytes to which torch aligns what it makes
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
every_shift = pytest.mark.parametrize("numbers", [1, 2, 4, 13])


def shifted(tensor, numbers):
    """The same, so many numbers past where torch would put it."""
    room = torch.empty(tensor.numel() + LINE, dtype=tensor.dtype)
    assert room.data_ptr() % LINE == 0
    place = room[numbers : numbers + tensor.numel()].view(tensor.shape)
    place.copy_(tensor)
    return place


def inputs_of(tokens, inputs, dtype=torch.float32):
    generator = torch.Generator().manual_seed(inputs)
    return (torch.randn(tokens, inputs, generator=generator) + 0.25).to(dtype)


def moments_of(x_TI, gram=True, vectors=OPTIONAL):
    return Accumulator(x_TI.shape[1], gram, vectors=vectors).add(x_TI).finish()


@every_dtype
@every_shift
@pytest.mark.parametrize(("tokens", "inputs"), [(130, 7), (300, 150), (64, 48)])
def test_moments(tokens, inputs, dtype, numbers):
    x_TI = inputs_of(tokens, inputs, dtype)

    expected, found = moments_of(x_TI), moments_of(shifted(x_TI, numbers))

    for name, each in expected.tensors().items():
        assert torch.equal(found.tensors()[name], each), name


@pytest.mark.parametrize("kept", [(), ("sum",), ("sumabs",), ("positive",), ("sum", "positive")])
@pytest.mark.parametrize("inputs", [7, 9, 150])
def test_a_vector_does_not_depend_on_what_else_is_kept(kept, inputs):
    """Not even in odd numbers of inputs, which move what is written after them."""
    x_TI = inputs_of(2000, inputs)

    whole = vectors_of(x_TI, OPTIONAL, gram=False, where="here").tensors()
    few = vectors_of(x_TI, kept, gram=False, where="here").tensors()

    assert few.keys() == {"n", "sumsq", "absmax", *kept}
    for name, each in few.items():
        assert torch.equal(each, whole[name]), name


@every_dtype
@every_shift
@pytest.mark.parametrize("gram", [True, False])
@pytest.mark.parametrize("inputs", [7, 48, 150])
def test_damage(inputs, gram, dtype, numbers):
    weight_OI = inputs_of(9, inputs, dtype)
    moments = moments_of(inputs_of(200, inputs), gram)
    tensors = {name: shifted(each, numbers) for name, each in moments.tensors().items()}
    mapped = Moments.from_tensors(tensors)

    assert energies(shifted(weight_OI, numbers), {"a": mapped}) == energies(
        weight_OI, {"a": moments}
    )


@every_shift
@pytest.mark.parametrize("inputs", [7, 48, 150])
def test_factors(inputs, numbers):
    gram_II = moments_of(inputs_of(300, inputs)).gram_II
    assert gram_II is not None

    of_mapped_II = inverse_factor(shifted(gram_II, numbers), 0.01, where="here", tokens=300)

    assert torch.equal(of_mapped_II, inverse_factor(gram_II, 0.01, where="here", tokens=300))


@every_dtype
@every_shift
def test_solvers(dtype, numbers):
    weight_OI = inputs_of(9, 48, dtype)
    stats = blend({"a": moments_of(inputs_of(300, 48))}, {"a": 1.0}, "here")
    keep_OI = weight_OI > -1

    expected, found = (
        gptq.quantize(each_OI, stats, Grid(4, 8), keep_OI, order="none").dequantize()
        for each_OI in (weight_OI, shifted(weight_OI, numbers))
    )

    assert torch.equal(found, expected)


@every_dtype
@every_shift
def test_linears_of_several_rows(dtype, numbers):
    """A row alone is another kind of product, which MKL's oldest kernels do round by alignment."""
    x_TI, weight_OI = inputs_of(5, 32, dtype), inputs_of(48, 32, dtype)

    found = torch.nn.functional.linear(shifted(x_TI, numbers), shifted(weight_OI, numbers))

    assert torch.equal(found, torch.nn.functional.linear(x_TI, weight_OI))
