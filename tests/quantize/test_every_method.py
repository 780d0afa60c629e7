"""What holds for every quantization method; a new file in quantize/ is tested here unasked."""

from dataclasses import fields, replace
from itertools import pairwise

import pytest
import torch

from babelpress.errors import BadLayer, BadMoments, BadSetting, NotFinite, UnknownName
from babelpress.numerics.grids import Grid
from babelpress.quantize import QUANTIZERS
from babelpress.registry import taken

every_method = pytest.mark.parametrize("method", QUANTIZERS.names())
GRIDS = [
    Grid(2, 8),
    Grid(3, 6, symmetric=False),
    Grid(4, 12, clip="mse"),
    Grid(4, "channel", symmetric=False, clip="mse"),
    Grid(8, "channel"),
]
every_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
with_gram = [
    method for method in QUANTIZERS.names() if ("gram" in QUANTIZERS.facts(method).get("READS", ()))
]


def same(codes, others):
    """Whether two sets of codes are the same bit for bit."""
    pairs = zip(codes.tensors().values(), others.tensors().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@every_method
@every_grid
@every_dtype
def test_codes_are_bytes_within_the_bits_in_the_shape_of_the_weight(
    method, grid, dtype, weight_OI, stats, keep_OI
):
    codes = QUANTIZERS.get(method)(weight_OI.to(dtype), stats, grid, keep_OI)

    assert (codes.bits, codes.symmetric) == (grid.bits, grid.symmetric)
    assert codes.group == grid.width(24, "")
    assert codes.codes_OI.shape == (7, 24)
    assert codes.scale_OG.shape == codes.zero_OG.shape == (7, 24 // codes.group)
    assert codes.codes_OI.dtype == codes.zero_OG.dtype == torch.uint8
    assert codes.scale_OG.dtype == torch.float32
    assert codes.codes_OI.max() <= grid.highest
    assert codes.zero_OG.max() <= grid.highest
    assert all(each.is_contiguous() for each in codes.tensors().values())


@every_method
@every_grid
def test_scales_lose_nothing_in_half_precision(method, grid, weight_OI, stats, keep_OI):
    scale_OG = QUANTIZERS.get(method)(weight_OI, stats, grid, keep_OI).scale_OG

    assert (scale_OG > 0).all()
    assert torch.equal(scale_OG.bfloat16().float(), scale_OG)
    assert torch.equal(scale_OG.half().float(), scale_OG)


@every_method
@every_grid
def test_symmetric_grids_have_their_zero_in_the_middle(method, grid, weight_OI, stats, keep_OI):
    zero_OG = QUANTIZERS.get(method)(weight_OI, stats, grid, keep_OI).zero_OG

    assert (zero_OG == 2 ** (grid.bits - 1)).all() == grid.symmetric


@every_method
@every_grid
def test_a_pruned_weight_is_exactly_zero_whatever_it_was(method, grid, weight_OI, stats, keep_OI):
    assert (weight_OI[~keep_OI] != 0).all()

    codes = QUANTIZERS.get(method)(weight_OI, stats, grid, keep_OI)

    at_zero_OI = codes.codes_OI == codes.zero_OG.repeat_interleave(codes.group, 1)
    assert at_zero_OI[~keep_OI].all()
    assert (codes.dequantize()[~keep_OI] == 0).all()
    if grid.bits == 8:
        assert at_zero_OI[keep_OI].sum() < 6


@every_method
def test_what_is_given_is_left_alone(method, weight_OI, stats, keep_OI):
    before_OI, kept_OI = weight_OI.clone(), keep_OI.clone()
    seen = {f.name: getattr(stats, f.name) for f in fields(stats)}
    tensors = {name: value.clone() for name, value in seen.items() if torch.is_tensor(value)}

    QUANTIZERS.get(method)(weight_OI, stats, Grid(4, 8), keep_OI)

    assert torch.equal(before_OI, weight_OI)
    assert torch.equal(kept_OI, keep_OI)
    assert all(torch.equal(value, getattr(stats, name)) for name, value in tensors.items())


@every_method
@every_grid
def test_quantizing_again_gives_the_same(method, grid, weight_OI, saw, inputs, shares, keep_OI):
    once, again = (
        QUANTIZERS.get(method)(weight_OI, saw(inputs, shares), grid, keep_OI) for _ in range(2)
    )

    assert same(once, again)


@every_method
@every_grid
def test_a_stack_of_linears_is_each_by_itself(method, grid, weight_OI, stats, keep_OI):
    """Products of other shapes round otherwise, by less than any weight here is from halfway
    between two codes: see `test_block_size_does_not_matter` of gptq."""
    stacked = QUANTIZERS.get(method)(weight_OI, stats, grid, keep_OI).split((2, 5))

    for codes, some_OI, kept_OI in zip(
        stacked, weight_OI.split((2, 5)), keep_OI.split((2, 5)), strict=True
    ):
        alone = QUANTIZERS.get(method)(some_OI, stats, grid, kept_OI)
        assert same(alone, codes)


@every_method
@every_grid
def test_half_precision_weights_are_quantized_in_full_precision(
    method, grid, weight_OI, stats, keep_OI
):
    half_OI = weight_OI.bfloat16()

    codes = QUANTIZERS.get(method)(half_OI, stats, grid, keep_OI)

    assert same(QUANTIZERS.get(method)(half_OI.float(), stats, grid, keep_OI), codes)


@every_method
@every_grid
def test_a_weight_that_lies_inputs_first_is_quantized_like_any_other(
    method, grid, weight_OI, stats, keep_OI
):
    """As in a Conv1D."""
    weight_IO, keep_IO = weight_OI.T.contiguous(), keep_OI.T.contiguous()

    codes = QUANTIZERS.get(method)(weight_IO.T, stats, grid, keep_IO.T)

    assert same(QUANTIZERS.get(method)(weight_OI, stats, grid, keep_OI), codes)


@every_method
def test_a_parameter_is_quantized_like_its_values_and_without_a_trace_of_gradients(
    method, weight_OI, stats, keep_OI
):
    grid = Grid(4, 8, clip="mse")

    codes = QUANTIZERS.get(method)(torch.nn.Parameter(weight_OI), stats, grid, keep_OI)

    assert not codes.dequantize().requires_grad
    assert same(QUANTIZERS.get(method)(weight_OI, stats, grid, keep_OI), codes)


@every_method
@pytest.mark.parametrize("group", [8, "channel"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_more_bits_lose_less(method, group, symmetric, weight_OI, stats, all_kept_OI):
    gram_II = stats.require_gram()

    def lost(bits):
        codes = QUANTIZERS.get(method)(weight_OI, stats, Grid(bits, group, symmetric), all_kept_OI)
        lost_OI = weight_OI - codes.dequantize()
        return float((lost_OI @ gram_II * lost_OI).sum())

    errors = [lost(bits) for bits in (2, 3, 4, 8)]

    assert all(more < less / 2 for less, more in pairwise(errors))


@every_method
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_that_lie_on_the_grid_and_span_it_come_back(method, bits, stats, all_kept_OI):
    generator = torch.Generator().manual_seed(3)
    steps_OGB = torch.randint(0, 2**bits, (7, 3, 8), generator=generator)
    steps_OGB[..., 3], steps_OGB[..., 6] = 0, 2**bits - 1
    zero_OG1 = torch.randint(0, 2**bits, (7, 3, 1), generator=generator)
    weight_OI = ((steps_OGB - zero_OG1) * 0.01171875).flatten(1)

    codes = QUANTIZERS.get(method)(weight_OI, stats, Grid(bits, 8, False), all_kept_OI)

    assert torch.equal(weight_OI, codes.dequantize())
    assert torch.equal(steps_OGB.flatten(1), codes.codes_OI.long())


@every_method
@every_grid
def test_a_weight_of_zeros_stays_zero(method, grid, stats, all_kept_OI):
    codes = QUANTIZERS.get(method)(torch.zeros(7, 24), stats, grid, all_kept_OI)

    assert (codes.dequantize() == 0).all()


@every_method
@every_grid
def test_doubling_the_weight_doubles_the_scales(method, grid, weight_OI, stats, keep_OI):
    codes = QUANTIZERS.get(method)(weight_OI, stats, grid, keep_OI)
    doubled = QUANTIZERS.get(method)(weight_OI * 2, stats, grid, keep_OI)

    assert torch.equal(codes.codes_OI, doubled.codes_OI)
    assert torch.equal(codes.dequantize() * 2, doubled.dequantize())


@every_method
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_stops_with_the_place(method, bad, weight_OI, stats, keep_OI):
    keep_OI[3, 5] = True
    weight_OI[3, 5] = bad

    with pytest.raises(NotFinite, match=r"a weight of blocks\.0\.mlp\.up is NaN or infinite\."):
        QUANTIZERS.get(method)(weight_OI, stats, Grid(4, 8), keep_OI)


@every_method
def test_a_group_that_does_not_divide_is_refused_with_the_place(method, weight_OI, stats, keep_OI):
    message = r"a group of 16 does not divide the 24 inputs of blocks\.0\.mlp\.up\."

    with pytest.raises(BadLayer, match=message):
        QUANTIZERS.get(method)(weight_OI, stats, Grid(4, 16), keep_OI)


@pytest.mark.parametrize("method", with_gram)
def test_a_method_that_needs_a_gram_matrix_says_so(method, weight_OI, stats, keep_OI):
    stats = replace(stats, gram_II=None, _factors={})

    with pytest.raises(BadMoments, match=r"blocks\.0\.mlp\.up hold no Gram matrix.*--gram"):
        if scale := QUANTIZERS.optional(method, "scale_inputs"):
            scale(weight_OI, stats, Grid(4, 8))
        QUANTIZERS.get(method)(weight_OI, stats, Grid(4, 8), keep_OI)


@pytest.mark.parametrize(
    "scale",
    [
        pytest.param(scale, id=m)
        for m in QUANTIZERS.names()
        if (scale := QUANTIZERS.optional(m, "scale_inputs"))
    ],
)
def test_scales_of_inputs_are_positive_numbers_of_full_precision(scale, weight_OI, stats):
    before_OI = weight_OI.clone()

    scale_I = scale(weight_OI, stats, Grid(3, 8))

    assert (scale_I.shape, scale_I.dtype) == ((24,), torch.float32)
    assert (scale_I > 0).all()
    assert scale_I.isfinite().all()
    assert torch.equal(before_OI, weight_OI)


@every_method
def test_a_method_explains_itself(method):
    functions = [QUANTIZERS.get(method), QUANTIZERS.optional(method, "scale_inputs")]

    assert all(function.__doc__ for function in functions if function)
    assert all(value is not None for value in QUANTIZERS.options(method).values())


def test_rounding_and_gptq_are_there():
    assert {"rtn", "gptq"} <= set(QUANTIZERS.names())


def test_a_wrong_name_says_the_right_ones():
    with pytest.raises(UnknownName) as error:
        QUANTIZERS.get("gtpq")

    assert str(error.value) == (
        "no quantization method is called 'gtpq'. Did you mean 'gptq'? "
        f"Known: {', '.join(QUANTIZERS.names())}. Add one in babelpress/quantize/."
    )


def test_options_are_read_from_the_signature():
    assert QUANTIZERS.options("gptq") == {"damp": 0.01, "columns": 128, "order": "diagonal"}
    assert QUANTIZERS.options("rtn") == {}


def test_an_unknown_option_says_the_known_ones():
    with pytest.raises(BadSetting) as error:
        QUANTIZERS.check_options("gptq", {"blocks": 3, "damp": 0.1})

    assert str(error.value) == (
        "gptq has no option blocks. It accepts damp=0.01, columns=128, order=diagonal."
    )


def test_a_method_without_options_says_so():
    with pytest.raises(BadSetting, match=r"rtn has no option damp\. It accepts no options\."):
        QUANTIZERS.check_options("rtn", {"damp": 0.1})


def test_known_options_pass_to_the_function_that_takes_them():
    given = {"damp": 0.1, "order": "diagonal", "steps": 3}

    QUANTIZERS.check_options("gptq", {"damp": 0.1, "order": "diagonal"})

    assert taken(QUANTIZERS.get("gptq"), given) == {"damp": 0.1, "order": "diagonal"}
    assert taken(QUANTIZERS.get("rtn"), given) == {}


def test_what_a_method_needs_is_read_from_its_module():
    assert [("gram" in QUANTIZERS.facts(m).get("READS", ())) for m in ("rtn", "gptq")] == [
        False,
        True,
    ]
    assert QUANTIZERS.optional("rtn", "scale_inputs") is None
