"""SparseGPT against Optimal Brain Surgeon by explicit inverses, least squares and brute force."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from babelpress.errors import BadMoments, BadSetting
from babelpress.numerics.patterns import KeepOf, PerGroup, PerLayer, PerRow, Spared, Stacked
from babelpress.prune import magnitude, wanda
from babelpress.prune.sparsegpt import prune


def slow_sparsegpt(weight, gram, pattern, together, damp):
    """Algorithm 1 in float64: the inverse of what remains is computed anew for every column."""
    weight, inputs = weight.copy(), len(gram)
    hessian = gram + damp * np.diag(gram).mean() * np.eye(inputs)
    inverses = [np.linalg.inv(hessian[c:, c:]) for c in range(inputs)]
    keep = np.ones(weight.shape, dtype=bool)
    for c in range(inputs):
        if c % together == 0:
            chosen = range(c, min(c + together, inputs))
            score = np.stack([weight[:, j] ** 2 / inverses[j][0, 0] for j in chosen], axis=1)
            keep[:, chosen] = pattern.keep_among(torch.as_tensor(score.T), c, inputs).numpy().T
        for row in np.flatnonzero(~keep[:, c]):
            weight[row, c:] -= weight[row, c] / inverses[c][0, 0] * inverses[c][:, 0]
            weight[row, c] = 0
    return weight


@pytest.mark.parametrize("damp", [0.01, 0.2])
@pytest.mark.parametrize(
    ("pattern", "columns", "together"),
    [
        (PerRow(0.29), 128, 128),
        (PerRow(0.7), 5, 5),
        (PerLayer(0.3), 5, 24),
        (PerGroup(0.3, 8), 128, 8),
        (PerGroup(0.7, 7), 3, 7),
        (PerGroup(0.7, 6), 16, 6),
        (KeepOf(1, 4), 128, 4),
        (KeepOf(1, 3), 8, 3),
        (KeepOf(5, 8), 128, 8),
        (KeepOf(2, 8), 8, 8),
        (KeepOf(7, 12), 128, 12),
        (KeepOf(20, 24), 128, 24),
        (Stacked((PerLayer(0.3),) * 2, (2, 5)), 5, 24),
        (Stacked((KeepOf(1, 4),) * 2, (2, 5)), 8, 4),
    ],
    ids=str,
)
def test_matches_the_algorithm_with_explicit_inverses(
    weight_OI, stats, pattern, columns, together, damp
):
    gram = stats.require_gram().double().numpy()
    expected = slow_sparsegpt(weight_OI.double().numpy(), gram, pattern, together, damp)

    pruned_OI = prune(weight_OI, stats, pattern, damp=damp, columns=columns).numpy()

    assert ((pruned_OI == 0) == (expected == 0)).all()
    np.testing.assert_allclose(pruned_OI, expected, atol=1e-4)


def test_a_weight_of_the_first_column_is_made_up_for_by_least_squares(weight_OI, saw, inputs):
    weight_OI[:, 0] = 1e-3  # sure to be the lowest
    stats = saw({"swh_Latn": inputs["swh_Latn"]}, {"swh_Latn": 1.0})

    pruned_OI = prune(weight_OI, stats, PerRow(0.05), damp=0.0)

    x, w = inputs["swh_Latn"].double().numpy(), weight_OI.double().numpy()
    assert PerRow(0.05).count(1, 24) == 1
    assert (pruned_OI[:, 0] == 0).all()
    best = np.linalg.lstsq(x[:, 1:], x @ w.T, rcond=None)[0].T
    np.testing.assert_allclose(pruned_OI[:, 1:], best, atol=1e-5)


@pytest.mark.parametrize("pattern", [PerRow(0.29), PerLayer(0.7), PerGroup(0.3, 8), KeepOf(1, 4)])
def test_inputs_that_have_nothing_to_do_with_one_another_make_it_magnitude(
    weight_OI, stats, pattern
):
    alike = replace(stats, gram_II=2.5 * torch.eye(24), _factors={})

    assert torch.equal(magnitude.prune(weight_OI, alike, pattern), prune(weight_OI, alike, pattern))


def lost(x, weight, new):
    return ((x @ (weight - new).T) ** 2).sum()


def best_of_all_masks(x, weight, drop):
    """Exhaustive search for one row: every mask, the survivors by least squares."""
    target = x @ weight
    columns = range(len(weight))
    errors = []
    for gone in combinations(columns, drop):
        stay = [c for c in columns if c not in gone]
        refit = np.linalg.lstsq(x[:, stay], target, rcond=None)[0]
        errors.append(((target - x[:, stay] @ refit) ** 2).sum())
    return min(errors)


def test_no_method_beats_exhaustive_search_and_this_comes_nearest(saw):
    methods = {"sparsegpt": prune, "wanda": wanda.prune, "magnitude": magnitude.prune}
    ratios = {name: [] for name in methods}
    for seed in range(30):
        random = np.random.default_rng(seed)
        x = random.normal(size=(40, 7)) @ random.normal(size=(7, 7))
        weight = random.normal(size=(1, 7))
        stats = saw({"swh_Latn": torch.as_tensor(x)}, {"swh_Latn": 1.0})
        best = best_of_all_masks(x, weight[0], drop=2)
        for name, method in methods.items():
            new = method(torch.as_tensor(weight).float(), stats, PerRow(0.3)).double().numpy()
            ratios[name].append(lost(x, weight, new) / best)

    assert all(min(ratio) > 1 - 1e-4 for ratio in ratios.values())
    typical = {name: np.exp(np.mean(np.log(ratio))) for name, ratio in ratios.items()}
    assert typical["sparsegpt"] < typical["wanda"] < typical["magnitude"]


@pytest.mark.parametrize("pattern", [PerRow(0.29), PerLayer(0.7), PerGroup(0.3, 8), KeepOf(1, 4)])
def test_the_survivors_make_up_for_some_of_the_loss(weight_OI, stats, pattern):
    adapted_OI = prune(weight_OI, stats, pattern)

    left_alone_OI = weight_OI.masked_fill(adapted_OI == 0, 0)
    gram_II = stats.require_gram()
    lost_OI, also_OI = weight_OI - adapted_OI, weight_OI - left_alone_OI
    assert (lost_OI @ gram_II * lost_OI).sum() < (also_OI @ gram_II * also_OI).sum()


def test_block_size_does_not_matter_where_the_mask_does_not_depend_on_it(weight_OI, stats):
    for pattern in (PerLayer(0.3), PerGroup(0.3, 4), KeepOf(1, 4)):
        small_OI, large_OI = (prune(weight_OI, stats, pattern, columns=b) for b in (4, 128))

        assert torch.equal(small_OI == 0, large_OI == 0)
        torch.testing.assert_close(small_OI, large_OI, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pattern", [PerRow(0.29), PerLayer(0.7), PerGroup(0.3, 8), KeepOf(1, 4)])
def test_a_stack_of_linears_is_each_by_itself(weight_OI, stats, pattern):
    stacked_OI = prune(weight_OI, stats, Stacked((pattern,) * 2, (2, 5)))

    apart_OI = torch.cat([prune(part, stats, pattern) for part in weight_OI.split((2, 5))])
    assert torch.equal(stacked_OI == 0, apart_OI == 0)
    torch.testing.assert_close(stacked_OI, apart_OI, atol=1e-5, rtol=1e-4)


def test_inputs_never_seen_alive_go_first_and_no_more_go_than_asked(weight_OI, saw, inputs, shares):
    dead = [1, 6, 8, 20]
    for x_TI in inputs.values():
        x_TI[:, dead] = 0
    stats = saw(inputs, shares)

    few_OI = prune(weight_OI, stats, PerRow(0.1))
    many_OI = prune(weight_OI, stats, PerRow(0.29))

    assert ((few_OI == 0).sum(1) == 2).all()
    assert (few_OI[:, dead] == 0).sum() == 7 * 2
    assert torch.equal(weight_OI[few_OI != 0], few_OI[few_OI != 0])  # nothing to make up for
    assert ((many_OI == 0).sum(1) == 6).all()
    assert (many_OI[:, dead] == 0).all()


def test_half_precision_weights_are_adapted_in_full_precision(weight_OI, stats):
    half_OI = weight_OI.bfloat16()

    pruned_OI = prune(half_OI, stats, PerRow(0.29))

    assert torch.equal(prune(half_OI.float(), stats, PerRow(0.29)).bfloat16(), pruned_OI)


def test_moments_without_a_gram_matrix_are_refused(weight_OI, stats):
    with pytest.raises(BadMoments, match=r"blocks\.0\.mlp\.up hold no Gram matrix.*--gram"):
        prune(weight_OI, replace(stats, gram_II=None, _factors={}), PerRow(0.29))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"columns": 0}, "columns must be at least 1, not 0"), ({"damp": -1.0}, "damp must be zero")],
)
def test_options_out_of_range_are_refused(weight_OI, stats, options, message):
    with pytest.raises(BadSetting, match=message):
        prune(weight_OI, stats, PerRow(0.29), **options)


@pytest.mark.parametrize("columns", [1, 5, 7, 128])
@pytest.mark.parametrize("rows", [(), (1, 4)])
def test_a_few_columns_at_a_time_what_is_protected_stays_too(weight_OI, stats, columns, rows):
    pattern = Spared(PerRow(0.5), frozenset(rows), frozenset({0, 1, 2, 3, 4, 20}))

    pruned_OI = prune(weight_OI, stats, pattern, columns=columns)

    drops = [12] * 7 if not rows else [17, 0, 17, 17, 0, 17, 16]
    assert (pruned_OI == 0).sum(1).tolist() == drops
    assert pruned_OI[:, sorted(pattern.columns)].all()
