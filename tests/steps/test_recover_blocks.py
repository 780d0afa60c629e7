"""A repair block by block as a step: what stays, integers and exports, what a kill leaves."""

import contextlib
import io
import shutil
from typing import Any

import pico
import pytest
import torch
from killing import killed_before
from running import LANGUAGES, content, do, refusal, weights
from transformers import AutoModelForCausalLM

from babelpress.commands.exporting import export
from babelpress.errors import BadModel, BadSetting
from babelpress.press.codes import CodesFolder
from babelpress.report.told import tell
from babelpress.runs import manifest, recipe, run
from babelpress.steps.recover import Report
from babelpress.system.early import may_end_early

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = {"languages": LANGUAGES, "tokens": 256, "length": 32}
PRUNE = {"prune": {"method": "magnitude", "pattern": "2of4"}}
QUANTIZE = {"quantize": {"method": "gptq", "bits": 2, "group": 16}}


def plan(model, *before, **step):
    asked = {"steps": 12, "batch": 256, **step}
    steps = [*before, {"recover": asked}]
    return recipe.of({"model": str(model), "calibration": TEXT, "steps": steps})


@pytest.fixture(scope="module")
def pruned(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "pruned"
    run.do(recipe.of({"model": str(model), "calibration": TEXT, "steps": [PRUNE]}), folder)
    return folder


def report(out) -> Report:
    found = manifest.read(out).steps[-1]
    assert isinstance(found, Report)
    return found


@pytest.mark.parametrize("offload", [False, True])
def test_blocks_of_a_pruned_run_come_nearer_to_the_dense_ones(pruned, tmp_path, offload):
    found = do(plan(pruned, repair="blocks"), tmp_path / "run", offload=offload)

    step = found["steps"][0]
    assert [each["block"] for each in step["parts"]] == [0, 1]
    assert all(each["after"] < each["before"] for each in step["parts"])
    assert step["losses_apart"][0].keys() == step["reference"].keys() == set(LANGUAGES)
    before, after = weights(pruned), weights(tmp_path / "run")
    zeros = 0
    for name, old in before.items():
        if ".layers." in name and old.ndim > 1:
            assert torch.equal(old == 0, after[name] == 0)
            zeros += int((old == 0).sum())
    assert step["zeros"] == zeros
    assert step["trained"] == sum(
        each.numel() for name, each in before.items() if ".layers." in name
    )
    assert torch.equal(before["model.norm.weight"], after["model.norm.weight"])
    assert sum(step["read"].values()) > 0


def test_a_repair_gives_the_same_bytes_and_losses_wherever_it_is_held(model, tmp_path):
    """The model is of bfloat16: it learns and is measured in float32 in memory and on disk."""
    stored = tmp_path / "stored"
    shutil.copytree(model, stored)
    AutoModelForCausalLM.from_pretrained(model).bfloat16().save_pretrained(stored)
    found = [
        do(plan(stored, PRUNE, repair="blocks"), tmp_path / f"run{offload}", offload=offload)
        for offload in (False, True)
    ]

    mine, its = (weights(tmp_path / f"run{offload}") for offload in (False, True))
    assert {each.dtype for each in mine.values()} == {torch.bfloat16}
    assert all(torch.equal(each, its[name]) for name, each in mine.items())
    assert found[0]["steps"][1]["losses_apart"] == found[1]["steps"][1]["losses_apart"]
    still = do(plan(stored, repair="blocks", rate=1e-30), tmp_path / "still")["steps"][0]
    assert still["losses_apart"][0] == still["losses_apart"][1] == still["reference"]


@pytest.mark.parametrize("tune", [None, "weights", "norms"])
def test_norms_of_a_quantized_run_learn_by_its_blocks(model, tmp_path, tune):
    step = do(plan(model, QUANTIZE, repair="blocks", tune=tune), tmp_path / "run")["steps"][1]

    assert all(each["after"] < each["before"] for each in step["parts"])
    assert step["trained"] > 0
    assert step["learnt"] == "norms"
    assert step["rate"] == 0.003


@pytest.mark.parametrize("before", [(), (PRUNE,)])
def test_integers_learn_their_rounding_and_are_exported_as_before(model, tmp_path, before):
    coded = {"model": str(model), "calibration": TEXT, "steps": [*before, QUANTIZE]}
    run.do(recipe.of(coded), tmp_path / "coded")

    do(plan(tmp_path / "coded", repair="rounding", mixture="lacking"), tmp_path / "run")

    step = report(tmp_path / "run")
    assert all(each["after"] <= each["before"] for each in step.parts)
    assert sum(e["after"] for e in step.parts) < sum(e["before"] for e in step.parts)
    mine, old = (CodesFolder.open(tmp_path / each / "codes") for each in ("run", "coded"))
    assert mine.names() == old.names()
    after, was = weights(tmp_path / "run"), weights(tmp_path / "coded")
    moved = 0
    for name in mine.names():
        now = mine.load(name)
        assert {**mine.row(name)} == {**old.row(name)}
        assert torch.equal(after[f"{name}.weight"], now.dequantize())
        assert torch.equal(now.scale_OG, now.scale_OG.bfloat16().float())
        moved += int((now.codes_OI != old.load(name).codes_OI).sum())
        if before:
            assert (after[f"{name}.weight"][was[f"{name}.weight"] == 0] == 0).all()
    assert step.moved == moved > 0
    assert step.trained == step.coded
    assert torch.equal(after["model.norm.weight"], was["model.norm.weight"])
    with contextlib.redirect_stdout(io.StringIO()):
        export(str(tmp_path / "run"), format="compressed-tensors", out=tmp_path / "served")
    assert (tmp_path / "served" / "model.safetensors").exists()


def test_a_walk_that_was_killed_or_stopped_goes_on_to_the_same_bytes(pruned, tmp_path):
    asked = plan(pruned, repair="blocks", tune="low-rank")
    do(asked, tmp_path / "whole")

    def stop(what, done, _):
        if what.endswith("recover: block") and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.do(asked, tmp_path / "stopped", progress=stop)
    do(asked, tmp_path / "stopped")
    assert killed_before(9, lambda: run.do(asked, tmp_path / "killed"))
    do(asked, tmp_path / "killed")

    assert content(tmp_path / "stopped") == content(tmp_path / "killed")
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")
    with may_end_early():
        run.do(asked, tmp_path / "early", progress=stop)
    assert report(tmp_path / "early").stopped == "by Ctrl-C behind block 1 of 2"
    early, before = weights(tmp_path / "early"), weights(pruned)
    last = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(early[last], before[last])
    first = last.replace("layers.1", "layers.0")
    assert torch.equal(early[first], weights(tmp_path / "whole")[first])


def test_a_model_without_a_head_is_repaired_by_its_blocks(tmp_path):
    bare = tmp_path / "bare"
    tokenizer = pico.tokenizer()
    tokenizer.mask_token = "<pad>"
    headless: Any = pico.model("bert").base_model
    headless.save_pretrained(bare)
    tokenizer.save_pretrained(bare)

    do(plan(bare, PRUNE, repair="blocks"), tmp_path / "run")

    step = report(tmp_path / "run")
    assert all(each["after"] < each["before"] for each in step.parts)
    assert step.distance == {}
    assert "Error of the blocks" in tell(step).lines[1]
    line = refusal(BadModel, do, plan(bare, repair="blocks", mixture="lacking"), tmp_path / "no")
    assert "has no head that predicts tokens" in line


def test_other_blocks_than_those_of_the_dense_model_are_refused(model, pruned, tmp_path):
    shorter = {"distill": {"layers": 1, "steps": 1, "batch": 2}}
    student = recipe.of({"model": str(model), "calibration": TEXT, "steps": [shorter]})
    run.do(student, tmp_path / "student")

    asked = plan(tmp_path / "student", repair="blocks")
    line = refusal(BadModel, do, asked, tmp_path / "run")

    assert "the blocks of" in line
    assert line.endswith("Use --repair logits.")
    assert not (tmp_path / "run").exists()


# ---- behind a shrinking ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shrunk", "repair"), [({"blocks": "1"}, "blocks"), ({"ffn": "0.5"}, "rounding")]
)
def test_blocks_of_other_shapes_are_refused_before_anything_is_done(model, shrunk, repair):
    before = [{"shrink": {"multiple": 8, **shrunk}}, QUANTIZE][: 2 if repair == "rounding" else 1]

    line = refusal(BadSetting, plan, model, *before, repair=repair)

    assert f"recover by {repair} cannot come after shrink" in line
    assert "Use --repair logits" in line


def test_of_two_steps_that_shrink_both_are_seen(model):
    both = ({"shrink": {"blocks": "1"}}, {"shrink": {"ffn": "0.5", "multiple": 8}})

    for before in (both, both[::-1]):
        line = refusal(BadSetting, plan, model, *before, repair="blocks")
        assert "recover by blocks cannot come after shrink" in line


def test_a_model_with_fewer_neurons_is_repaired_by_its_blocks_and_with_fewer_blocks_whole(
    model, tmp_path
):
    narrow = {"shrink": {"ffn": "0.5", "multiple": 8}}
    found = do(plan(model, narrow, repair="blocks"), tmp_path / "narrow")

    assert all(each["after"] < each["before"] for each in found["steps"][1]["parts"])
    few = {"shrink": {"blocks": "1"}}
    found = do(plan(model, few, repair="logits", evaluate=4), tmp_path / "few")
    kl = found["steps"][1]["losses"]
    assert kl[-1] < kl[0]
