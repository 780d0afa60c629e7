"""Stacked experts: their slices are linears, their rows are seen, their routers left alone."""

from typing import Any

import numpy as np
import pico
import pytest
import torch
from pressing import (
    LENGTH,
    SHARES,
    SIZES,
    dense_moments,
    held_against,
    tensors_of,
    text,
    weights_of,
)
from routing import DOWN, GATE_UP, routed
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from babelpress.errors import BadLayer, BadModel, BadMoments
from babelpress.export._quantized import linears as stored
from babelpress.models import experts
from babelpress.models.experts import Slice
from babelpress.models.linears import linears, set_weight, watched, weight
from babelpress.models.open import Opened
from babelpress.models.save import save_model
from babelpress.models.sites import find_sites
from babelpress.models.walk import Walk
from babelpress.moments.store import Store
from babelpress.numerics.grids import Grid
from babelpress.press.blocks import damage_of, press_compressed, press_dense
from babelpress.press.method import Pruner, Quantizer
from babelpress.prune import PRUNERS
from babelpress.quantize import QUANTIZERS

every_mixture = pytest.mark.parametrize("family", pico.EXPERTS)


def gpt_oss():
    """Transposed stacks, biases, gate and up row by row."""
    torch.manual_seed(0)
    config = GptOssConfig(
        **{**pico._GROUPED, "sliding_window": 8}, num_local_experts=4, num_experts_per_tok=2
    )
    return GptOssForCausalLM(config).eval()


def qwen2_moe():
    """Experts and, beside them, one that all tokens go through, with a gate of its own."""
    torch.manual_seed(0)
    config = Qwen2MoeConfig(
        **{**pico._SHAPE, "num_key_value_heads": 2},
        moe_intermediate_size=16,
        shared_expert_intermediate_size=32,
        num_experts=4,
        num_experts_per_tok=2,
    )
    return Qwen2MoeForCausalLM(config).eval()


def slow_rows(model):
    """Counted rows of `text()` by linear and language, of those that are experts'."""
    rows: dict[Any, dict[str, list]] = {}
    for tag, each in text().items():
        for ids_T, counted_T in zip(each.ids_BT, each.counted_BT, strict=True):
            for place, (xs, tokens) in routed(model, ids_T).items():
                of_place = rows.setdefault(place, {tag: [] for tag in SIZES})
                of_place[tag] += [x for x, t in zip(xs, tokens, strict=True) if counted_T[t]]
    return rows


# ---- linears -------------------------------------------------------------------------------


@every_mixture
def test_every_expert_s_slice_is_a_linear_and_setting_it_leaves_the_others(family):
    model = pico.model(family)
    block = Walk(model).blocks[1]
    before = tensors_of(model)
    name = "model.layers.1.mlp.experts.down_proj"
    linear = linears(block)["mlp.experts.2.down_proj"]

    set_weight(linear, 3 * weight(linear))

    after = tensors_of(model)
    assert torch.equal(after[name][2], 3 * before[name][2])
    assert torch.equal(after[name][:2], before[name][:2])
    assert all(torch.equal(after[n], before[n]) for n in before if n != name)


def test_a_transposed_slice_is_outputs_by_inputs():
    model = gpt_oss()
    first, second = (
        linears(Walk(model).blocks[0])[f"mlp.experts.1.{name}"]
        for name in ("gate_up_proj", "down_proj")
    )
    stack = model.get_parameter("model.layers.0.mlp.experts.gate_up_proj")

    assert weight(first).shape == (96, 32)
    assert weight(second).shape == (32, 48)
    assert torch.equal(weight(first), stack[1].T)
    set_weight(first, 2 * weight(first))
    assert torch.equal(weight(first), stack[1].T)


def test_routers_are_no_linears_and_shared_experts_are():
    names = set(linears(Walk(qwen2_moe()).blocks[0]))

    assert "mlp.shared_expert.down_proj" in names
    assert "mlp.experts.3.gate_up_proj" in names
    assert not {"mlp.gate", "mlp.shared_expert_gate"} & names


def test_stacks_of_an_unknown_kind_are_refused_by_name():
    block = nn.ModuleDict({"up": nn.Linear(4, 4), "conv": nn.Conv1d(4, 4, 2)})
    block["odd"] = nn.Module()
    block["odd"].w = nn.Parameter(torch.ones(3, 4, 5))

    with pytest.raises(BadModel, match=r"layers\.odd\.w is stacked \(3, 4, 5\)"):
        find_sites(block, lambda: block["up"](torch.ones(1, 4)), "layers")


# ---- running -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [*pico.EXPERTS, gpt_oss, qwen2_moe], ids=lambda each: getattr(each, "__name__", each)
)
@pytest.mark.parametrize("theirs", ["eager", "grouped_mm", "batched_mm"])
def test_experts_compute_here_what_they_compute_in_transformers(make, theirs):
    model = pico.model(make) if isinstance(make, str) else make()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    model.set_experts_implementation(theirs)
    ids_BT = text()["eng_Latn"].ids_BT

    with torch.no_grad():
        expected = model(ids_BT).logits
        with experts.computed(model):
            found = model(ids_BT).logits

    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert model.config._experts_implementation == theirs


def test_whatever_fails_the_model_computes_as_before():
    model = pico.model("mixtral")
    walk = Walk(model)
    hidden_BTH = walk.start(text()["eng_Latn"].ids_BT)
    linear = linears(walk.blocks[0])["mlp.experts.0.down_proj"]

    def fail(*_):
        raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"), watched({linear: fail}):
        walk.forward(0, hidden_BTH)

    assert model.config._experts_implementation == "grouped_mm"
    walk.forward(0, hidden_BTH)  # nobody watches any more


def test_experts_that_run_twice_are_noticed():
    model = pico.model("mixtral")
    walk = Walk(model)
    hidden_BTH = walk.start(text()["eng_Latn"].ids_BT)
    walk.forward(0, hidden_BTH)
    block = walk.blocks[0]

    def twice():
        walk.forward(0, hidden_BTH)
        block.get_submodule("mlp")(hidden_BTH)

    with pytest.raises(BadModel, match=r"mlp\.experts\.\d.* \(2 times\)"), experts.computed(block):
        find_sites(block, twice, "layers")


# ---- moments -------------------------------------------------------------------------------


@every_mixture
@pytest.mark.parametrize("batch_tokens", [1, 3 * LENGTH])
def test_every_expert_has_the_moments_of_the_tokens_routed_to_it(family, batch_tokens):
    model = pico.model(family)
    rows = slow_rows(model)

    found = dense_moments(Walk(model), batch_tokens=batch_tokens)

    for (index, name), by_language in rows.items():
        seen = next(of for site, of in found[index].items() if site.name == name)
        assert set(seen) == {tag for tag, xs in by_language.items() if xs}
        for tag, moments in seen.items():
            x_RI = np.stack(by_language[tag])
            assert moments.n == len(x_RI)
            assert moments.sum_I is not None and moments.gram_II is not None
            for mine, slow in (
                (moments.sum_I, x_RI.sum(0)),
                (moments.sumsq_I, (x_RI**2).sum(0)),
                (moments.absmax_I, np.abs(x_RI).max(0)),
                (moments.gram_II, x_RI.T @ x_RI),
            ):
                np.testing.assert_allclose(mine, slow, rtol=1e-4, atol=1e-5 * np.abs(slow).max())


def test_an_expert_that_nobody_chose_has_no_moments_and_they_come_back_so(tmp_path):
    walk = Walk(pico.model("qwen3_moe"))
    (each,) = text(sizes={"eng_Latn": 1}).values()
    each.counted_BT[:, 1:] = False  # a single token goes to two of four experts
    expected = dense_moments(walk, {"eng_Latn": each})
    identity = {"gram": True, "languages": ["eng_Latn"], "model_name": "m", "corpus": "c"}
    identity |= {"dtype": "d", "tokenizer": "t", "model": "f"}
    store = Store.resume(tmp_path / "moments", identity, {}, 2)
    chosen = {index: set() for index in expected}
    for (index, name), (_, tokens) in routed(walk.model, each.ids_BT[0]).items():
        chosen[index] |= {name} if 0 in tokens else set()
    assert [len(names) for names in chosen.values()] == [4, 4]

    for index, of_block in expected.items():
        store.save(index, of_block)
        loaded = store.load(index)
        assert list(loaded) == list(of_block)
        for site, seen in of_block.items():
            assert {tag: m.n for tag, m in loaded[site].items()} == {
                tag: m.n for tag, m in seen.items()
            }
            assert bool(seen) == ("attn" in site.name or site.name in chosen[index])


# ---- pressing ------------------------------------------------------------------------------


METHODS = [
    *(Pruner.of(name, "0.25", min_tokens=1) for name in PRUNERS.names()),
    *(Quantizer.of(name, Grid(3, 16), min_tokens=1) for name in QUANTIZERS.names()),
]


# a contrast is made with moments of the dense model
BOTH_WAYS = [(each, way) for each in METHODS for way in (False, True) if not way & each.contrasts]


@every_mixture
@pytest.mark.parametrize(
    ("method", "compressed"),
    BOTH_WAYS,
    ids=[f"{each.name}-{'compressed' if way else 'dense'}" for each, way in BOTH_WAYS],
)
def test_what_is_pressed_is_saved_and_opened_with_the_very_same_logits(
    family, compressed, method, tmp_path
):
    model = pico.model(family)
    walk, before = Walk(model), tensors_of(model)
    if compressed:
        reports = press_compressed(walk, text(), method, SHARES)
    else:
        moments = held_against(dense_moments(walk))
        reports = press_dense(walk, moments.__getitem__, method, SHARES)

    save_model(Opened("pico", model, pico.tokenizer(), torch.float32), tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)

    ids_BT = text()["swh_Latn"].ids_BT
    with torch.no_grad():
        assert torch.equal(again(ids_BT).logits, model(ids_BT).logits)
    after = again.state_dict()
    for name in before:
        if "experts" in name:
            assert not any(map(torch.equal, before[name], after[name])), name
        if "mlp.gate." in name:
            assert torch.equal(before[name], after[name])
    assert all(set(report.codes) <= {report.site} for report in reports if report.load)


@pytest.mark.parametrize(
    ("method", "sizes", "fewest"),
    [
        (Pruner.of("wanda", "0.25"), (2, 3), [32, 32]),
        (Quantizer.of("gptq", Grid(4, 16)), (5, 3), [64, 96]),  # twice the inputs of either linear
        (Pruner.of("sparsegpt", "0.25", min_tokens=40), (2, 3), [40, 40]),
    ],
    ids=["diagonal", "gram", "asked"],
)
def test_an_expert_that_saw_too_few_tokens_stays_as_it_is_and_is_named(method, sizes, fewest):
    walk = Walk(pico.model("mixtral"))
    before = weights_of(walk)
    moments = dense_moments(walk, text(sizes=dict(zip(SIZES, sizes, strict=False))))
    shares = {"eng_Latn": 0.75, "swh_Latn": 0.25}

    reports = press_dense(walk, moments.__getitem__, method, shares)

    after = weights_of(walk)
    assert {report.left for report in reports} == {True, False}
    for report in reports:
        load = report.load
        if load is None:
            assert not report.left
            continue
        site = next(s for s in moments[report.block] if s.name == report.site)
        assert load.tokens == {tag: moments[report.block][site][tag].n for tag in shares}
        enough = fewest[load.parameter == "down_proj"]
        assert load.left == report.left == (sum(load.tokens.values()) < enough)
        place = (report.block, report.site)
        assert torch.equal(before[place], after[place]) == report.left
        if report.left:
            assert report.zeros == report.were_zero == 0
            assert not report.codes
            assert all(damage.numerator == 0 for damage in report.damage.values())


def without(moments, site_name, *tags):
    """Moments in which an expert of the first block saw nothing of these languages."""
    found = {index: {site: dict(seen) for site, seen in m.items()} for index, m in moments.items()}
    for site, seen in found[0].items():
        if site.name.startswith(site_name):
            for tag in tags:
                del seen[tag]
    return found


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_shares_count_among_the_languages_that_reached_an_expert(method):
    walk = Walk(pico.model("mixtral"))
    moments = dense_moments(walk)
    before = tensors_of(walk.model)
    method = Pruner.of(method, "0.25", min_tokens=1)
    place = (0, "mlp.experts.1.down_proj")

    lacking = without(moments, "mlp.experts.1", "eng_Latn")
    reports = press_dense(walk, lacking.__getitem__, method, SHARES)
    found = weights_of(walk)[place]
    walk.model.load_state_dict(before)
    press_dense(walk, moments.__getitem__, method, {"swh_Latn": 0.75, "hin_Deva": 0.25})

    assert torch.equal(found, weights_of(walk)[place])
    missing = {r.site: r.load.missing for r in reports if r.load and r.load.missing and not r.block}
    assert missing == {name.format(1): ("eng_Latn",) for name in (GATE_UP, DOWN)}
    # what did not come to an expert is no damage of none: it does not count
    assert "eng_Latn" not in next(r.damage for r in reports if (r.block, r.site) == place)
    assert set(damage_of(reports)) == set(SHARES)


def test_an_expert_that_saw_nothing_is_never_pressed_and_other_sites_still_raise():
    walk = Walk(pico.model("mixtral"))
    before = weights_of(walk)
    moments = dense_moments(walk)
    method = Pruner.of("magnitude", "0.25", min_tokens=0)

    reports = press_dense(
        walk, without(moments, "mlp.experts.1", *SIZES).__getitem__, method, SHARES
    )

    assert {r.site for r in reports if r.left} == {name.format(1) for name in (GATE_UP, DOWN)}
    for name in (GATE_UP, DOWN):
        assert torch.equal(before[0, name.format(1)], weights_of(walk)[0, name.format(1)])
    with pytest.raises(BadMoments, match="gives a share to hin_Deva"):
        lacking = without(moments, "self_attn.o_proj", "hin_Deva")
        press_dense(walk, lacking.__getitem__, method, SHARES)


def test_skip_words_name_experts():
    walk = Walk(pico.model("qwen3_moe"))
    before = weights_of(walk)
    method = Pruner.of("wanda", "0.25", skip=["mlp.experts.*.down_proj"], min_tokens=1)

    press_dense(walk, dense_moments(walk).__getitem__, method, SHARES)

    for place, weight_OI in weights_of(walk).items():
        assert torch.equal(before[place], weight_OI) == place[1].endswith("down_proj"), place


def test_other_makes_of_experts_are_pressed_too():
    for model in (gpt_oss(), qwen2_moe()):
        walk = Walk(model)
        moments = dense_moments(walk)
        for method in (
            Pruner.of("sparsegpt", "0.25", min_tokens=1),
            Quantizer.of("awq", Grid(4, 16), min_tokens=1),
        ):
            reports = press_dense(walk, moments.__getitem__, method, SHARES)
            assert len(reports) == sum(len(of_block) for of_block in moments.values())
            assert not any(report.left for report in reports)


def test_formats_that_know_no_experts_say_so():
    opened = Opened("pico", pico.model("mixtral"), pico.tokenizer(), torch.float32)
    source: Any = type("Source", (), {"name": "RUN", "opened": opened, "codes": {}})()

    with pytest.raises(BadLayer, match=r"model\.layers\.0\.mlp\.experts of RUN is a stack"):
        stored(source, head=True)


def test_a_slice_knows_the_linear_before_it():
    layers = linears(Walk(pico.model("mixtral")).blocks[0])
    first, second = (layers[name.format(2)] for name in (GATE_UP, DOWN))

    assert isinstance(first, Slice)
    assert isinstance(second, Slice)
    assert second.before() == first
    assert first.before() is None
