"""Factors against NumPy's inverse, compensation against least squares."""

import numpy as np
import pytest
import torch

from babelpress.errors import BabelpressError, BadSetting, NotFinite
from babelpress.numerics.least_squares import ByColumn, ByMask, compensate, inverse_factor
from babelpress.system import lapack

INPUTS = 11


@pytest.fixture
def inputs():
    """400 tokens of unequal, correlated inputs, in float64."""
    random = np.random.default_rng(0)
    return random.normal(size=(400, INPUTS)) @ random.normal(size=(INPUTS, INPUTS))


@pytest.fixture
def weight():
    return np.random.default_rng(1).normal(size=(4, INPUTS))


def factor_of(gram, damp=0.0):
    return inverse_factor(torch.as_tensor(gram), damp, where="blocks.0.q", tokens=400)


@pytest.mark.parametrize("damp", [0.0, 0.01, 0.7])
def test_the_factor_is_of_the_inverse_of_the_damped_matrix(inputs, damp):
    gram = inputs.T @ inputs

    upper = factor_of(gram, damp).double().numpy()

    damped = gram + damp * np.diag(gram).mean() * np.eye(INPUTS)
    np.testing.assert_allclose(upper.T @ upper @ damped, np.eye(INPUTS), atol=1e-4)
    assert (np.tril(upper, -1) == 0).all()
    assert (np.diag(upper) > 0).all()


@pytest.mark.parametrize("exported", [True, False])
def test_the_factor_is_that_of_numpy(inputs, exported, monkeypatch):
    """Also with a SciPy whose LAPACK is called in another way, which none of ours is."""
    assert lapack.reachable()
    if not exported:
        monkeypatch.setattr(lapack, "_ARGUMENTS", "(long)")
        monkeypatch.delattr(lapack, "factor")
    gram = inputs.T @ inputs

    expected = np.linalg.cholesky(np.linalg.inv(gram)).T

    np.testing.assert_allclose(factor_of(gram), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_matrix_is_left_alone(inputs, dtype):
    gram_II = torch.as_tensor(inputs.T @ inputs).to(dtype)
    before = gram_II.clone()

    inverse_factor(gram_II, 0.1, where="q", tokens=1)

    assert torch.equal(before, gram_II)


def test_a_dead_input_stands_alone_and_does_not_dilute_the_damping(inputs):
    inputs[:, [2, 7]] = 0
    live = np.setdiff1d(np.arange(INPUTS), [2, 7])
    gram = inputs.T @ inputs

    upper_II = factor_of(gram, 0.25)

    assert torch.equal(upper_II[[2, 7]], torch.eye(INPUTS)[[2, 7]])
    expected = factor_of(gram[np.ix_(live, live)], 0.25)
    torch.testing.assert_close(upper_II[np.ix_(live, live)], expected)


def test_a_site_that_saw_nothing_but_zeros_has_the_identity():
    assert torch.equal(torch.eye(3), factor_of(np.zeros((3, 3)), 0.01))


def test_a_matrix_without_a_factor_lists_likely_causes():
    with pytest.raises(BabelpressError) as error:
        factor_of(np.array([[1.0, 2.0], [2.0, 1.0]]), 0.01)

    said = str(error.value)
    assert said.startswith(
        "the Gram matrix of blocks.0.q has no Cholesky factor after damping 0.01. Likely causes: ("
    )
    assert said.index("(a) ") < said.index("(b) ") < said.index("(c) ")
    assert "(400) for its inputs (2): raise --tokens; (b)" in said


def test_a_matrix_that_is_not_finite_names_its_place():
    with pytest.raises(NotFinite, match=r"blocks\.0\.q"):
        factor_of(np.array([[1.0, np.nan], [np.nan, 1.0]]))


@pytest.mark.parametrize("damp", [-0.1, float("nan"), float("inf")])
def test_damping_out_of_range_is_refused(damp):
    with pytest.raises(BadSetting, match="damp must be zero or more"):
        factor_of(np.eye(2), damp)


@pytest.mark.parametrize("settled", [1, 4, 10])
@pytest.mark.parametrize("columns", [1, 3, 128])
def test_columns_that_may_still_move_are_least_squares_given_those_that_may_not(
    inputs, weight, settled, columns
):
    """Whatever the first columns are settled to: here they are rounded to halves."""

    def settle(weight_O, column):
        return (weight_O * 2).round() / 2 if column < settled else weight_O

    factor_II = factor_of(inputs.T @ inputs)
    new = (
        compensate(torch.as_tensor(weight), factor_II, ByColumn(settle), columns=columns)
        .double()
        .numpy()
    )

    assert (new[:, :settled] * 2 == (new[:, :settled] * 2).round()).all()
    missing = inputs @ weight.T - inputs[:, :settled] @ new[:, :settled].T
    best = np.linalg.lstsq(inputs[:, settled:], missing, rcond=None)[0].T
    np.testing.assert_allclose(new[:, settled:], best, atol=2e-4)


@pytest.mark.parametrize("together", [1, 2, 3, 20, 64])
@pytest.mark.parametrize("times", [1, 2, 5, 40])
def test_what_begins_is_up_to_date_and_at_the_start_of_a_block_so_is_all_that_follows(
    together, times
):
    """More columns than are told of changes one by one, against blocks of one column."""
    random = np.random.default_rng(3)
    inputs, weight = random.normal(size=(400, 131)), torch.as_tensor(random.normal(size=(3, 131)))
    factor_II, columns = factor_of(inputs.T @ inputs), together * times
    expected_IO = {}
    rule_of_one = ByColumn(lambda w, _: w.round(), lambda r, c: expected_IO.update({c: r.clone()}))
    alone_OI = compensate(weight, factor_II, rule_of_one, columns=1)
    seen = {}

    def begin(rest_RO, column):
        seen[column] = rest_RO.clone()

    rule = ByColumn(lambda w, _: w.round(), begin, together)
    found_OI = compensate(weight, factor_II, rule, columns=columns)

    assert torch.equal(found_OI, alone_OI)  # of rounded weights: nothing came out differently
    assert list(seen) == list(range(0, 131, together))
    for column, rest_RO in seen.items():
        sure = None if column % columns == 0 else together
        assert rest_RO.shape == (131 - column, 3)
        torch.testing.assert_close(rest_RO[:sure], expected_IO[column][:sure], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("together", [1, 2, 4, 6, 8, 20, 131])
@pytest.mark.parametrize("most", [0, 1, 2, 3, 5, 131])
@pytest.mark.parametrize("times", [1, 3])
def test_what_a_mask_settles_at_once_is_what_it_settles_column_by_column(together, most, times):
    random = np.random.default_rng(4)
    inputs = random.normal(size=(400, 131)) @ random.normal(size=(131, 131))
    weight, factor_II = torch.as_tensor(random.normal(size=(9, 131))), factor_of(inputs.T @ inputs)
    keep_IO, seen = torch.ones(131, 9), []
    for start in range(0, 131, together):
        for row in range(9):
            group = np.arange(start, min(start + together, 131))
            keep_IO[random.permutation(group)[: min(most, together - 1)], row] = 0

    def choose(weight_GO, column):
        seen.append((column, weight_GO.clone()))
        return keep_IO[column : column + together]

    def begin(rest_RO, column):
        shown.append((column, rest_RO[:together].clone()))

    shown = []
    rule = ByMask(choose, together, most)
    found_OI = compensate(weight, factor_II, rule, columns=min(128, together * times))
    one_by_one = ByColumn(lambda w, c: w * keep_IO[c], begin, together)
    expected_OI = compensate(weight, factor_II, one_by_one, columns=together)

    assert torch.equal(found_OI == 0, keep_IO.T == 0)
    torch.testing.assert_close(found_OI, expected_OI, atol=2e-4, rtol=2e-4)
    assert [column for column, _ in seen] == [column for column, _ in shown]
    for (_, found_GO), (_, expected_GO) in zip(seen, shown, strict=True):
        torch.testing.assert_close(found_GO, expected_GO, atol=2e-4, rtol=2e-4)


def test_settling_nothing_changes_nothing(inputs, weight):
    weight_OI = torch.as_tensor(weight).float()
    before = weight_OI.clone()

    new_OI = compensate(
        weight_OI, factor_of(inputs.T @ inputs), ByColumn(lambda w, _: w), columns=4
    )

    assert torch.equal(before, new_OI)


def test_the_weight_is_left_alone(inputs, weight):
    weight_OI = torch.as_tensor(weight).float()
    before = weight_OI.clone()

    compensate(weight_OI, factor_of(inputs.T @ inputs), ByColumn(lambda w, _: w * 0), columns=4)

    assert torch.equal(before, weight_OI)
