"""A quantizing step: codes and the model agree, zeros are kept, scales are folded exactly."""

import pytest
import torch
from pressing import SHARES, all_linears, dense_moments, loud
from running import (
    LANGUAGES,
    content,
    do,
    plan,
    quantizing,
    refusal,
    stop_in_step,
    weights,
)

from babelpress.errors import BadModel, BadSetting
from babelpress.models.linears import weight
from babelpress.models.walk import Walk
from babelpress.numerics.grids import Grid
from babelpress.press.blocks import find_all_folds, mean_damage, predicted_damage, press_dense
from babelpress.press.codes import CodesFolder
from babelpress.press.method import Quantizer
from babelpress.runs import run

pytestmark = pytest.mark.usefixtures("one_thread")
METHODS = ("rtn", "gptq", "awq")


def by_name(folder):
    return {name.removesuffix(".weight"): w for name, w in weights(folder).items()}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_saved_model_is_what_its_codes_stand_for(model, tmp_path, method, symmetric):
    plan = quantizing(model, method=method, bits=3, symmetric=symmetric)
    manifest = do(plan, tmp_path / "run")

    found, saved = CodesFolder.open(tmp_path / "run" / "codes"), by_name(tmp_path / "run")
    assert len(found.names()) == 14
    for name in found.names():
        codes = found.load(name)
        assert torch.equal(codes.dequantize(), saved[name])
        assert (codes.bits, codes.symmetric, codes.group) == (3, symmetric, 16)
    step = manifest["steps"][0]
    assert step["kind"] == "quantize"
    assert step["grid"] == f"3 bits, group 16{'' if symmetric else ', asymmetric'}, clip mse"
    assert step["unfolded"] == []
    assert set(step["damage"]) == {*LANGUAGES}
    blocks = next(part for part in manifest["ledger"]["parts"] if part["part"] == "blocks")
    assert blocks["bytes_stored"] < blocks["bytes_dense"] / 6


@pytest.mark.parametrize("method", METHODS)
def test_of_a_pruned_model_every_zero_stays_and_without_keeping_it_does_not(
    model, tmp_path, method
):
    chain = ({"method": "sparsegpt", "pattern": "0.5"},)
    do(plan(model, *chain), tmp_path / "pruned")
    do(quantizing(model, *chain, method=method), tmp_path / "kept")
    do(quantizing(model, *chain, method=method, keep_zeros=False), tmp_path / "free")

    pruned, kept, free = (by_name(tmp_path / name) for name in ("pruned", "kept", "free"))
    linear = [name for name in pruned if name.endswith("_proj")]
    assert all((kept[name][pruned[name] == 0] == 0).all() for name in linear)
    zeros = sum(int((pruned[name] == 0).sum()) for name in linear)
    manifest = do(quantizing(model, *chain, method=method), tmp_path / "kept")
    assert manifest["steps"][1]["were_zero"] == zeros
    lost = sum(int((free[name][pruned[name] == 0] != 0).sum()) for name in linear)
    assert (lost > 0) == (method == "gptq")  # rounding alone never moves a zero


def test_scales_that_awq_folds_leave_the_model_as_it_was_but_for_rounding():
    """At eight bits nearly nothing is lost, so a wrong fold would show."""
    walk = Walk(loud())
    moments = dense_moments(walk)
    ids_BT = torch.arange(3, 60)[None]
    before = walk.model(ids_BT).logits
    old = {name: weight(each).clone() for name, each in all_linears(walk).items()}
    method = Quantizer.of("awq", Grid(8, 16))
    folds = find_all_folds(walk, method)

    reports = press_dense(walk, moments.__getitem__, method, SHARES)

    assert all(len(each) == 4 for each in folds)
    assert all(report.folded for report in reports)
    changed = [
        name for name, each in all_linears(walk).items() if (weight(each) / old[name]).std() > 0.1
    ]
    assert changed, "no scale was found to be worth it"
    after = walk.model(ids_BT).logits
    assert (after - before).norm() / before.norm() < 0.03


def test_damage_after_folding_is_that_to_the_dense_model():
    walk, again = Walk(loud()), Walk(loud())
    moments = dense_moments(walk)
    method = Quantizer.of("awq", Grid(3, 16))
    predicted = predicted_damage(again, moments.__getitem__, method, SHARES)
    reports = press_dense(walk, moments.__getitem__, method, SHARES)
    found = mean_damage([report.damage for report in reports])
    assert found == pytest.approx(predicted, rel=0.05)


def test_ranges_are_the_largest_inputs_of_the_languages_with_a_share():
    walk = Walk(loud())
    moments = dense_moments(walk)
    shares = {"eng_Latn": 0.75, "swh_Latn": 0.25, "hin_Deva": 0.0}

    reports = press_dense(walk, moments.__getitem__, Quantizer.of("rtn", Grid(4, 16)), shares)

    for report in reports:
        (seen,) = (each for site, each in moments[report.block].items() if site.name == report.site)
        largest = torch.maximum(seen["eng_Latn"].absmax_I, seen["swh_Latn"].absmax_I)
        assert torch.equal(report.absmax_I, largest.float())


def test_an_interrupted_chain_goes_on_after_pruning_to_the_same_bytes(model, tmp_path):
    chain = quantizing(model, {"method": "wanda"}, method="gptq", bits=3, embeddings="8bit")
    do(chain, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        do(chain, tmp_path / "run", progress=stop_in_step(2))
    assert (tmp_path / "run" / "steps" / "01-prune" / "model").exists()

    do(chain, tmp_path / "run")

    assert content(tmp_path / "run") == content(tmp_path / "whole")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "codes",
        "manifest.json",
        "model",
        "ranges.safetensors",
        "recipe.yaml",
        "steps",
    }
    assert "model.embed_tokens" in CodesFolder.open(tmp_path / "run" / "codes").names()


@pytest.mark.parametrize(
    ("step", "whats"),
    [
        ({"propagate": "dense"}, {"calibrate: block", "block"}),
        ({"propagate": "compressed"}, {"block"}),
        (
            {"propagate": "compressed", "mixture": "minimax"},
            {"calibrate: block", "minimax: round", "block"},
        ),
        ({"propagate": "compressed", "allocate": "owl"}, {"calibrate: block", "block"}),
    ],
)
def test_everything_that_is_told_of_is_told_to_its_end(model, tmp_path, step, whats):
    told = {}
    asked = plan(model, {"minimax": {"rounds": 3}, **step})

    run.do(asked, tmp_path / "run", progress=lambda *at: told.setdefault(at[0], []).append(at[1:]))

    assert told.keys() == {f"prune: {what}" for what in whats}
    for what, steps in told.items():
        total = 3 if "minimax" in what else 2
        begun = [each for each in steps if each[0]]  # 0 where they begin
        assert begun == [(done, total) for done in range(1, total + 1)], what


@pytest.mark.parametrize("again", [{"method": "rtn"}, {"method": "gptq"}])
def test_what_is_quantized_cannot_be_quantized_again(model, tmp_path, again):
    do(quantizing(model), tmp_path / "run")

    words = refusal(BadModel, run.do, quantizing(tmp_path / "run", **again), tmp_path / "twice")

    assert words.startswith(f"{tmp_path / 'run'}: no step can follow its quantize")
    assert not (tmp_path / "twice").exists()
    words = refusal(BadModel, run.do, plan(tmp_path / "run"), tmp_path / "twice")
    assert "no step can follow its quantize" in words


def test_quantize_is_the_last_step_of_a_recipe(model):
    data = quantizing(model).model_dump(mode="json")
    data["steps"].append({"prune": {}})

    assert "quantize must be the last step" in refusal(BadSetting, run.recipe.of, data)
