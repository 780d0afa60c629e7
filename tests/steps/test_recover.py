"""A repair of a whole model: folders, what stays, going on after a stop, and what does not fit."""

from typing import Any

import pico
import pytest
import running
import small
import torch
from killing import killed_before
from running import LANGUAGES, content, do, refusal, same_weights, weights
from stopping import stop_at
from transformers import AutoModelForCausalLM

from babelpress.commands.pressing import press
from babelpress.commands.pressing import step as command
from babelpress.errors import BadModel, BadRun, BadSetting, UnknownName
from babelpress.models.open import open_model
from babelpress.press.codes import CodesFolder
from babelpress.report import card
from babelpress.report.told import tell
from babelpress.runs import manifest, recipe, run
from babelpress.steps import quantize
from babelpress.steps._dense import open_dense
from babelpress.steps.recover import Report
from babelpress.system.early import may_end_early
from babelpress.train.recovering import Recovery

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 8
TEXT = {"languages": LANGUAGES, "tokens": 256, "length": 32}
PRUNE = {"prune": {"method": "magnitude", "pattern": "0.5"}}
QUANTIZE = {"quantize": {"method": "rtn", "bits": 3, "group": 16}}


def plan(model, *before, text=None, after=(), **step):
    usual = {} if step.get("repair") in ("blocks", "rounding") else {"evaluate": 4}
    asked = {"steps": STEPS, "batch": 128, "rate": 0.003, **usual, **step}
    steps = [*before, {"recover": asked}, *after]
    return recipe.of({"model": str(model), "calibration": {**TEXT, **(text or {})}, "steps": steps})


@pytest.fixture(scope="module")
def loud(tmp_path_factory):
    return running.loud(tmp_path_factory.mktemp("models") / "loud")


@pytest.fixture(scope="module")
def pruned(loud, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "pruned"
    steps = {"model": str(loud), "calibration": TEXT, "steps": [PRUNE]}
    run.do(recipe.of(steps), folder)
    return folder


def test_a_repaired_run_is_an_ordinary_folder_with_the_zeros_of_before(loud, pruned, tmp_path):
    found = do(plan(pruned), tmp_path / "run")

    (step,) = found["steps"]
    assert [each["kind"] for each in (*found["before"], step)] == ["prune", "recover"]
    assert step["against"]["name"] == str(loud)
    first, last = (
        {tag: step["losses_apart"][n][tag] / step["reference"][tag] - 1 for tag in LANGUAGES}
        for n in (0, step["best"])
    )
    assert max(last.values()) < 0.7 * max(first.values())
    assert step["at"] == [0, 4, 8]
    assert len(step["losses"]) == 2
    assert sum(step["read"].values()) == STEPS * 4 * 31
    assert set(step["mixture"]["shares"].values()) == {1 / 3}
    before, after = weights(pruned), weights(tmp_path / "run")
    matrices = [name for name in before if ".layers." in name and before[name].ndim > 1]
    assert step["zeros"] == sum(int((before[name] == 0).sum()) for name in matrices)
    for name in matrices:
        assert torch.equal(before[name] == 0, after[name] == 0)
        assert not torch.equal(before[name], after[name])
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert not (tmp_path / "run" / "steps" / "01-recover" / "training").exists()
    told = tell(manifest.read(tmp_path / "run").steps[-1])
    assert f"; {step['zeros']:,} zeros stayed zero." in told.lines[0]
    assert "worst" in told.lines[1]
    assert len(told.listings[0].rows) == 3
    assert "repaired" in card.card(tmp_path / "run")


def test_a_chain_in_one_recipe_knows_what_was_pruned_and_may_be_pressed_on(loud, tmp_path):
    found = do(plan(loud, PRUNE, after=[QUANTIZE], steps=2, tune="norms"), tmp_path / "run")

    assert [each["kind"] for each in found["steps"]] == ["prune", "recover", "quantize"]
    assert found["steps"][1]["zeros"] > 0
    assert found["steps"][2]["zeros"] >= found["steps"][1]["zeros"]


def test_integers_stay_and_go_along(loud, tmp_path):
    found = do(plan(loud, QUANTIZE, teacher="kept", top=32), tmp_path / "run")
    steps = {"model": str(loud), "calibration": TEXT, "steps": [QUANTIZE]}
    run.do(recipe.of(steps), tmp_path / "coded")

    mine, before = (CodesFolder.open(tmp_path / each / "codes") for each in ("run", "coded"))
    assert mine.names() == before.names()
    after, old = weights(tmp_path / "run"), weights(tmp_path / "coded")
    for name in mine.names():
        assert torch.equal(mine.load(name).codes_OI, before.load(name).codes_OI)
        assert torch.equal(after[f"{name}.weight"], old[f"{name}.weight"])
    assert not torch.equal(after["model.norm.weight"], old["model.norm.weight"])
    step = found["steps"][1]
    assert step["coded"] == sum(mine.load(name).codes_OI.numel() for name in mine.names())
    assert max(step["losses_apart"][-1].values()) < max(step["losses_apart"][0].values())
    assert found["ledger"]["bytes_stored"] < found["ledger"]["bytes_dense"]
    assert not (tmp_path / "run" / "steps" / "01-quantize" / "codes").exists()
    # A run of its own goes on with that of the integers too.
    do(plan(tmp_path / "coded", steps=1), tmp_path / "next")
    assert CodesFolder.open(tmp_path / "next" / "codes").names() == mine.names()


def test_a_dense_model_is_tuned_as_long_as_a_control(loud, tmp_path):
    """It begins as itself, so there is nothing to mend: the best is what it began as, or text's."""
    step = do(plan(loud, repair="text"), tmp_path / "run")["steps"][0]

    assert step["against"]["name"] == str(loud)
    assert step["losses_apart"][0] == step["reference"]
    assert step["losses"][-1] < step["losses"][0]


def test_shares_follow_what_lacks_and_stay_within_their_radius(pruned, tmp_path):
    step = do(plan(pruned, mixture="lacking", radius=0.05), tmp_path / "run")["steps"][0]

    assert len(step["drawn"]) == 2  # those after the last evaluation drew nothing
    for drawn in step["drawn"]:
        assert sum(drawn.values()) == pytest.approx(1)
        distance = sum((3 * share - 1) ** 2 for share in drawn.values()) / 6
        assert distance == pytest.approx(0.05)
    for tag, share in step["mixture"]["shares"].items():
        assert share == pytest.approx(sum(drawn[tag] for drawn in step["drawn"]) / 2)
    assert step["drawn"][0] != step["drawn"][1]
    assert step["mixture"]["policy"] == "lacking"


def test_the_dense_model_of_a_trimmed_run_reads_its_tokens(tmp_path):
    merging = tmp_path / "merging"
    opened = small.opened(tie_word_embeddings=True)
    opened.model.save_pretrained(merging)
    small.tokenizer().save_pretrained(merging)
    trim = {"trim": {"languages": ["hi"]}}

    run.do(recipe.of({"model": str(merging), "steps": [trim]}), tmp_path / "trimmed")
    assert len(weights(tmp_path / "trimmed")["model.embed_tokens.weight"]) == 259
    step = do(plan(tmp_path / "trimmed", PRUNE), tmp_path / "run")["steps"][-1]
    assert max(step["losses_apart"][step["best"]].values()) < max(step["losses_apart"][0].values())
    alone = do(plan(tmp_path / "trimmed", steps=1), tmp_path / "alone")["steps"][0]
    assert alone["losses_apart"][0] == alone["reference"]


def test_a_language_without_a_share_is_watched_and_not_drawn(pruned, tmp_path):
    step = do(plan(pruned, mixture=f"only:{LANGUAGES[0]}"), tmp_path / "run")["steps"][0]

    assert set(step["losses_apart"][0]) == set(step["reference"]) == set(LANGUAGES)
    assert {tag for tag, number in step["read"].items() if number} == {LANGUAGES[0]}
    assert step["mixture"]["shares"][LANGUAGES[0]] == 1
    rows = tell(manifest.read(tmp_path / "run").steps[-1]).listings[0].rows
    assert len(rows) == len(LANGUAGES)


@pytest.mark.parametrize("tune", [None, "weights"])
def test_of_a_quantized_run_norms_learn_at_their_rate_and_that_is_told(loud, tmp_path, tune):
    asked = plan(loud, QUANTIZE, steps=1, evaluate=1, rate=None, tune=tune)

    step = do(asked, tmp_path / "run")["steps"][1]

    assert (step["learnt"], step["rate"]) == ("norms", 0.003)
    assert tell(manifest.read(tmp_path / "run").steps[-1]).how.startswith("norms, ")


def test_integers_of_zero_are_no_pruning(loud, tmp_path):
    do(recipe.of({"model": str(loud), "calibration": TEXT, "steps": [QUANTIZE]}), tmp_path / "run")
    (step,) = manifest.read(tmp_path / "run").steps

    assert isinstance(step, quantize.Report)
    assert step.zeros > 0
    assert not step.pruned(frozenset())
    assert step.pruned(frozenset({"blocks"})) == {"blocks"}


# ---- stopping ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(pruned, tmp_path_factory):
    """What a run gives that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    do(plan(pruned, mixture="lacking"), folder)
    return content(folder)


@pytest.mark.parametrize("stop", [2, 6])
def test_a_stopped_repair_goes_on_to_the_same_bytes(pruned, whole, tmp_path, stop):
    asked = plan(pruned, mixture="lacking")

    with pytest.raises(KeyboardInterrupt):
        run.do(asked, tmp_path / "run", progress=stop_at(stop))
    said = []
    run.do(asked, tmp_path / "run", progress=lambda what, done, _: said.append((what, done)))

    assert content(tmp_path / "run") == whole
    steps = [done for what, done in said if what.endswith("train: step") and done]
    assert steps[0] == (1 if stop < 4 else 5)
    assert any(", the worst, " in what for what, _ in said)


@pytest.mark.parametrize("number", [12, 40])
def test_a_repair_that_was_killed_goes_on_to_the_same_bytes(pruned, whole, tmp_path, number):
    asked = plan(pruned, mixture="lacking")

    assert killed_before(number, lambda: run.do(asked, tmp_path / "run"))
    do(asked, tmp_path / "run")

    assert content(tmp_path / "run") == whole


def test_a_repair_that_ended_by_patience_and_was_stopped_does_no_step_more(
    pruned, tmp_path, monkeypatch
):
    asked = plan(pruned, rate=1e-30, patience=1, evaluate=2)
    do(asked, tmp_path / "whole")

    def stop(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Recovery, "load_best", stop)
        run.do(asked, tmp_path / "run")
    steps = []
    run.do(asked, tmp_path / "run", progress=lambda what, done, _: steps.append((what, done)))

    assert content(tmp_path / "run") == content(tmp_path / "whole")
    assert not any(done for what, done in steps if what.endswith("train: step"))


def test_where_work_may_end_early_an_interrupt_keeps_the_best_so_far(pruned, tmp_path):
    with may_end_early():
        run.do(plan(pruned), tmp_path / "run", progress=stop_at(6))

    found = manifest.read(tmp_path / "run").steps[-1]
    assert isinstance(found, Report)
    assert found.stopped == "by Ctrl-C behind step 4 of 8"
    assert (found.at, found.best) == ([0, 4], 1)
    assert "Stopped by Ctrl-C behind step 4 of 8" in tell(found).warnings[-1]
    before, after = weights(pruned), weights(tmp_path / "run")
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(before[name] == 0, after[name] == 0)
    with may_end_early(), pytest.raises(KeyboardInterrupt):  # nothing is better yet
        run.do(plan(pruned), tmp_path / "soon", progress=stop_at(2))


def test_it_stops_where_nothing_gets_better_and_by_the_clock(pruned, tmp_path):
    asked = plan(pruned, rate=1e-30, patience=1, evaluate=2)
    step = do(asked, tmp_path / "run")["steps"][0]

    assert step["at"] == [0, 2]
    assert step["best"] == 0
    assert step["stopped"] == "after 1 evaluations that were no better"
    assert same_weights(tmp_path / "run", pruned)
    step = do(plan(pruned, minutes=1e-6), tmp_path / "late")["steps"][0]
    assert step["at"] == [0, 1]
    assert step["stopped"] == "after 1e-06 minutes, 1 of 8 steps"


def test_offload_without_effect_is_told(pruned, tmp_path):
    said = []

    run.do(plan(pruned, steps=1), tmp_path / "run", offload=True,
           progress=lambda what, *_: said.append(what))  # fmt: skip

    assert any("--offload has no effect on logits" in each for each in said)


def test_a_model_that_runs_code_of_its_own_is_refused(pruned):
    opened = open_model(str(pruned / "model"))
    kind = type(opened.model)
    opened.model.__class__ = type(kind.__name__, (kind,), {"__module__": "transformers_modules.x"})

    line = refusal(BadModel, open_dense, opened, "nowhere", "nowhere")

    assert "runs code of its own" in line


# ---- bad input, and before it is done ------------------------------------------------------


def test_a_plan_says_what_it_will_take_and_makes_nothing(pruned, tmp_path):
    for more in ({}, {"repair": "blocks"}, {"teacher": "kept"}):
        asked = plan(pruned, **more).model_dump(mode="json")
        del asked["model"]

        told = press(str(pruned), asked, out=tmp_path / "run", dry_run=True)

        assert told.says[0].startswith("step 1: recover by ")
        assert told.says[1].startswith("step 1: about ")
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("step", "kind", "words"),
    [
        ({"repair": "logit"}, UnknownName, "Did you mean 'logits'"),
        ({"mixture": "minimax"}, BadSetting, "minimax is of pressing. Use lacking"),
        ({"tune": "all"}, BadSetting, "none of weights, norms, low-rank"),
        ({"repair": "rounding", "tune": "norms"}, BadSetting, "changes the integers alone"),
        ({"repair": "text", "teacher": "kept"}, BadSetting, "is for --repair logits"),
        ({"repair": "blocks", "minutes": 2}, BadSetting, "goes block by block"),
        ({"repair": "blocks", "warmup": 0.2}, BadSetting, "--warmup has no effect with"),
        ({"repair": "rounding", "evaluate": 5}, BadSetting, "--evaluate has no effect with"),
        ({"top": 8}, BadSetting, "--top has no effect without --teacher kept"),
        ({"rank": 4}, BadSetting, "--rank has no effect without --tune low-rank"),
        ({"radius": 0.2}, BadSetting, "--radius has no effect without --mixture lacking"),
        ({"radius": 1e-9, "mixture": "lacking"}, BadSetting, "radius"),
        ({"watch": "median"}, BadSetting, "none of worst, mean"),
        ({"rate": 0}, BadSetting, "rate"),
    ],
)
def test_settings_that_cannot_be_are_one_line(step, kind, words):
    assert words in refusal(kind, plan, "tiny", **step)


def test_what_does_not_fit_is_one_line_before_anything_is_trained(loud, pruned, tmp_path):
    out = tmp_path / "run"
    both, bare, wide, mixed = (tmp_path / each for each in ("both", "bare", "wide", "mixed"))
    coded = tmp_path / "coded"
    do(recipe.of({"model": str(loud), "calibration": TEXT, "steps": [QUANTIZE]}), coded)
    headless: Any = pico.model("bert").base_model
    config: Any = pico.model().config
    config.hidden_size = 64
    given = (both, pico.model("t5")), (bare, headless), (mixed, pico.model("qwen3_moe"))
    for folder, model in (*given, (wide, AutoModelForCausalLM.from_config(config))):
        model.save_pretrained(folder)
        pico.tokenizer().save_pretrained(folder)
    cases = [
        (plan(both), BadModel, "is an encoder-decoder, and those are not repaired here"),
        (plan(bare), BadModel, "has no head that predicts tokens"),
        (plan(pruned, repair="rounding"), BadRun, "nothing is quantized in"),
        (plan(pruned, against=str(bare)), BadModel, "reads text on both sides"),
        (plan(pruned, against="nowhere"), BadModel, "Say where it is with --against"),
        (plan(pruned, repair="blocks", against=str(wide)), BadModel, "no block can learn what"),
        (plan(coded, tune="low-rank"), BadSetting, "no effect where all matrices are quantized"),
        (plan(mixed, tune="low-rank"), BadSetting, "is an expert in a stack"),
    ]
    for asked, kind, words in cases:
        assert words in refusal(kind, do, asked, out)
        assert not out.exists()


def test_what_must_be_last_may_be_repaired_and_nothing_else(loud, tmp_path):
    assert plan(loud, QUANTIZE).steps[1].kind == "recover"
    line = refusal(BadSetting, plan, loud, QUANTIZE, after=[PRUNE])
    assert "quantize must be the last step" in line
    do(plan(loud, QUANTIZE, steps=1), tmp_path / "run")
    asked = recipe.of({"model": str(tmp_path / "run"), "calibration": TEXT, "steps": [PRUNE]})
    assert "no step can follow its quantize" in refusal(BadModel, do, asked, tmp_path / "next")


def test_the_command_prints_what_each_language_lost(pruned, tmp_path):
    found = command("recover")(
        str(pruned), out=tmp_path / "run", languages=",".join(LANGUAGES), tokens=256, length=32,
        steps=STEPS, evaluate=4, batch=128, rate=0.003,
    )  # fmt: skip

    assert sorted(row["language"] for row in found.rows) == sorted(LANGUAGES)
    assert all(row["distance"] is not None for row in found.rows)


def test_the_command_takes_a_dense_model_and_looks_whether_it_is_there(loud, pruned, tmp_path):
    asked = {
        "languages": ",".join(LANGUAGES), "tokens": 256, "length": 32, "steps": STEPS,
        "evaluate": 4, "batch": 128, "rate": 0.003,
    }  # fmt: skip

    command("recover")(str(pruned), out=tmp_path / "run", against=str(loud), **asked)

    step = manifest.read(tmp_path / "run").steps[-1]
    assert isinstance(step, Report)
    assert step.against["name"] == str(loud)
    empty = tmp_path / "empty"
    empty.mkdir()
    line = refusal(
        BadModel, command("recover"), str(pruned), out=tmp_path / "no", against=str(empty), **asked
    )
    assert str(empty) in line
    assert "moments" not in line
