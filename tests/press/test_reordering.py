"""A method that permutes inputs: the model computes what it did, and zeros are a true n of m."""

from dataclasses import replace

import pico
import pytest
import torch
from pressing import SHARES, all_linears, dense_moments, loud, text, weights_of
from running import do, plan, refusal, weights

from babelpress.errors import BadSetting
from babelpress.models.linears import weight
from babelpress.models.walk import Walk
from babelpress.moments.blend import blend
from babelpress.numerics.patterns import KeepOf, parse
from babelpress.press.blocks import (
    find_all_reorders,
    looking,
    predicted_damage,
    press_compressed,
    press_dense,
)
from babelpress.press.method import Pruner
from babelpress.press.reordering import reordered
from babelpress.prune import PRUNERS, ria
from babelpress.steps import KINDS

pytestmark = pytest.mark.usefixtures("one_thread")
IDS_BT = torch.arange(3, 60)[None]
PERMUTED = Pruner.of("ria", "2of4", {"permute": True})
PLAIN = Pruner.of("ria", "2of4")


def skewed(family="llama"):
    """A model whose large channels lie beside one another, so that an order is worth something."""
    walk = Walk(loud(family))
    with torch.no_grad():
        for (_, name), layer in all_linears(walk).items():
            if any(part in name for part in ("down", "o_proj", "out_proj", "fc2", "4h_to_h")):
                weight(layer).mul_(torch.linspace(2, 0.02, weight(layer).shape[1]))
    return walk


def kept_scores(walk, moments):
    """What stays of the scores of ria in every linear, of weights that are not pruned yet."""
    found = {}
    for (index, name), layer in all_linears(walk).items():
        (site,) = (each for each in moments[index] if name in each.linears)
        stats = blend(moments[index][site], SHARES, name)
        score_OI = ria.score(weight(layer), stats, 0.5)
        found[index, name] = float((score_OI * parse("2of4").keep(score_OI)).sum())
    return found


@pytest.mark.parametrize("family", ["llama", "gemma4", "bloom"])
def test_the_order_alone_leaves_the_logits_as_they_were(family):
    walk = skewed(family)
    moments, old, before = dense_moments(walk), weights_of(walk), walk.model(IDS_BT).logits
    reorders = find_all_reorders(walk, PERMUTED)

    for index in range(2):
        look = looking(walk, index, moments[index], PERMUTED, SHARES)
        reordered(walk, index, moments[index], PERMUTED, look, reorders[index])

    after = walk.model(IDS_BT).logits
    assert (after - before).norm() < 2e-6 * before.norm()
    moved = [place for place, each in weights_of(walk).items() if not torch.equal(each, old[place])]
    assert len(moved) >= 4


@pytest.mark.parametrize("family", ["llama", "gemma3", "opt"])
def test_the_zeros_are_a_true_n_of_m_and_more_of_the_scores_stays(family):
    walk, plain = skewed(family), skewed(family)
    moments = dense_moments(plain)
    without = kept_scores(plain, moments)
    old = weights_of(walk)

    reports = press_dense(walk, moments.__getitem__, PERMUTED, SHARES)

    for (index, name), new_OI in weights_of(walk).items():
        assert (new_OI.unflatten(1, (-1, 4)) == 0).sum(2).eq(2).all()
        before_N = old[index, name].flatten().sort().values
        survivors = new_OI[new_OI != 0]
        assert torch.isin(survivors, before_N).all()
    stuck = {(each.block, each.site) for each in reports if not each.ordered}
    moved = {(each.block, each.site) for each in reports if each.ordered}
    assert len(moved) == len(stuck) == 4
    again = skewed(family)
    reorders = find_all_reorders(again, PERMUTED)
    in_order = {}
    for index in range(2):
        look = looking(again, index, moments[index], PERMUTED, SHARES)
        in_order[index] = reordered(again, index, moments[index], PERMUTED, look, reorders[index])
    with_order = kept_scores(again, {at: each.moments for at, each in in_order.items()})
    gains = {place: with_order[place] / without[place] for place in without}
    assert all(gain > 1 - 1e-6 for gain in gains.values())
    assert max(gains.values()) > 1.02
    assert sum(gain > 1.001 for gain in gains.values()) == len(moved)


def test_damage_is_that_to_the_dense_model_in_its_new_order():
    walk, plain = skewed(), skewed()
    moments, before = dense_moments(walk), walk.model(IDS_BT).logits

    ordered = press_dense(walk, moments.__getitem__, PERMUTED, SHARES)
    as_is = press_dense(plain, moments.__getitem__, PLAIN, SHARES)

    lost, lost_as_is = (
        sum(
            d.numerator / d.denominator
            for r in reports
            if r.site == "mlp.down_proj"
            for d in r.damage.values()
        )
        for reports in (ordered, as_is)
    )
    assert 0 < lost < lost_as_is
    far, further = ((w.model(IDS_BT).logits - before).norm() for w in (walk, plain))
    assert far < 1.5 * further


def test_what_a_site_saw_moves_with_its_inputs():
    walk = skewed()
    moments = dense_moments(walk)
    look = looking(walk, 0, moments[0], PERMUTED, SHARES)
    reorders = find_all_reorders(walk, PERMUTED)

    found = reordered(walk, 0, moments[0], PERMUTED, look, reorders[0]).moments

    seen = dense_moments(walk)[0]  # of the model that is in order now
    moved = 0
    for site, by_language in seen.items():
        for tag, expected in by_language.items():
            for name, tensor in expected.tensors().items():
                other = found[site][tag].tensors()[name]
                torch.testing.assert_close(other, tensor, rtol=1e-4, atol=1e-3)
            moved += not torch.equal(found[site][tag].sumsq_I, moments[0][site][tag].sumsq_I)
    assert moved == 2 * len(SHARES)


def test_blocks_that_are_fed_pressed_blocks_are_permuted_too():
    walk = skewed()

    reports = press_compressed(walk, text(), PERMUTED, SHARES)

    assert sum(report.ordered for report in reports) == 4
    for new_OI in weights_of(walk).values():
        assert (new_OI.unflatten(1, (-1, 4)) == 0).sum(2).eq(2).all()


def test_predicted_damage_leaves_the_model_and_its_order_alone():
    walk = skewed()
    moments, old = dense_moments(walk), weights_of(walk)

    predicted_damage(walk, moments.__getitem__, PERMUTED, SHARES)

    assert all(torch.equal(each, old[place]) for place, each in weights_of(walk).items())


def test_a_site_that_is_skipped_stays_in_order_and_is_not_named():
    walk = skewed()
    moments, old = dense_moments(walk), weights_of(walk)

    reports = press_dense(
        walk, moments.__getitem__, replace(PERMUTED, skip=("mlp.down_proj",)), SHARES
    )

    assert torch.equal(old[0, "mlp.down_proj"], weights_of(walk)[0, "mlp.down_proj"])
    assert {r.site for r in reports if r.ordered} == {"self_attn.o_proj"}


def test_without_the_option_nothing_moves():
    stats = blend(dense_moments(skewed())[0].popitem()[1], SHARES, "here")
    weight_OI = torch.rand(5, len(stats.mean_square_I))
    parts_GS = (torch.arange(weight_OI.shape[1])[None],)

    order_I = ria.order_inputs(weight_OI, stats, KeepOf(2, 4), parts_GS)

    assert torch.equal(order_I, torch.arange(weight_OI.shape[1]))
    assert not PLAIN.reorders
    assert PERMUTED.reorders == 4
    assert PRUNERS.options("ria") == {"power": 0.5, "permute": False}


# ---- in a step -----------------------------------------------------------------------------


def test_a_step_names_the_sites_that_stay_in_order(model, tmp_path):
    step = {"method": "ria", "pattern": "2of4", "options": {"permute": True}}

    (row,) = do(plan(model, step), tmp_path / "run")["steps"]

    assert row["unpermuted"] == [
        f"{block}.{site}"
        for block in range(2)
        for site in ("self_attn.q_proj+k_proj+v_proj", "mlp.gate_proj+up_proj")
    ]
    prune = KINDS.module("prune")
    told = prune.tell(prune.Report.model_validate(row))
    assert told.lines[1].startswith("Not permuted, for no layer before can: 0.self_attn.q_proj+")
    assert any("stand in another order" in remark for remark in told.remarks)
    for name, each in weights(tmp_path / "run").items():
        if name.endswith("_proj.weight"):
            assert (each.unflatten(1, (-1, 4)) == 0).sum(2).eq(2).all()
    (plain,) = do(plan(model, {**step, "options": {}}), tmp_path / "plain")["steps"]
    assert "unpermuted" not in plain
    assert row["zeros"] == plain["zeros"]


def test_experts_stay_in_order_and_are_named(tmp_path):
    folder = tmp_path / "experts"
    pico.model("qwen3_moe").save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    step = {"method": "ria", "pattern": "2of4", "options": {"permute": True}, "min_tokens": 1}

    (row,) = do(plan(folder, step), tmp_path / "run")["steps"]

    assert "0.mlp.experts.*.down_proj" in row["unpermuted"]
    assert "0.self_attn.o_proj" not in row["unpermuted"]


@pytest.mark.parametrize("pattern", ["0.5", "0.5/layer", "0.5/16"])
def test_other_patterns_have_no_order_to_gain_from_which_is_told_at_the_start(model, pattern):
    options = {"permute": True}
    words = (
        f"ria's permute is for patterns that keep n of m, not for {pattern}. Leave it out, or use "
        "--pattern 2of4."
    )

    assert refusal(BadSetting, Pruner.of, "ria", pattern, options) == words
    step = {"method": "ria", "pattern": pattern, "options": options}
    assert words in refusal(BadSetting, plan, model, step)


def test_numbers_that_are_protected_must_not_move(model, tmp_path):
    step = {"method": "ria", "pattern": "2of4", "options": {"permute": True}}
    protect = {"features": {"0.mlp.down_proj": [1]}}

    words = refusal(BadSetting, do, plan(model, {**step, "protect": protect}), tmp_path / "run")

    assert words.startswith("ria's permute moves the neurons and features that protect has")
    do(plan(model, {**step, "protect": "used:sw:0.05"}), tmp_path / "used")
