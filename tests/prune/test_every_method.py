"""What holds for every pruning method; a new file in prune/ is tested here unasked."""

from dataclasses import fields, replace

import pytest
import torch

from babelpress.errors import BadLayer, BadSetting, NotFinite, UnknownName
from babelpress.numerics.patterns import KeepOf, PerGroup, PerLayer, PerRow, Spared, Stacked
from babelpress.prune import PRUNERS

every_method = pytest.mark.parametrize("method", PRUNERS.names())
# Asymmetric on purpose: 2 of 4 and 0.5 cannot tell "keep" from "drop".
PLAIN = [
    PerRow(0.0),
    PerRow(0.29),
    PerLayer(0.29),
    PerGroup(0.29, 5),
    PerGroup(0.7, 128),
    KeepOf(1, 4),
    KeepOf(2, 3),
    KeepOf(5, 8),
]
every_pattern = pytest.mark.parametrize(
    "pattern",
    [*PLAIN, *(Stacked((pattern,) * 2, (2, 5)) for pattern in PLAIN)],
    ids=lambda pattern: f"{type(pattern).__name__}-{pattern}",
)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@every_method
@every_pattern
@every_dtype
def test_exactly_the_asked_number_of_weights_goes(method, pattern, dtype, weight_OI, stats):
    pruned_OI = PRUNERS.get(method)(weight_OI.to(dtype), stats, pattern)

    assert (pruned_OI == 0).sum() == pattern.count(7, 24)
    assert pruned_OI.dtype == dtype
    assert pruned_OI.shape == (7, 24)
    assert pruned_OI.isfinite().all()


@every_method
@every_pattern
def test_ties_do_not_change_the_count(method, pattern, stats):
    pruned_OI = PRUNERS.get(method)(torch.ones(7, 24), stats, pattern)

    assert (pruned_OI == 0).sum() == pattern.count(7, 24)


@every_method
def test_in_a_stack_every_linear_has_its_own_exact_count(method, weight_OI, stats):
    pruned_OI = PRUNERS.get(method)(weight_OI, stats, Stacked((PerLayer(0.29),) * 2, (2, 5)))

    assert (pruned_OI[:2] == 0).sum() == PerLayer(0.29).count(2, 24)
    assert (pruned_OI[2:] == 0).sum() == PerLayer(0.29).count(5, 24)


@every_method
@pytest.mark.parametrize(
    "plain", [PerRow(0.29), PerRow(0.55), PerLayer(0.29), PerGroup(0.4, 7), KeepOf(2, 4)]
)
@pytest.mark.parametrize("rows", [(), (1, 4)])
def test_what_is_protected_stays_and_others_go_in_its_place(method, plain, rows, weight_OI, stats):
    rows = frozenset() if isinstance(plain, KeepOf) else frozenset(rows)
    pattern = Spared(plain, rows, frozenset({0, 3, 13}))
    weight_OI[:, [0, 3, 13]] *= 1e-3  # the first to go

    pruned_OI = PRUNERS.get(method)(weight_OI, stats, pattern)
    stacked_OI = PRUNERS.get(method)(
        torch.cat([weight_OI, weight_OI]), stats, Stacked((plain, pattern), (7, 7))
    )

    for found_OI in (pruned_OI, stacked_OI[7:]):
        assert (found_OI == 0).sum() == plain.count(7, 24)
        assert found_OI[sorted(rows)].all()
        assert found_OI[:, [0, 3, 13]].all()
    assert (stacked_OI[:7] == 0).sum() == plain.count(7, 24)
    if isinstance(plain, KeepOf):
        assert (pruned_OI.unflatten(1, (-1, plain.of)) == 0).sum(2).eq(2).all()


@pytest.mark.parametrize("method", sorted({*PRUNERS.names()} - {"random"}))  # a lot is blind
@pytest.mark.parametrize("pattern", [PerRow(0.29), KeepOf(1, 4)])
def test_zeros_that_were_there_go_first(method, pattern, weight_OI, stats):
    weight_OI[:, ::4] = 0

    pruned_OI = PRUNERS.get(method)(weight_OI, stats, pattern)

    assert (pruned_OI == 0).sum() == pattern.count(7, 24)
    assert (pruned_OI[:, ::4] == 0).all()


@every_method
def test_what_is_given_is_left_alone(method, weight_OI, stats):
    before_OI = weight_OI.clone()
    seen = {f.name: getattr(stats, f.name) for f in fields(stats)}
    tensors = {name: value.clone() for name, value in seen.items() if torch.is_tensor(value)}

    PRUNERS.get(method)(weight_OI, stats, PerRow(0.29))

    assert torch.equal(before_OI, weight_OI)
    assert all(torch.equal(value, getattr(stats, name)) for name, value in tensors.items())


@every_method
def test_a_weight_that_lies_inputs_first_is_pruned_like_any_other(method, weight_OI, stats):
    """As in a Conv1D."""
    weight_IO = weight_OI.T.contiguous()

    pruned_OI = PRUNERS.get(method)(weight_IO.T, stats, PerRow(0.29))

    assert torch.equal(PRUNERS.get(method)(weight_OI, stats, PerRow(0.29)), pruned_OI)
    assert torch.equal(weight_OI, weight_IO.T)


@every_method
def test_a_parameter_is_pruned_like_its_values_and_without_a_trace_of_gradients(
    method, weight_OI, stats
):
    pruned_OI = PRUNERS.get(method)(torch.nn.Parameter(weight_OI), stats, PerRow(0.29))

    assert not pruned_OI.requires_grad
    assert torch.equal(PRUNERS.get(method)(weight_OI, stats, PerRow(0.29)), pruned_OI)


@every_method
def test_pruning_again_gives_the_same(method, weight_OI, saw, inputs, shares):
    once, again = (
        PRUNERS.get(method)(weight_OI, saw(inputs, shares), PerRow(0.29)) for _ in range(2)
    )

    assert torch.equal(once, again)


@every_method
@every_dtype
def test_surviving_weights_are_as_they_were_unless_the_method_adapts_them(
    method, dtype, weight_OI, stats
):
    weight_OI = weight_OI.to(dtype)

    pruned_OI = PRUNERS.get(method)(weight_OI, stats, PerRow(0.29))

    survived_OI = pruned_OI != 0
    unchanged = torch.equal(weight_OI[survived_OI], pruned_OI[survived_OI])
    assert unchanged != ("gram" in PRUNERS.facts(method).get("READS", ()))


@every_method
@every_pattern
def test_scaling_all_inputs_changes_nothing(method, pattern, weight_OI, saw, inputs, shares):
    scaled = {language: x_TI * 4 for language, x_TI in inputs.items()}

    pruned_OI = PRUNERS.get(method)(weight_OI, saw(inputs, shares), pattern)
    of_scaled_OI = PRUNERS.get(method)(weight_OI, saw(scaled, shares), pattern)

    assert torch.equal(pruned_OI, of_scaled_OI)


@every_method
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_stops_with_the_place(method, bad, weight_OI, stats):
    weight_OI[3, 5] = bad

    with pytest.raises(NotFinite, match=r"blocks\.0\.mlp\.up"):
        PRUNERS.get(method)(weight_OI, stats, PerRow(0.29))


@every_method
def test_a_layer_that_the_pattern_does_not_fit_is_refused(method, weight_OI, stats):
    with pytest.raises(BadLayer, match="needs a number of inputs that 5 divides"):
        PRUNERS.get(method)(weight_OI, stats, KeepOf(2, 5))


@pytest.mark.parametrize("method", sorted({*PRUNERS.names()} - {"magnitude", "random"}))
def test_a_score_that_is_not_finite_stops_with_the_place(method, weight_OI, stats):
    broken = torch.full_like(stats.mean_square_I, float("nan"))
    apart = {tag: replace(each, sumsq_I=broken) for tag, each in stats._apart.items()}
    new = {"mean_square_I": broken, "gram_II": torch.diag(broken), "_apart": apart}
    stats = replace(stats, **new, _factors={})

    with pytest.raises(NotFinite, match=r"blocks\.0\.mlp\.up"):
        PRUNERS.get(method)(weight_OI, stats, PerRow(0.29))


@every_method
def test_a_method_explains_itself(method):
    assert PRUNERS.get(method).__doc__
    assert all(value is not None for value in PRUNERS.options(method).values())


def test_every_method_of_the_first_release_is_there():
    assert {"magnitude", "wanda", "ria", "sparsegpt", "random"} <= set(PRUNERS.names())


def test_a_wrong_name_says_the_right_ones():
    with pytest.raises(UnknownName) as error:
        PRUNERS.get("wnada")

    assert str(error.value) == (
        "no pruning method is called 'wnada'. Did you mean 'wanda' or 'mwanda'? "
        f"Known: {', '.join(PRUNERS.names())}. Add one in babelpress/prune/."
    )


def test_options_are_read_from_the_signature():
    assert PRUNERS.options("sparsegpt") == {"damp": 0.01, "columns": 128}
    assert PRUNERS.options("magnitude") == {}


def test_an_unknown_option_says_the_known_ones():
    with pytest.raises(BadSetting) as error:
        PRUNERS.check_options("sparsegpt", {"blocks": 3, "damp": 0.1})

    assert str(error.value) == (
        "sparsegpt has no option blocks. It accepts damp=0.01, columns=128."
    )


def test_a_method_without_options_says_so():
    match = r"magnitude has no option damp\. It accepts no options\."
    with pytest.raises(BadSetting, match=match):
        PRUNERS.check_options("magnitude", {"damp": 0.1})


def test_known_options_pass():
    given = {"power": 1.0}

    PRUNERS.check_options("ria", given)

    assert set(given) <= set(PRUNERS.options("ria"))


def test_what_a_method_needs_is_read_from_its_module():
    assert [("gram" in PRUNERS.facts(m).get("READS", ())) for m in ("wanda", "sparsegpt")] == [
        False,
        True,
    ]
    assert [PRUNERS.facts(m).get("STACKS", False) for m in ("wanda", "sparsegpt")] == [
        False,
        True,
    ]
