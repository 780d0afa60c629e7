"""Whole models pressed: against plain loops over the model's own passes, and on every family."""

import math
from copy import deepcopy
from typing import Any

import numpy as np
import pico
import pytest
import torch
from pressing import (
    LENGTH,
    PADDED,
    SHARES,
    SIZES,
    all_linears,
    dense_moments,
    few,
    held_against,
    loud,
    tensors_of,
    text,
    text_of,
    weights_of,
)
from routing import routed

from babelpress.errors import BadSetting, NotFinite, UnknownName
from babelpress.models.experts import Slice
from babelpress.models.linears import weight
from babelpress.models.walk import Walk
from babelpress.numerics.patterns import parse
from babelpress.press.blocks import mean_damage, predicted_damage, press_compressed, press_dense
from babelpress.press.method import Pruner
from babelpress.press.mixture_search import Round, best, minimax
from babelpress.prune import PRUNERS

every_family = pytest.mark.parametrize("family", pico.EVERY)
every_long_law = pytest.mark.parametrize("family", pico.laws())
PATTERNS = ["0.25", "1of4", "0.25/layer", "0.25/128"]


def is_linear_of_a_block(walk, name):
    parents = {
        walk.name(i, linear.replace(f".{module.expert}.", "."))
        if isinstance(module, Slice)
        else walk.name(i, f"{linear}.weight")
        for (i, linear), module in all_linears(walk).items()
    }
    return name in parents


# ---- oracles -------------------------------------------------------------------------------


def seen_inputs(model, modules, blocks):
    """What linears receive in the model's own pass, one sequence at a time: counted rows only.

    Of all runs one after another; a table of relative positions is no text.
    """
    slices = {place: module for place, module in modules.items() if isinstance(module, Slice)}
    modules = {place: module for place, module in modules.items() if place not in slices}
    caught: dict[Any, list[np.ndarray]] = {place: [] for place in modules}
    handles = [
        module.register_forward_pre_hook(
            lambda _, args, place=place: caught[place].append(args[0].double().numpy())
        )
        for place, module in modules.items()
    ]
    rows: dict[Any, dict[str, list]] = {
        place: {tag: [] for tag in blocks} for place in (*modules, *slices)
    }
    for tag, each in blocks.items():
        for row, (ids_T, counted_T) in enumerate(zip(each.ids_BT, each.counted_BT, strict=True)):
            source_S = of_source(each, row)
            for every in caught.values():
                every.clear()
            with torch.no_grad():
                model(ids_T[None]) if source_S is None else model(
                    source_S[None], decoder_input_ids=ids_T[None]
                )
            sides = {len(ids_T): counted_T.numpy()}
            if source_S is not None:
                sides[len(source_S)] = np.ones(len(source_S), dtype=bool)
            for place, every in caught.items():
                of_text = [x for x in every if x.shape[-2] in sides]
                rows[place][tag] += [x.reshape(x.shape[-2:])[sides[x.shape[-2]]] for x in of_text]
            found = routed(model, ids_T) if slices else {}
            for place, linear in slices.items():
                kept = [x for x, token in zip(*found[place], strict=True) if counted_T[token]]
                rows[place][tag].append(np.reshape(kept, (-1, weight(linear).shape[1])))
    for handle in handles:
        handle.remove()
    return {
        place: {tag: np.concatenate(parts) for tag, parts in found.items()}
        for place, found in rows.items()
    }


def of_source(blocks, row):
    """What an encoder reads of one pair, without padding; all of it counts."""
    source = blocks.source
    return None if source is None else source.ids_BS[row][source.there_BS[row]]


def slow_wanda(weight_OI, inputs, shares, fraction):
    """The mask of Wanda from its definition: True where a weight goes."""
    mean_square_I = sum(share * (inputs[tag] ** 2).mean(0) for tag, share in shares.items())
    score_OI = np.abs(weight_OI) * np.sqrt(mean_square_I)
    gone_OI = np.zeros(score_OI.shape, dtype=bool)
    for row, score_I in enumerate(score_OI):
        gone_OI[row, np.argsort(score_I, kind="stable")[: int(len(score_I) * fraction)]] = True
    return gone_OI


def slow_press(model, blocks, shares, fraction, *, compressed):
    """Wanda block by block, each on inputs from a whole pass of the dense or the pressed model."""
    walk, dense = Walk(model), Walk(deepcopy(model))
    for index in range(len(walk.blocks)):
        source = walk if compressed else dense
        here = {place: m for place, m in all_linears(source).items() if place[0] == index}
        inputs = seen_inputs(source.model, here, blocks)
        for place in here:
            weight_OI = weight(all_linears(walk)[place])
            gone_OI = slow_wanda(weight_OI.numpy(), inputs[place], shares, fraction)
            weight_OI[torch.from_numpy(gone_OI)] = 0


# ---- moments -------------------------------------------------------------------------------


@every_family
def test_moments_are_those_of_the_model_s_own_pass(family):
    walk = Walk(pico.model(family))
    expected = seen_inputs(walk.model, all_linears(walk), text_of(walk))
    assert len(walk.blocks) == (4 if family in pico.ENCODER_DECODERS else 2)
    times = 2 if family in pico.TWICE else 1

    for index, of_block in dense_moments(walk).items():
        for site, seen in of_block.items():
            for tag, size in SIZES.items():
                moments = seen[tag]
                assert moments.gram_II is not None
                for linear in site.linears:
                    x_TI = expected[index, linear][tag]
                    assert moments.n == len(x_TI)
                    sides = {size * LENGTH - PADDED, size * (LENGTH - 1) - PADDED}
                    assert "experts" in linear or moments.n / times in sides
                    np.testing.assert_allclose(moments.sumsq_I, (x_TI**2).sum(0), rtol=1e-4)
                    np.testing.assert_allclose(
                        moments.gram_II,
                        x_TI.T @ x_TI,
                        rtol=1e-4,
                        atol=1e-4 * (x_TI**2).sum(0).max(),
                    )


def assert_same_moments(expected, found, tolerance):
    assert expected.keys() == found.keys()
    for index, of_block in expected.items():
        assert of_block.keys() == found[index].keys()
        for site, seen in of_block.items():
            assert seen.keys() == found[index][site].keys()
            for tag, moments in seen.items():
                other = found[index][site][tag].tensors()
                for name, tensor in moments.tensors().items():
                    atol = tolerance * float(tensor.abs().max())
                    torch.testing.assert_close(tensor, other[name], rtol=0, atol=atol)


@pytest.mark.parametrize("family", ["llama", *pico.EXPERTS, "t5", "m2m_100"])
@pytest.mark.parametrize("batch_tokens", [1, 2 * LENGTH, 3 * LENGTH + 1])
def test_moments_do_not_depend_on_the_batch_size(batch_tokens, family):
    # 2 and 3 do not divide 5, 3 and 2: the last batches have a shape of their own
    expected = dense_moments(Walk(pico.model(family)), batch_tokens=1000)

    found = dense_moments(Walk(pico.model(family)), batch_tokens=batch_tokens)

    assert_same_moments(expected, found, 2e-6)


@pytest.mark.parametrize("family", ["gpt2", "mixtral", "mbart"])
def test_moments_do_not_depend_on_the_order_of_languages(family):
    walk = Walk(pico.model(family))
    backwards = dict(reversed(text_of(walk).items()))

    expected = dense_moments(Walk(pico.model(family)))
    found = dense_moments(walk, backwards)

    assert_same_moments(expected, found, 1e-12)


# Encoders by themselves are given no padding.
@pytest.mark.parametrize("family", [*pico.FAMILIES, *pico.ENCODER_DECODERS])
def test_padding_is_never_counted(family):
    walk = Walk(pico.model(family))

    expected = dense_moments(walk, text_of(walk, junk=2))
    found = dense_moments(walk, text_of(walk, junk=pico.VOCABULARY - 1))

    assert_same_moments(expected, found, 1e-6)


@pytest.mark.parametrize(("family", "done"), [("llama", 1), ("qwen3_moe", 1), ("t5", 1), ("t5", 3)])
def test_blocks_that_are_done_are_only_passed_through(family, done):
    walk = Walk(pico.model(family))
    expected = dense_moments(walk)

    found = dense_moments(walk, done=lambda index: index < done)

    assert_same_moments({index: expected[index] for index in range(done, len(expected))}, found, 0)


def test_gathering_leaves_the_model_and_no_hook_behind():
    walk = Walk(pico.model())
    before = tensors_of(walk.model)
    dense_moments(walk)

    assert not any(m._forward_pre_hooks or m._forward_hooks for m in walk.model.modules())
    assert all(torch.equal(before[n], t) for n, t in walk.model.state_dict().items())


def test_inputs_that_are_not_numbers_are_an_error_that_names_the_place():
    walk = Walk(pico.model())
    walk.model.get_parameter("model.layers.0.mlp.down_proj.weight").data[0, 0] = torch.nan

    with pytest.raises(NotFinite, match=r"model\.layers\.1\.self_attn\.q_proj\+.* in eng_Latn"):
        dense_moments(walk)


# ---- whole models --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "family",
    ["llama", "gpt2", "bloom", "deberta_v2", *pico.TWICE, *pico.EXPERTS, "t5", "m2m_100", "marian"],
)
@pytest.mark.parametrize("compressed", [False, True], ids=["dense", "compressed"])
def test_wanda_is_the_plain_loop_over_whole_passes(family, compressed):
    expected, pressed = loud(family), loud(family)
    walk, method = Walk(pressed), Pruner.of("wanda", "0.25", min_tokens=1)
    slow_press(expected, text_of(walk), SHARES, 0.25, compressed=compressed)

    if compressed:
        press_compressed(walk, text_of(walk), method, SHARES, batch_tokens=2 * LENGTH)
    else:
        press_dense(walk, dense_moments(walk, gram=False).__getitem__, method, SHARES)

    found = weights_of(walk)
    total = sum(weight_OI.numel() for weight_OI in found.values())
    # the loop sums in float64: two scores that are all but equal may change places
    unlike = sum(int((w != found[place]).sum()) for place, w in weights_of(Walk(expected)).items())
    assert unlike <= 2e-4 * total


def test_only_compressed_inputs_differ_from_dense_ones_and_only_after_the_first_block():
    walks = {kind: Walk(loud()) for kind in ("dense", "compressed")}
    method = Pruner.of("wanda", "0.75")
    moments = dense_moments(walks["dense"])
    press_dense(walks["dense"], moments.__getitem__, method, SHARES)
    press_compressed(walks["compressed"], text(), method, SHARES)

    dense, compressed = weights_of(walks["dense"]), weights_of(walks["compressed"])
    for place, weight_OI in dense.items():
        unlike = (weight_OI != compressed[place]).double().mean()
        assert unlike == 0 if place[0] == 0 else unlike > 0.01, place


def assert_pressed(walk, before, pattern, reports, where):
    """Exact counts in every linear and row, nothing else touched, and the model still speaks."""
    rule = parse(pattern)
    zeros = 0
    for place, module in all_linears(walk).items():
        gone_OI = weight(module) == 0
        zeros += int(gone_OI.sum())
        assert gone_OI.sum() == rule.count(*gone_OI.shape), (where, place)
        if pattern == "0.25":
            assert (gone_OI.sum(1) == gone_OI.shape[1] // 4).all(), (where, place)
        if pattern == "1of4":
            assert (gone_OI.reshape(len(gone_OI), -1, 4).sum(2) == 3).all(), (where, place)
    assert sum(report.zeros for report in reports) == zeros
    for name, tensor in walk.model.state_dict().items():
        if not is_linear_of_a_block(walk, name):
            assert torch.equal(before[name], tensor), (where, name)
    logits_BTV = pico.passed(walk.model, text()["eng_Latn"].ids_BT).logits
    assert logits_BTV.isfinite().all(), where


def one_pattern_each(turn):
    """Every method with a pattern; the turns together are all of the methods with all patterns."""
    names = PRUNERS.names()
    return [(name, PATTERNS[(n + turn) % len(PATTERNS)]) for n, name in enumerate(names)]


def without_a_contrast(methods):
    """Those that do not read moments of a second text, which are those of the dense model."""
    return [each for each in methods if each[0] != "contrast"]


every_turn = pytest.mark.parametrize(
    "turn", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, len(PATTERNS)))]
)


@every_turn
@every_long_law
def test_every_method_presses_every_family_to_the_exact_count_from_dense_moments(family, turn):
    walk = Walk(pico.model(family))
    before = tensors_of(walk.model)
    moments = held_against(dense_moments(walk))
    for method, pattern in one_pattern_each(turn + len(family)):
        walk.model.load_state_dict(before)
        rule = Pruner.of(method, pattern, min_tokens=1)
        reports = press_dense(walk, moments.__getitem__, rule, SHARES)
        assert_pressed(walk, before, pattern, reports, (method, pattern))


@every_turn
@every_long_law
def test_every_method_presses_every_family_to_the_exact_count_on_compressed_inputs(family, turn):
    walk = Walk(pico.model(family))
    before = tensors_of(walk.model)
    for method, pattern in without_a_contrast(one_pattern_each(turn + len(family) + 1)):
        walk.model.load_state_dict(before)
        rule = Pruner.of(method, pattern, min_tokens=1)
        reports = press_compressed(walk, few(family), rule, SHARES)
        assert_pressed(walk, before, pattern, reports, (method, pattern))


def test_bfloat16_stays_bfloat16():
    walk = Walk(pico.model(dtype=torch.bfloat16))
    before = tensors_of(walk.model)
    for method, _ in without_a_contrast(one_pattern_each(0)):
        walk.model.load_state_dict(before)
        reports = press_compressed(walk, few(), Pruner.of(method, "0.25"), SHARES)
        assert walk.model.dtype is torch.bfloat16
        assert_pressed(walk, before, "0.25", reports, method)


def test_a_method_s_options_reach_it():
    walk = Walk(pico.model())
    moments = dense_moments(walk)
    before = tensors_of(walk.model)
    masks = []
    for seed in (0, 1, 0):
        walk.model.load_state_dict(before)
        method = Pruner.of("random", "0.25", {"seed": seed})
        press_dense(walk, moments.__getitem__, method, SHARES)
        masks.append(weight(all_linears(walk)[0, "mlp.up_proj"]) == 0)

    assert torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0], masks[1])


def test_a_method_is_made_from_words_that_are_checked():
    assert Pruner.of("wanda", "1of4").pattern == parse("1of4")
    with pytest.raises(UnknownName, match="Did you mean 'wanda'"):
        Pruner.of("wnada", "0.25")
    with pytest.raises(BadSetting, match="sparsegpt has no option dampp"):
        Pruner.of("sparsegpt", "0.25", {"dampp": 0.1})
    with pytest.raises(BadSetting, match="'half' is no sparsity pattern"):
        Pruner.of("wanda", "half")


# ---- skip ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "spared"),
    [
        (["mlp.gate_proj+up_proj"], {"mlp.gate_proj", "mlp.up_proj"}),
        (["mlp.down_proj"], {"mlp.down_proj"}),
        # what reads one input is pressed together, or not at all
        (["self_attn.k_proj"], {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}),
        (["*.o_proj", "mlp.d*"], {"self_attn.o_proj", "mlp.down_proj"}),
    ],
    ids=lambda value: " ".join(sorted(value)),
)
def test_skipped_sites_are_left_alone_and_the_others_pressed(words, spared):
    walk = Walk(pico.model())
    before = weights_of(walk)
    method = Pruner.of("wanda", "0.25", skip=words)

    press_dense(walk, dense_moments(walk).__getitem__, method, SHARES)

    for place, weight_OI in weights_of(walk).items():
        assert torch.equal(before[place], weight_OI) == (place[1] in spared), place


# ---- damage --------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_mean_damage_is_the_mean_over_sites_of_the_share_of_output_lost(family):
    walk = Walk(pico.model(family))
    inputs = seen_inputs(walk.model, all_linears(walk), text())
    moments = dense_moments(walk)
    sites = [(index, site) for index, of_block in moments.items() for site in of_block]
    before = weights_of(walk)
    reports = press_dense(walk, moments.__getitem__, Pruner.of("wanda", "1of4"), SHARES)
    after = weights_of(walk)

    found = mean_damage([r.damage for r in reports])

    for tag in SIZES:
        shares_lost = []
        for index, site in sites:
            lost = had = 0.0
            for linear in site.linears:
                x_TI = inputs[index, linear][tag]
                old_OI, new_OI = before[index, linear].numpy(), after[index, linear].numpy()
                lost += ((x_TI @ (old_OI - new_OI).T) ** 2).sum()
                had += ((x_TI @ old_OI.T) ** 2).sum()
            shares_lost.append(lost / had)
        assert found[tag] == pytest.approx(sum(shares_lost) / len(shares_lost), rel=1e-4)


@pytest.mark.parametrize("method", PRUNERS.names())
def test_predicted_damage_is_that_of_pressing_and_leaves_the_weights_alone(method):
    walk = Walk(pico.model())
    moments = held_against(dense_moments(walk)).__getitem__
    before = tensors_of(walk.model)
    rule = Pruner.of(method, "0.25", skip=["self_attn.o_proj"])

    predicted = predicted_damage(walk, moments, rule, SHARES)

    assert all(torch.equal(before[n], t) for n, t in walk.model.state_dict().items())
    assert predicted == mean_damage([r.damage for r in press_dense(walk, moments, rule, SHARES)])


# ---- minimax -------------------------------------------------------------------------------

NEEDS = {"eng_Latn": 0.3, "swh_Latn": 0.6, "hin_Deva": 2.1}


def inverse_damage(shares):
    """a_l / p_l: the worst is least, and equal to Σ a, where the shares are as the a."""
    return {tag: need / shares[tag] for tag, need in NEEDS.items()}


def slow_minimax(damage_of, languages, rounds, rate):
    """The formula, literally."""
    p = [1 / len(languages)] * len(languages)
    trace = []
    for _ in range(rounds):
        harm = damage_of(dict(zip(languages, p, strict=True)))
        e = [harm[tag] for tag in languages]
        trace.append((p, e))
        mean = sum(e) / len(e)
        p = [p_l * math.exp(rate * (e_l / mean - 1)) for p_l, e_l in zip(p, e, strict=True)]
        p = [p_l / sum(p) for p_l in p]
    return trace


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_minimax_is_its_formula(rate):
    tags = list(NEEDS)
    trace = minimax(inverse_damage, tags, rounds=7, rate=rate)

    assert len(trace) == 7
    for each, (p, e) in zip(trace, slow_minimax(inverse_damage, tags, 7, rate), strict=True):
        assert [each.shares[tag] for tag in tags] == pytest.approx(p, rel=1e-12)
        assert [each.lost[tag] for tag in tags] == pytest.approx(e, rel=1e-12)
        assert each.worst == pytest.approx(max(e))
        assert each.mean == pytest.approx(sum(e) / 3)


def test_minimax_finds_the_known_optimum():
    trace = minimax(inverse_damage, list(NEEDS))

    assert len(trace) == 20
    assert best(trace).worst == pytest.approx(3.0, rel=1e-3)
    for tag, need in NEEDS.items():
        assert best(trace).shares[tag] == pytest.approx(need / 3.0, rel=1e-3)
    for each in trace:
        assert math.fsum(each.shares.values()) == pytest.approx(1, abs=1e-12)
        assert min(each.shares.values()) > 0


def test_the_best_round_has_the_smallest_worst_damage_and_is_the_first_of_equals():
    tags = ["eng_Latn", "swh_Latn"]
    harms = [(0.1, 0.9), (0.5, 0.6), (0.2, 0.7), (0.6, 0.3)]
    trace = [Round(dict.fromkeys(tags, 0.5), dict(zip(tags, e, strict=True))) for e in harms]

    assert best(trace) is trace[1]


def test_languages_that_are_not_asked_for_do_not_count():
    tags = ["eng_Latn", "swh_Latn"]

    def two(shares):
        return {"eng_Latn": 0.2 / shares["eng_Latn"], "swh_Latn": 1.0}

    with_third = minimax(lambda shares: {"zho_Hans": 99.0, **two(shares)}, tags)

    assert with_third == minimax(two, tags)


def test_where_nothing_is_lost_the_shares_stay():
    trace = minimax(lambda p: dict.fromkeys(p, 0.0), list(NEEDS), rounds=3)

    assert [each.shares for each in trace] == 3 * [dict.fromkeys(NEEDS, 1 / 3)]


def test_a_steep_rate_does_not_overflow():
    harm = {"a": 1.0, "b": 9.0}
    trace = minimax(lambda _: harm, ["a", "b"], rounds=3, rate=5000)

    assert trace[-1].shares == {"a": 0.0, "b": 1.0}


def test_minimax_on_a_model_starts_uniform_and_is_never_worse_than_that():
    walk = Walk(pico.model("bloom"))
    moments = dense_moments(walk).__getitem__
    method = Pruner.of("wanda", "1of4")
    uniform = dict.fromkeys(SIZES, 1 / 3)
    told = []

    trace = minimax(
        lambda shares: predicted_damage(walk, moments, method, shares),
        list(SIZES),
        rounds=4,
        progress=lambda what, done, total: told.append((what, done, total)),
    )

    assert trace[0] == Round(uniform, predicted_damage(walk, moments, method, uniform))
    worst = max(trace[0].lost, key=lambda tag: trace[0].lost[tag])
    assert trace[1].shares[worst] > 1 / 3
    assert best(trace).worst <= trace[0].worst
    assert told == [("minimax: round", done, 4) for done in (1, 2, 3, 4)]
