"""Moments against plain sums in NumPy float64; blends and damage against their definitions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from babelpress.errors import BadMoments, BadSetting, NotFinite
from babelpress.moments.accumulator import Accumulator, vectors_of
from babelpress.moments.blend import blend
from babelpress.moments.damage import damage, damages
from babelpress.moments.moments import OPTIONAL, Moments
from babelpress.numerics.products import precise_for
from babelpress.numerics.triangles import folded
from babelpress.prune import PRUNERS
from babelpress.quantize import QUANTIZERS
from babelpress.system import files

INPUTS = 150  # more than one piece of the Gram matrix, and an uneven last one


def slow_moments(x_TI):
    """The definitions in float64, one token at a time."""
    inputs = x_TI.shape[1]
    sums = {name: np.zeros(inputs) for name in ("sum", "sumabs", "sumsq", "absmax", "positive")}
    gram = np.zeros((inputs, inputs))
    for x in x_TI.double().numpy():
        sums["sum"] += x
        sums["sumabs"] += abs(x)
        sums["sumsq"] += x * x
        sums["absmax"] = np.maximum(sums["absmax"], abs(x))
        sums["positive"] += x > 0
        gram += np.outer(x, x)
    return {"n": np.array(len(x_TI)), **sums, "gram": gram}


def assert_same(expected, moments, tolerance=2e-6):
    """Equal to `tolerance`, of each tensor's largest entry (sums may cancel to nearly nothing)."""
    tensors = moments.tensors()
    assert expected.keys() == tensors.keys()
    for name, value in expected.items():
        assert np.abs(tensors[name].numpy() - value).max() <= tolerance * np.abs(value).max(), name


def inputs_of(seed, tokens, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    x_TI = torch.randn(tokens, INPUTS, generator=generator) * torch.linspace(0.01, 30, INPUTS)
    x_TI[:, 3] = 0
    return (x_TI + torch.linspace(-1, 2, INPUTS)).to(dtype)


def gathered(*parts, gram=True, **options):
    sums = Accumulator(INPUTS, gram, **options)
    for part in parts:
        sums.add(part)
    return sums.finish()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_moments_are_the_plain_sums(dtype):
    x_TI = inputs_of(0, 700, dtype)

    assert_same(slow_moments(x_TI), gathered(x_TI))


def test_half_precision_inputs_are_summed_exactly_enough_where_half_precision_sums_are_not():
    x_TI = inputs_of(0, 3000, torch.bfloat16)
    exact = slow_moments(x_TI)["gram"]

    def error(gram_II):
        return np.abs(gram_II.float().numpy() - exact).max() / exact.max()

    assert error(x_TI.T @ x_TI) > 1e-3
    gram_II = gathered(x_TI).gram_II
    assert gram_II is not None
    assert error(gram_II) < 2e-6


@pytest.mark.parametrize("size", [1, 7, 256, 257, 700])
def test_batch_size_does_not_matter(size):
    x_TI = inputs_of(0, 700)

    assert_same(slow_moments(x_TI), gathered(*x_TI.split(size)))


def test_how_languages_are_interleaved_does_not_matter():
    x_TI, y_TI = inputs_of(0, 90), inputs_of(1, 60)
    apart = {"swh_Latn": gathered(x_TI), "hin_Deva": gathered(y_TI)}
    mixed = {"swh_Latn": Accumulator(INPUTS, True), "hin_Deva": Accumulator(INPUTS, True)}
    for x_part, y_part in zip(x_TI.split(30), y_TI.split(20), strict=True):
        mixed["hin_Deva"].add(y_part)
        mixed["swh_Latn"].add(x_part)

    for language in apart:
        expected = {name: t.numpy() for name, t in apart[language].tensors().items()}
        assert_same(expected, mixed[language].finish())


def test_parts_add_up():
    x_TI = inputs_of(0, 100)

    assert_same(slow_moments(x_TI), gathered(x_TI[:31]) + gathered(x_TI[31:]))


@pytest.mark.parametrize("folds", [(True, True, True), (True, False, True), (False, True, False)])
def test_folded_matrices_add_up_and_blend_to_the_same_bits(folds):
    """As files of this and of an older version hold them, side by side too."""
    made = by_language()
    stored = {
        tag: replace(each, gram=folded(each.gram)) if fold else each
        for (tag, each), fold in zip(made.items(), folds, strict=True)
    }

    sums = [some["swh_Latn"] + some["hin_Deva"] for some in (stored, made)]
    assert torch.equal(*(each.gram_II for each in sums))
    for shares in (SHARES, dict.fromkeys(SHARES, 1 / 3)):
        blended = [blend(some, shares, "blocks.0.q").gram_II for some in (stored, made)]
        assert torch.equal(*blended)


def test_adding_leaves_both_parts_alone():
    one, other = gathered(inputs_of(0, 5)), gathered(inputs_of(1, 6))
    before = {name: tensor.clone() for name, tensor in one.tensors().items()}

    _ = one + other

    assert all(torch.equal(before[name], tensor) for name, tensor in one.tensors().items())


def test_moments_with_and_without_a_gram_matrix_do_not_add():
    with pytest.raises(BadMoments, match="with and without a Gram matrix"):
        _ = gathered() + gathered(gram=False)


def test_no_tokens_change_nothing():
    sums = Accumulator(INPUTS, True).add(inputs_of(0, 5))
    before = gathered(inputs_of(0, 5)).tensors()

    found = sums.add(torch.empty(0, INPUTS)).finish().tensors()

    assert all(torch.equal(before[name], t) for name, t in found.items())


def test_the_gram_matrix_is_exactly_symmetric():
    gram_II = gathered(inputs_of(0, 300)).gram_II

    assert gram_II is not None
    assert torch.equal(gram_II, gram_II.T)


def test_the_input_is_left_alone():
    x_TI = inputs_of(0, 50)
    before = x_TI.clone()

    gathered(x_TI)

    assert torch.equal(before, x_TI)


def test_a_wider_gram_matrix_on_request():
    moments = gathered(inputs_of(0, 50), gram_dtype=torch.float64)

    assert moments.gram_II is not None
    assert moments.gram_II.dtype == torch.float64
    assert_same(slow_moments(inputs_of(0, 50)), moments)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1e30])
def test_an_input_that_is_not_finite_stops_with_the_place_and_changes_nothing(bad):
    sums = Accumulator(INPUTS, True).add(inputs_of(0, 5))
    before = gathered(inputs_of(0, 5)).tensors()
    x_TI = inputs_of(1, 300)
    x_TI[270, 7] = bad

    with pytest.raises(NotFinite, match=r"blocks\.3\.mlp\.up"):
        sums.add(x_TI, where="blocks.3.mlp.up")

    assert all(torch.equal(before[name], t) for name, t in sums.finish().tensors().items())


@pytest.mark.parametrize("gram", [True, False])
def test_moments_come_back_from_the_disk(tmp_path, gram):
    moments = gathered(inputs_of(0, 20), gram=gram)

    files.save_tensors(tmp_path / "a", moments.tensors())
    back = Moments.from_tensors(files.load_tensors(tmp_path / "a"))

    assert moments.n == back.n == 20
    assert moments.tensors().keys() == back.tensors().keys()
    assert all(torch.equal(t, back.tensors()[name]) for name, t in moments.tensors().items())


def test_half_of_the_moments_is_refused():
    tensors = gathered().tensors()
    del tensors["sumsq"], tensors["absmax"]

    with pytest.raises(BadMoments, match="lack absmax, sumsq"):
        Moments.from_tensors(tensors)


# Unequal shares and token counts, and a language without a share.
SHARES = {"swh_Latn": 0.7, "hin_Deva": 0.3, "eng_Latn": 0.0}
TOKENS = {"swh_Latn": 20, "hin_Deva": 170, "eng_Latn": 40}


def by_language(gram=True):
    return {tag: gathered(inputs_of(i, n), gram=gram) for i, (tag, n) in enumerate(TOKENS.items())}


def test_a_blend_weights_tokens_by_the_shares_whatever_the_number_seen():
    slow = [slow_moments(inputs_of(i, n)) for i, n in enumerate(TOKENS.values())]

    def mean(name):
        return 0.7 * slow[0][name] / 20 + 0.3 * slow[1][name] / 170

    blended = blend(by_language(), SHARES, "blocks.0.q")

    expected = {"mean_square_I": "sumsq", "mean_abs_I": "sumabs", "mean_I": "sum"}
    for field, name in {**expected, "firing_I": "positive", "gram_II": "gram"}.items():
        value = getattr(blended, field).numpy()
        assert np.abs(value - mean(name)).max() <= 2e-6 * np.abs(mean(name)).max(), field
    absmax = np.maximum(slow[0]["absmax"], slow[1]["absmax"])
    np.testing.assert_allclose(blended.absmax_I.numpy(), absmax)
    np.testing.assert_allclose(blended.rms_I().numpy(), np.sqrt(mean("sumsq")), rtol=1e-6)
    assert (blended.tokens, blended.where) == (190, "blocks.0.q")


def test_a_factor_is_computed_once_for_each_damp():
    blended = blend(by_language(), SHARES, "q")

    assert blended.factor(0.01) is blended.factor(0.01)
    assert not torch.equal(blended.factor(0.01), blended.factor(0.3))


@pytest.mark.parametrize("language", ["yor_Latn", "hin_Deva"])
def test_a_language_with_a_share_and_no_tokens_is_named(language):
    moments = {"swh_Latn": gathered(inputs_of(0, 5)), "hin_Deva": gathered()}

    with pytest.raises(BadMoments, match=rf"a share to {language}, of which q saw no token"):
        blend(moments, {"swh_Latn": 0.25, language: 0.75}, "q")


@pytest.mark.parametrize(
    "shares", [{"swh_Latn": 0.9}, {"swh_Latn": 1.5, "hin_Deva": -0.5}, {}, {"swh_Latn": np.nan}]
)
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(BadSetting, match="sum to one"):
        blend(by_language(), shares, "q")


def test_a_missing_gram_matrix_is_asked_for_by_its_option():
    moments = by_language()
    moments["hin_Deva"] = replace(moments["hin_Deva"], gram=None)

    with pytest.raises(BadMoments, match=r"moments of blocks\.0\.q hold no Gram .* --gram"):
        blend(moments, SHARES, "blocks.0.q").require_gram()


def test_damage_is_the_share_of_the_output_that_is_lost():
    x_TI, generator = inputs_of(0, 60), torch.Generator().manual_seed(1)
    weight_OI = torch.randn(9, INPUTS, generator=generator)
    pressed_OI = weight_OI + 0.2 * torch.randn(9, INPUTS, generator=generator)
    x, w, p = (t.double().numpy() for t in (x_TI, weight_OI, pressed_OI))

    lost, kept = damage(weight_OI, pressed_OI, gathered(x_TI))[:2]

    assert lost == pytest.approx(((x @ (w - p).T) ** 2).sum(), rel=1e-5)
    assert kept == pytest.approx(((x @ w.T) ** 2).sum(), rel=1e-5)


def test_damage_without_a_gram_matrix_is_its_diagonal_form():
    x_TI, generator = inputs_of(0, 60), torch.Generator().manual_seed(1)
    weight_OI = torch.randn(9, INPUTS, generator=generator)
    pressed_OI = weight_OI * (torch.rand(9, INPUTS, generator=generator) > 0.25)
    squares = (x_TI.double() ** 2).sum(0)

    lost, kept = damage(weight_OI, pressed_OI, gathered(x_TI, gram=False))[:2]

    assert lost == pytest.approx(
        float(((weight_OI - pressed_OI).double() ** 2 * squares).sum()), rel=1e-6
    )
    assert kept == pytest.approx(float((weight_OI.double() ** 2 * squares).sum()), rel=1e-6)


@pytest.mark.parametrize("gram", [True, False])
def test_damage_to_many_languages_is_the_damage_to_each(gram):
    moments = by_language(gram)
    weight_OI = torch.randn(9, INPUTS, generator=torch.Generator().manual_seed(1))

    many = damages(weight_OI, weight_OI * 0.75, moments)

    assert many == {tag: damage(weight_OI, weight_OI * 0.75, m) for tag, m in moments.items()}
    for lost, kept, *_ in many.values():
        assert lost / kept == pytest.approx(0.0625, rel=1e-5)


def test_damage_wants_a_gram_matrix_of_all_languages_or_of_none():
    moments = by_language()
    moments["hin_Deva"] = replace(moments["hin_Deva"], gram=None)

    with pytest.raises(BadMoments, match="some have none"):
        damages(torch.ones(2, INPUTS), torch.zeros(2, INPUTS), moments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("gram", [True, False])
@pytest.mark.parametrize("vectors", [(), ("sumabs",), ("sum", "positive")])
def test_moments_of_fewer_vectors_are_the_same_in_those_that_they_keep(vectors, gram, dtype):
    x_TI = inputs_of(4, 300, dtype)
    parts = x_TI.split(130)
    whole, few = gathered(*parts, gram=gram), gathered(*parts, gram=gram, vectors=vectors)

    expected, found = whole.tensors(), few.tensors()
    always = {"n", "sumsq", "absmax"} | ({"gram"} if gram else set())
    assert found.keys() == always | {*vectors}
    exact = found.keys() - {"sumsq"} if gram else found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in exact)
    if gram:
        assert torch.equal(found["sumsq"], found["gram"].diagonal().double())
    torch.testing.assert_close(found["sumsq"], expected["sumsq"], rtol=2e-6, atol=0)


def test_what_was_not_kept_stays_unknown():
    x_TI = inputs_of(5, 70)
    whole, few = gathered(x_TI), gathered(x_TI, vectors=())

    both = few + few
    assert (both.n, both.sum_I, both.sumabs_I, both.positive_I) == (140, None, None, None)
    stats = blend({"a": few, "b": whole}, {"a": 0.5, "b": 0.5}, "here")
    assert (stats.mean_I, stats.mean_abs_I, stats.firing_I) == (None, None, None)
    with pytest.raises(BadMoments, match="here hold no sum of"):
        stats.require_mean_abs()
    with pytest.raises(BadMoments, match=r"here hold no sum of x, .*\"sum\""):
        stats.require_mean()
    with pytest.raises(BadMoments, match="here hold no count of x > 0"):
        stats.require_firing()
    with pytest.raises(BadMoments, match="lack positive, sum, sumabs"):
        Moments.from_tensors(few.tensors())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_moments_of_no_vectors_refuse_what_all_moments_refuse(dtype, bad):
    x_TI = inputs_of(6, 70, dtype)
    x_TI[50, 7] = bad
    for gram in (True, False):
        few = Accumulator(INPUTS, gram, vectors=())

        with pytest.raises(NotFinite, match="input of there"):
            few.add(x_TI, where="there")
        assert few.n == 0


@pytest.mark.parametrize("methods", [PRUNERS, QUANTIZERS])
def test_methods_read_what_can_be_kept(methods):
    kept = {*OPTIONAL, "gram", "languages", "against"}
    for name in methods.names():
        assert {*methods.facts(name).get("READS", ())} <= kept


@pytest.mark.parametrize("gram", [True, False])
def test_other_names_and_one_named_twice_change_nothing(gram):
    x_TI = inputs_of(7, 90)
    expected = gathered(x_TI, gram=gram, vectors=OPTIONAL)
    sums = Accumulator(INPUTS, gram, vectors=("sumsq", "absmax", "sum", *OPTIONAL))
    named = ["absmax", "sum", "sumabs", "sum", "positive"]
    sums.take(vectors_of(x_TI, named, gram=gram, where="there"), x_TI)
    found = sums.finish()

    assert found.tensors().keys() == expected.tensors().keys()
    assert all(torch.equal(each, found.tensors()[n]) for n, each in expected.tensors().items())


def test_squares_are_not_the_matrix_itself():
    moments = gathered(inputs_of(9, 50), gram_dtype=torch.float64, vectors=())

    assert moments.gram_II is not None
    assert torch.equal(moments.sumsq_I, moments.gram_II.diagonal())
    assert moments.sumsq_I.data_ptr() != moments.gram_II.data_ptr()


def test_numbers_of_one_byte_have_a_largest():
    x_TI = torch.tensor([[0.5, -3.0], [1.0, 2.0]]).to(torch.float8_e4m3fn)
    few = Accumulator(2, gram=False, vectors=()).add(x_TI).finish()

    assert vectors_of(x_TI, (), gram=True, where="there").absmax_I.tolist() == [1.0, 3.0]
    assert (few.absmax_I.tolist(), few.sumsq_I.tolist()) == ([1.0, 3.0], [1.25, 13.0])


def test_squares_that_are_too_large_only_in_sum_are_refused():
    few = Accumulator(2, gram=True, vectors=()).add(torch.full((3, 2), 1.5e19))

    with pytest.raises(NotFinite, match="input of there"):
        few.finish(where="there")


def test_squares_keep_their_digits_where_products_may_lose_theirs():
    x_TI = torch.randn(512, 256, generator=torch.Generator().manual_seed(0)).bfloat16()
    x_TI[:, 0] = 1.0078125  # its square rounds down every time

    with precise_for(torch.bfloat16):
        found = Accumulator(256, gram=False).add(x_TI).finish()

    exact_TI = x_TI.double()
    torch.testing.assert_close(found.sumsq_I, exact_TI.square().sum(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(found.sumabs_I, exact_TI.abs().sum(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(found.positive_I, (exact_TI > 0).double().sum(0), rtol=0, atol=0)
