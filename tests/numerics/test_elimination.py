"""Units taken out one by one: against least squares on the inputs themselves, and exhaustively."""

from itertools import combinations

import pytest
import torch

from babelpress.errors import BadMoments
from babelpress.numerics.elimination import (
    eliminated,
    energies_of,
    losses_of,
    refitted,
)

OUTPUTS, INPUTS, TOKENS = 5, 12, 60
WHERE = {"where": "here", "tokens": TOKENS}


@pytest.fixture
def seen():
    """A linear, and inputs that hang together."""
    lot = torch.Generator().manual_seed(3)
    mixing_II = torch.eye(INPUTS) + 0.4 * torch.randn(INPUTS, INPUTS, generator=lot)
    x_TI = torch.randn(TOKENS, INPUTS, generator=lot) @ mixing_II
    return torch.randn(OUTPUTS, INPUTS, generator=lot), x_TI


def gram(x_TI):
    return x_TI.T @ x_TI / len(x_TI)


def lost(weight_OI, x_TI, kept):
    """What least squares on the inputs cannot give back, mean over tokens."""
    kept_TK, output_TO = x_TI[:, kept].double(), x_TI.double() @ weight_OI.T.double()
    fitted_KO = torch.linalg.lstsq(kept_TK, output_TO).solution
    return float((kept_TK @ fitted_KO - output_TO).square().sum() / len(x_TI))


def inverse(x_TI):
    return torch.linalg.inv(gram(x_TI).double())


def units(size):
    return torch.arange(INPUTS).view(-1, size)


@pytest.mark.parametrize("kept", [[0, 1, 2, 5, 7, 8, 11], [3], list(range(INPUTS - 1))])
def test_the_fit_is_that_of_least_squares_on_the_inputs(seen, kept):
    weight_OI, x_TI = seen
    output_TO = x_TI.double() @ weight_OI.T.double()

    found_OK = refitted(weight_OI, gram(x_TI), torch.tensor(kept), damp=0.0, **WHERE)

    expected_KO = torch.linalg.lstsq(x_TI[:, kept].double(), output_TO).solution
    assert torch.allclose(found_OK.double(), expected_KO.T, atol=1e-4)


def test_damping_draws_the_fit_to_the_columns_as_they_were(seen):
    """Rows of λ stand for the wish that nothing changes."""
    weight_OI, x_TI = seen
    kept = [0, 1, 4, 5, 9]
    damp = 0.3
    root = (damp * gram(x_TI)[kept][:, kept].diagonal().mean() * TOKENS).sqrt()
    more_TK = torch.cat([x_TI[:, kept], root * torch.eye(len(kept))]).double()
    output_TO = torch.cat([x_TI @ weight_OI.T, root * weight_OI[:, kept].T]).double()

    found_OK = refitted(weight_OI, gram(x_TI), torch.tensor(kept), damp=damp, **WHERE)

    expected_KO = torch.linalg.lstsq(more_TK, output_TO).solution
    assert torch.allclose(found_OK.double(), expected_KO.T, atol=1e-4)
    far_OK = refitted(weight_OI, gram(x_TI), torch.tensor(kept), damp=1e9, **WHERE)
    assert torch.allclose(far_OK, weight_OI[:, kept], atol=1e-6)


def test_where_nothing_goes_nothing_changes(seen):
    weight_OI, x_TI = seen

    assert torch.equal(
        refitted(weight_OI, gram(x_TI), torch.arange(INPUTS), damp=0.1, **WHERE), weight_OI
    )


def test_inputs_that_repeat_one_another_need_damping(seen):
    weight_OI, x_TI = seen
    x_TI = torch.cat([x_TI[:, :-1], x_TI[:, :1]], 1)
    kept = torch.tensor([0, 3, INPUTS - 1])

    with pytest.raises(BadMoments, match="has no Cholesky factor"):
        refitted(weight_OI, gram(x_TI), kept, damp=0.0, **WHERE)
    assert refitted(weight_OI, gram(x_TI), kept, damp=0.01, **WHERE).isfinite().all()


@pytest.mark.parametrize("size", [1, 3])
def test_losses_are_those_of_least_squares_without_the_unit(seen, size):
    weight_OI, x_TI = seen
    found_U = losses_of(weight_OI.double(), inverse(x_TI), gram(x_TI), units(size))

    for unit_S, found in zip(units(size), found_U, strict=True):
        kept = [each for each in range(INPUTS) if each not in unit_S.tolist()]
        assert float(found) == pytest.approx(lost(weight_OI, x_TI, kept), rel=1e-4)


@pytest.mark.parametrize("size", [1, 3])
def test_the_loss_of_a_language_is_that_of_the_weights_that_were_fitted_for_all(seen, size):
    weight_OI, x_TI = seen
    own_TI = x_TI[: TOKENS // 3]
    found_U = losses_of(weight_OI.double(), inverse(x_TI), gram(own_TI), units(size))

    for unit_S, found in zip(units(size), found_U, strict=True):
        kept = [each for each in range(INPUTS) if each not in unit_S.tolist()]
        fitted_OK = refitted(weight_OI, gram(x_TI), torch.tensor(kept), damp=0.0, **WHERE)
        apart_TO = own_TI[:, kept] @ fitted_OK.T - own_TI @ weight_OI.T
        assert float(found) == pytest.approx(float(apart_TO.square().sum() / len(own_TI)), rel=1e-3)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_energy_is_the_mean_square_of_what_a_unit_adds(seen, size):
    weight_OI, x_TI = seen
    found_U = energies_of(weight_OI, gram(x_TI), units(size))

    for unit_S, found in zip(units(size), found_U, strict=True):
        added_TO = x_TI[:, unit_S] @ weight_OI[:, unit_S].T
        assert float(found) == pytest.approx(float(added_TO.square().sum() / TOKENS), rel=1e-4)


def over_max(lost_LU):
    return lost_LU.amax(0)


@pytest.mark.parametrize(("size", "drop"), [(1, 9), (2, 4), (3, 3)])
@pytest.mark.parametrize("parts", [1, 3])
def test_units_go_as_a_slow_loop_takes_them_out(seen, size, drop, parts):
    """Each time the one whose going, fitted for all, the worst language misses least."""
    weight_OI, x_TI = seen
    scale = torch.logspace(0, 1, parts)[:, None]
    apart = [
        each_TI * torch.roll(torch.linspace(0.3, 2, INPUTS), 4 * place) * scale[place]
        for place, each_TI in enumerate(x_TI.chunk(parts))
    ]
    x_TI = torch.cat(apart)
    all_units = units(size).tolist()
    left, expected = list(range(len(all_units))), []
    weight = weight_OI.double()
    for _ in range(drop):
        here = [i for v in left for i in all_units[v]]
        after = {
            u: fitted(weight, x_TI, here, [i for v in left if v != u for i in all_units[v]])
            for u in left
        }
        least = min(
            left,
            key=lambda u: max(
                float((each.double() @ (after[u] - weight).T).square().sum() / len(each))
                for each in apart
            ),
        )
        weight = after[least]
        left.remove(least)
        expected.append(least)

    grams = [gram(each) for each in apart]
    found = eliminated(weight_OI, inverse(x_TI), grams, units(size), drop, over_max)

    assert found.tolist() == expected


def fitted(weight, x_TI, here, kept):
    """The linear on what is kept, in its old width: columns that went are zero."""
    output = x_TI[:, here].double() @ weight[:, here].T
    solution = torch.linalg.lstsq(x_TI[:, kept].double(), output).solution
    new = torch.zeros_like(weight)
    new[:, kept] = solution.T
    return new


@pytest.mark.parametrize("size", [1, 3])
def test_of_two_units_that_are_the_same_one_goes_though_more_go_than_there_are_twins(seen, size):
    """One of either goes for nothing; then its sister does what both did and is dear."""
    weight_OI, x_TI = seen
    x_TI = torch.cat([x_TI[:, :-size], x_TI[:, :size]], 1)
    x_TI[:, :size] *= 3
    x_TI[:, -size:] *= 3
    h_II = gram(x_TI).double()
    damped = torch.linalg.inv(h_II + 1e-2 * h_II.diagonal().mean() * torch.eye(INPUTS))
    grams = [gram(each) for each in x_TI.chunk(3)]
    number = INPUTS // size

    found = eliminated(weight_OI, damped, grams, units(size), number - 2, over_max)

    assert len({*found.tolist()} & {0, number - 1}) == 1


def test_one_after_the_other_is_nearly_the_best_set_that_there_is(seen):
    weight_OI, x_TI = seen
    went = eliminated(weight_OI, inverse(x_TI), [gram(x_TI)], units(1), 3, over_max)
    every = {
        each: lost(weight_OI, x_TI, [i for i in range(INPUTS) if i not in each])
        for each in combinations(range(INPUTS), 3)
    }

    found = every[tuple(sorted(went.tolist()))]

    assert sorted(every.values()).index(found) < 5  # of 220
