"""How a language's loss is predicted to grow: against the loss itself, and its definition."""

from copy import deepcopy

import pressing
import pytest
import torch
from torch.nn import functional

from babelpress.models import experts
from babelpress.models.linears import linears, set_weight, weight
from babelpress.models.walk import Walk
from babelpress.moments.damage import Damage, by_layer, foretold, site_damage, site_energy
from babelpress.moments.weigh import gather_weighed
from babelpress.press.blocks import (
    damage_of,
    find_all_reorders,
    foretold_of,
    looking,
    press_dense,
)
from babelpress.press.method import Pruner
from babelpress.press.reordering import reordered


def text():
    """Two languages, padded; what their sequences begin with and a mark within do not count."""
    found = pressing.text(sizes={"eng_Latn": 3, "swh_Latn": 2})
    for each in found.values():
        each.counted_BT[:, 0] = False
        each.counted_BT[0, 5] = False
    return found


def seen(model, **options):
    return dict(gather_weighed(Walk(model), text(), gram=True, slopes=True, **options))


@torch.no_grad()
def losses(model):
    """Nats of the next tokens of each language."""
    found = {}
    for tag, each in text().items():
        with experts.computed(model):
            logits_BTV = model(each.ids_BT, use_cache=False).logits[:, :-1].double()
        scored_BT = each.counted_BT[:, 1:]
        target_N = each.ids_BT[:, 1:][scored_BT]
        found[tag] = float(
            functional.cross_entropy(logits_BTV[scored_BT], target_N, reduction="sum")
        )
    return found


def changed(model, by):
    """All linears of a model moved a little, and the weights before and after by site."""
    moved = deepcopy(model)
    lot = torch.Generator().manual_seed(0)
    for block in Walk(moved).blocks:
        for linear in linears(block).values():
            old_OI = weight(linear)
            noise_OI = torch.randn(old_OI.shape, generator=lot) * old_OI.abs().mean()
            set_weight(linear, old_OI + by * noise_OI)
    return moved


def sites_damage(model, moved, moments):
    found = []
    blocks = zip(Walk(model).blocks, Walk(moved).blocks, strict=True)
    for index, (before, after) in enumerate(blocks):
        old_of, new_of = linears(before), linears(after)
        for site, by_language in moments[index].items():
            old = {name: weight(old_of[name]) for name in site.linears}
            new = {name: weight(new_of[name]) for name in site.linears}
            energy = site_energy(old, by_language)
            found.append(site_damage(old, new, by_language, energy))
    return found


@pytest.mark.parametrize("family", ["llama", "bloom", "mixtral"])
def test_the_first_order_is_how_the_loss_changes_where_weights_change_little(family):
    model = pressing.loud(family).double()
    moved = changed(model, 1e-3)
    was, more, less = losses(model), losses(moved), losses(changed(model, -1e-3))

    predicted = foretold(sites_damage(model, moved, seen(model)))

    for tag, each in predicted.items():
        assert each.first_order == pytest.approx((more[tag] - less[tag]) / 2 / was[tag], rel=1e-2)
        assert each.best == pytest.approx(each.curvature + (each.first_order or 0.0))
        assert each.curvature > 0


def test_the_curvature_is_half_of_what_tokens_count_times_what_outputs_change():
    model = pressing.loud()
    moved, moments = changed(model, 0.3), seen(model)

    predicted = foretold(sites_damage(model, moved, moments))

    blocks = zip(Walk(model).blocks, Walk(moved).blocks, strict=True)
    total = 0.0
    for index, (before, after) in enumerate(blocks):
        for site, by_language in moments[index].items():
            gram_II = by_language["swh_Latn"].gram_II
            assert gram_II is not None
            for name in site.linears:
                delta_OI = (weight(linears(after)[name]) - weight(linears(before)[name])).double()
                total += float(torch.einsum("oi,ij,oj->", delta_OI, gram_II.double(), delta_OI))
    nats = next(iter(moments[0].values()))["swh_Latn"].tensors()["nats"]
    assert predicted["swh_Latn"].curvature == pytest.approx(total / 2 / float(nats), rel=1e-4)


def test_without_gradients_there_is_curvature_alone_and_of_even_tokens_nothing():
    model = pressing.loud()
    moved = changed(model, 0.3)
    with_both = foretold(sites_damage(model, moved, seen(model)))
    alone = dict(gather_weighed(Walk(model), text(), gram=True))

    found = foretold(sites_damage(model, moved, alone))

    assert {tag: (each.curvature, None) for tag, each in with_both.items()} == found
    assert all(each.best == each.curvature for each in found.values())
    even = pressing.dense_moments(Walk(model), text())
    assert foretold(sites_damage(model, moved, even)) == {}


def test_experts_are_summed_and_a_language_that_reached_none_loses_nothing_there():
    sites = [
        {"eng_Latn": Damage(1.0, 4.0, -0.5, 10.0), "swh_Latn": Damage(2.0, 9.0, 0.25, 5.0)},
        {"eng_Latn": Damage(3.0, 9.0, 1.5, 10.0)},
    ]

    layers = by_layer([("experts", site) for site in sites])

    assert layers == [{"eng_Latn": Damage(4.0, 13.0, 1.0, 10.0), "swh_Latn": sites[0]["swh_Latn"]}]
    assert foretold(layers) == foretold(sites) == {"eng_Latn": (0.2, 0.1), "swh_Latn": (0.2, 0.05)}


@pytest.mark.parametrize("name", ["wanda", "sparsegpt"])
def test_what_was_pressed_is_told_against_the_dense_weights(name):
    model = pressing.loud()
    dense, moments = deepcopy(model), seen(model)

    reports = press_dense(
        Walk(model), moments.__getitem__, Pruner.of(name, "0.5"), dict.fromkeys(text(), 0.5)
    )

    found = foretold_of(reports)
    assert found.keys() == damage_of(reports).keys() == text().keys()
    assert found == foretold(sites_damage(dense, model, moments))


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_gradients_move_with_the_inputs_and_the_rows_that_change_places(family):
    """What was seen of the model before is what is seen of the one whose channels moved."""
    model = pressing.loud(family)
    for (_, name), layer in pressing.all_linears(Walk(model)).items():
        if any(part in name for part in ("down", "o_proj", "4h_to_h", "dense")):
            weight(layer).mul_(torch.linspace(2, 0.02, weight(layer).shape[1]))
    walk, moments = Walk(model), seen(model)
    method, shares = Pruner.of("ria", "2of4", {"permute": True}), dict.fromkeys(text(), 0.5)
    reorders = find_all_reorders(walk, method)
    moved = {}
    for index in range(2):
        look = looking(walk, index, moments[index], method, shares)
        moved[index] = reordered(walk, index, moments[index], method, look, reorders[index]).moments

    again = seen(model)

    changed = 0
    for index, of_block in again.items():
        for site, by_language in of_block.items():
            for tag, each in by_language.items():
                slope_OI, was_OI = (
                    some[index][site][tag].tensors()["slope"] for some in (moved, moments)
                )
                own_OI = each.tensors()["slope"]
                assert (slope_OI - own_OI).abs().max() <= 1e-4 * own_OI.abs().max()
                changed += (was_OI - own_OI).abs().max() > 1e-2 * own_OI.abs().max()
    assert changed >= 4
