"""What is protected stays, in every method and pattern, and others go in its place."""

import json
from typing import Any

import pico
import pytest
import torch
from pressing import SHARES, dense_moments, held_against, loud
from running import do, plan, refusal, weights
from safetensors.torch import load_file

import babelpress as bp
from babelpress.errors import BadLayer, BadSetting, UnknownName
from babelpress.models.linears import linears, weight
from babelpress.models.open import open_model
from babelpress.models.walk import Walk
from babelpress.moments.calibrate import calibrate
from babelpress.numerics.patterns import KeepOf, PerRow, parse
from babelpress.press import fitting
from babelpress.press.blocks import press_dense
from babelpress.press.method import Pruner
from babelpress.press.protected import Block, most_used, resolve
from babelpress.prune import PRUNERS
from babelpress.steps import KINDS
from babelpress.steps._protecting import protected, read
from babelpress.system.files import read_json
from babelpress.text.settings import CalibrationSettings

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = {"languages": ["swh_Latn", "hin_Deva"], "tokens": 128, "length": 64}
NEURONS, FEATURES = {1: [0, 7, 47]}, {"0.self_attn.k_proj": [3, 4], "1.mlp.down_proj": [9]}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "llama"
    pico.model().save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def moments(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("moments") / "moments"
    asked = CalibrationSettings.model_validate(TEXT)
    return calibrate(open_model(str(model)), asked, out, gram=True).folder


def pruned_with(protect, method="wanda", pattern="0.5", family="llama"):
    """The weights of a model pruned with something protected, by block and linear."""
    walk = Walk(loud(family))
    with torch.no_grad():  # what is protected would go first
        for block in walk.blocks:
            for each in linears(block).values():
                weight(each)[[0, 7, 47 % len(weight(each))]] *= 1e-3
                weight(each)[:, [0, 3, 4, 7, 9, 15]] *= 1e-3
    old = {
        index: {n: weight(each).clone() for n, each in linears(b).items()}
        for index, b in enumerate(walk.blocks)
    }
    own = protected(read(protect)).within(Pruner.of(method, pattern), walk)
    seen = dense_moments(walk)
    seen = held_against(seen) if own.contrasts else seen

    press_dense(walk, seen.__getitem__, own, SHARES)

    new = {
        index: {n: weight(each) for n, each in linears(b).items()}
        for index, b in enumerate(walk.blocks)
    }
    return old, new


@pytest.mark.parametrize(
    ("method", "pattern"),
    [*((method, "0.5") for method in PRUNERS.names()), ("wanda", "0.3/layer"), ("ria", "0.3/16")],
)
def test_every_method_leaves_what_is_protected_and_takes_as_many(method, pattern):
    _, new = pruned_with({"neurons": NEURONS, "features": FEATURES}, method, pattern)

    for block in new.values():
        for each in block.values():
            assert (each == 0).sum() == parse(pattern).count(*each.shape)
    for name in ("mlp.gate_proj", "mlp.up_proj"):
        assert new[1][name][[0, 7, 47]].all()
    assert new[1]["mlp.down_proj"][:, [0, 7, 9, 47]].all()
    for name in ("q_proj", "k_proj", "v_proj"):
        assert new[0][f"self_attn.{name}"][:, [3, 4]].all()
    # Where nothing protects them they go.
    assert not new[0]["mlp.gate_proj"][[0, 7]].all()
    assert not new[1]["self_attn.k_proj"][:, [3, 4]].all()


@pytest.mark.parametrize("method", PRUNERS.names())
def test_groups_of_n_of_m_keep_their_count(method):
    _, new = pruned_with({"features": {"0.mlp.gate_proj+up_proj": [0, 3]}}, method, "2of4")

    for name in ("mlp.gate_proj", "mlp.up_proj"):
        assert (new[0][name].unflatten(1, (-1, 4)) == 0).sum(2).eq(2).all()
        assert new[0][name][:, [0, 3]].all()


def test_sites_stay_as_they_are():
    old, new = pruned_with({"sites": ["mlp.down_proj", "*.o_proj"]})

    for index, block in new.items():
        for name, each in block.items():
            same = torch.equal(old[index][name], each)
            assert same == (name in ("mlp.down_proj", "self_attn.o_proj"))


@pytest.mark.parametrize("family", pico.DENSE)
def test_a_neuron_is_what_one_product_of_the_mlp_is_made_of(family):
    """Changing its rows changes one input of the linear that reads it, and no other."""
    walk = Walk(loud(family))
    (spared,) = resolve({0: [5]}, {}, fitting.seen(walk), PerRow(0.1)).values()
    block = walk.blocks[0]
    layers: dict[str, Any] = dict(linears(block))
    (reading,) = (name for name, spare in spared.items() if spare.columns)
    feeding = [name for name, spare in spared.items() if spare.rows]
    seen = []
    layers[reading].register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    hidden = walk.start(torch.arange(3, 20)[None])

    with torch.no_grad():
        walk.forward(0, hidden)
        for name in feeding:
            rows_OI = weight(layers[name])
            rows_OI[sorted(spared[name].rows)] += torch.linspace(-9, 9, rows_OI.shape[1])
        walk.forward(0, hidden)

    assert feeding
    assert spared[reading].columns == {5}
    before, after = (each.flatten(0, -2) for each in (seen[0], seen[len(seen) // 2]))
    assert (before != after).any(0).nonzero().flatten().tolist() == [5]
    # All of the rows that it is made of: zeroing them leaves it what a bias makes of it.
    fused = family == "modernbert"  # gate and gated are one linear
    assert all(spared[name].rows == ({5, 53} if fused else {5}) for name in feeding)


def test_where_gate_and_gated_are_one_linear_both_rows_of_a_neuron_stay():
    shapes = {"mlp.gate_up": (96, 32), "mlp.down": (32, 48)}
    block = Block("blocks.0", shapes, [])

    found = resolve({0: [5, 7]}, {}, [block], PerRow(0.1))

    assert found == {
        0: {
            "mlp.gate_up": (frozenset({5, 7, 53, 55}), frozenset()),
            "mlp.down": (frozenset(), frozenset({5, 7})),
        }
    }


# ---- by what a language uses ---------------------------------------------------------------


def test_the_inputs_that_a_language_uses_most_stay(model, moments, tmp_path):
    languages = {"pattern": "0.5", "moments": str(moments), "mixture": "only:swh_Latn"}
    asked = plan(model, {**languages, "protect": "used:hi:0.13"}, **TEXT)

    do(asked, tmp_path / "run")

    pruned, store = weights(tmp_path / "run"), bp_store(moments)
    for index in range(2):
        for site, seen in store.load(index).items():
            square = [each.item() / seen["hin_Deva"].n for each in seen["hin_Deva"].sumsq_I]
            order = sorted(range(site.inputs), key=lambda j: -square[j])
            top = order[: int(site.inputs * 0.13)]
            assert len(top) in (4, 6)
            for name in site.linears:
                each = pruned[f"model.layers.{index}.{name}.weight"]
                assert each[:, top].all()
                assert (each == 0).sum(1).eq(site.inputs // 2).all()


def bp_store(folder):
    from babelpress.moments.store import Store

    return Store.open(folder)


def test_no_group_of_n_of_m_is_asked_for_more_than_stay():
    square_I = torch.tensor([9.0, 8.0, 7.0, 1.0, 2.0, 6.0, 5.0, 0.5])

    found = most_used(square_I, 0.625, KeepOf(2, 4), frozenset())
    beside = most_used(square_I, 0.625, KeepOf(2, 4), frozenset({3}))

    assert found == {0, 1, 5, 6}
    assert beside == {0, 5, 6}
    assert most_used(square_I, 0.625, PerRow(0.1), frozenset()) == {0, 1, 2, 5, 6}
    assert most_used(None, 0.5, PerRow(0.1), frozenset()) == frozenset()


def test_an_expert_that_saw_nothing_of_the_language_protects_nothing(tmp_path):
    folder = tmp_path / "experts"
    pico.model("qwen3_moe").save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    asked = plan(folder, {"protect": "used:hin_Deva:0.1", "min_tokens": 1}, **TEXT)

    step = do(asked, tmp_path / "run")["steps"][0]

    assert step["zeros"] > 0


# ---- how it is said ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["protect.yaml", "protect.json"])
def test_a_file_and_what_is_in_it_are_the_same_and_the_recipe_has_it(
    model, moments, tmp_path, name
):
    data = {
        "neurons": {1: [7, 0]},
        "features": {"0.mlp.down_proj": [5, 9]},
        "sites": ["self_attn.o_proj"],
        "used": {"Swahili": 0.02},
    }
    (tmp_path / name).write_text(json.dumps(data))
    step = {"moments": str(moments), "protect": str(tmp_path / name)}

    run = do(plan(model, step, **TEXT), tmp_path / "run")

    kept = {
        "neurons": {"1": "0, 7"},
        "features": {"0.mlp.down_proj": "5, 9"},
        "sites": ["self_attn.o_proj"],
        "used": {"swh_Latn": 0.02},
    }
    assert run["steps"][0]["step"]["protect"] == kept
    assert read(data) == read(kept) == kept
    (tmp_path / name).unlink()
    again = bp.press(str(model), tmp_path / "run" / "recipe.yaml", out=tmp_path / "again")
    assert again.rows
    first, second = weights(tmp_path / "run"), weights(tmp_path / "again")
    assert all(torch.equal(first[key], second[key]) for key in first)
    old = load_file(model / "model.safetensors")
    name = "model.layers.0.self_attn.o_proj.weight"
    assert torch.equal(old[name], first[name])
    assert first["model.layers.1.mlp.up_proj.weight"][[0, 7]].all()


def test_the_command_takes_it_and_the_report_says_it(model, moments, tmp_path):
    found = bp.prune(
        str(model),
        pattern="0.5",
        protect="used:swh_Latn:0.1,used:hin_Deva:0.05",
        moments=str(moments),
        out=tmp_path / "run",
    )

    assert found.rows
    (row,) = read_json(tmp_path / "run" / "manifest.json")["steps"]
    assert row["step"]["protect"] == {"used": {"swh_Latn": 0.1, "hin_Deva": 0.05}}
    prune = KINDS.module("prune")
    assert prune.tell(prune.Report.model_validate(row)).how == (
        "0.5; protected: 0.05 of inputs, those most used by hin_Deva, 0.1 of inputs, those most "
        "used by swh_Latn"
    )


def test_what_is_protected_is_said_before_anything_is_done():
    prune = KINDS.module("prune")
    settings = prune.Settings(protect={"neurons": {0: [1, 5]}, "sites": ["mlp.down_proj"]})

    assert prune.say(settings) == "wanda 0.5, uniform, protected: 2 neurons, 1 sites"


def test_a_rule_of_allocation_counts_what_stays_too(model, moments, tmp_path):
    step = {"moments": str(moments), "allocate": "owl", "protect": {"neurons": {0: "1, 5"}}}

    done = do(plan(model, {"pattern": "0.5", **step}, **TEXT), tmp_path / "run")["steps"][0]

    plain = do(plan(model, {"pattern": "0.5", "moments": str(moments)}, **TEXT), tmp_path / "plain")
    assert done["zeros"] == plain["steps"][0]["zeros"]
    assert weights(tmp_path / "run")["model.layers.0.mlp.gate_proj.weight"][[1, 5]].all()


# ---- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protect", "words"),
    [
        (
            {"neurons": {2: [1]}},
            "protect has neurons of block 2, which is none: those of the model are 0 to 1.",
        ),
        (
            {"neurons": {0: [48]}},
            "protect: model.layers.0 has no neuron 48: they are 0 to 47.",
        ),
        (
            {"features": {"0.mlp.down": [1]}},
            "protect: model.layers.0 has no site mlp.down. Did you mean mlp.down_proj? It has "
            "self_attn.q_proj+k_proj+v_proj, self_attn.o_proj, mlp.gate_proj+up_proj, "
            "mlp.down_proj.",
        ),
        (
            {"features": {"0.mlp.down_proj": [60]}},
            "protect: 0.mlp.down_proj has no feature 60: they are 0 to 47.",
        ),
        (
            {"features": {"mlp.down_proj": [1]}},
            "protect has features of 'mlp.down_proj'. Write BLOCK.SITE, as in 0.mlp.down_proj.",
        ),
        ({"sites": ["mlp.dawn"]}, "--skip mlp.dawn names no site of this model."),
    ],
)
def test_what_the_model_has_not_is_refused_before_anything_is_pressed(
    model, tmp_path, protect, words
):
    found = refusal(BadSetting, do, plan(model, {"protect": protect}, **TEXT), tmp_path / "run")

    assert found.startswith(words)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(
    ("protect", "pattern", "words"),
    [
        (
            {"features": {"0.mlp.down_proj": [0, 1, 3]}},
            "2of4",
            "model.layers.0.mlp.down_proj: 2of4 takes 2 of inputs 0 to 3, where protection leaves "
            "1. Protect at most 2 of them.",
        ),
        (
            {"neurons": {1: [3]}},
            "2of4",
            "model.layers.1.mlp.gate_proj: 2of4 takes weights of every row, so that none can stay "
            "whole. Protect columns only, or use --pattern 0.5.",
        ),
        (
            {"features": {"1.self_attn.o_proj": list(range(20))}},
            "0.5",
            "model.layers.1.self_attn.o_proj: 0.5 takes 512 weights of this layer, where "
            "protection leaves 384. Protect less, or prune less.",
        ),
    ],
)
def test_where_too_little_is_left_it_is_refused_before_anything_is_pressed(
    model, tmp_path, protect, pattern, words
):
    asked = plan(model, {"protect": protect, "pattern": pattern}, **TEXT)

    assert refusal(BadLayer, do, asked, tmp_path / "run") == words
    assert not (tmp_path / "run" / "model").exists()


def test_a_share_of_inputs_that_leaves_too_little_names_the_place(model, moments, tmp_path):
    asked = plan(model, {"protect": "used:swh_Latn:0.6", "moments": str(moments)}, **TEXT)
    asked = asked.first_but(pattern="0.5")

    words = refusal(BadLayer, do, asked, tmp_path / "run")

    assert words.startswith(
        "model.layers.0.self_attn.q_proj+k_proj+v_proj (self_attn.q_proj): 0.5 takes 512 weights"
    )


def test_a_language_that_nothing_was_seen_of_is_refused(model, moments, tmp_path):
    asked = plan(model, {"protect": "used:yo:0.1", "moments": str(moments)}, **TEXT)

    assert refusal(BadSetting, do, asked, tmp_path / "run") == (
        "protect has inputs that yor_Latn uses, of which nothing was seen; there are swh_Latn, "
        "hin_Deva. Calibrate with it: a share of the mixture it needs not have."
    )


def test_experts_have_no_neurons():
    walk = Walk(pico.model("mixtral"))

    words = refusal(BadSetting, resolve, {0: [1]}, {}, fitting.seen(walk), PerRow(0.1))

    assert words.startswith("model.layers.0 has no MLP whose neurons could be protected")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            {"neuron": {0: [1]}},
            "protect has no neuron. It is a mapping of neurons, features, sites",
        ),
        ({"neurons": [1]}, "protect: neurons is [1]. It must be a mapping of lists of ids."),
        ({"neurons": {0: [1.5]}}, "protect: neurons: 0 is [1.5]. It must be a list of ids, from 0"),
        ({"neurons": {0: "-1"}}, "protect: neurons: 0 is '-1'. It must be a list of ids, from 0"),
        ({"neurons": {"a": [1]}}, "protect has neurons of block 'a', which is no number."),
        ({"sites": [1]}, "protect: sites is [1]. It must be a list of names."),
        ({"used": ["yo"]}, "protect: used is ['yo']. It must be a mapping, as yo: 0.01."),
        ({"used": {"yo": 1.5}}, "protect: the share of yo is 1.5. It must lie between 0 and 1."),
        ("used:yo", "protect used:yo is not used:LANGUAGE:SHARE, as used:yo:0.01."),
        ("used:yo:x", "protect: the share of yo is 'x'. It must lie between 0 and 1."),
        ("nowhere.yaml", "what to protect in nowhere.yaml cannot be read: "),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_is_allowed(model, value, words):
    assert refusal(BadSetting, plan, model, {"protect": value}).startswith(words)


def test_a_language_that_is_none_is_refused():
    with pytest.raises(UnknownName):
        read("used:klingonish:0.1")
