"""Students of decoders that are shrunk first: two steps of one, what is kept, stopping, errors."""

from typing import Any

import pico
import pytest
import teaching
import torch
from running import LANGUAGES, content, do, refusal, weights
from stopping import stop_at
from transformers import AutoConfig, AutoModelForCausalLM

from babelpress.commands.pressing import press
from babelpress.errors import BadCorpus, BadLayer, BadModel, BadSetting
from babelpress.models.open import open_shapes
from babelpress.models.walk import Walk
from babelpress.models.weights import weights_hash
from babelpress.report import card
from babelpress.report.told import tell
from babelpress.runs import manifest, recipe, run
from babelpress.runs.estimate import estimate
from babelpress.runs.open import open_any, with_known
from babelpress.steps import _distilling, distill
from babelpress.steps._estimating import Trial
from babelpress.steps.distill import Report
from babelpress.system.early import may_end_early
from babelpress.train import fit

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 8
TEXT = {"languages": LANGUAGES, "tokens": 256, "length": 32}
SHRINK = {"shrink": {"width": 24, "blocks": 1, "multiple": 4}}


def plan(model, *before, text=None, after=(), **step):
    asked = {"steps": STEPS, "evaluate": 4, "batch": 4, "rate": 0.01, **step}
    steps = [*before, {"distill": asked}, *after]
    return recipe.of({"model": str(model), "calibration": {**TEXT, **(text or {})}, "steps": steps})


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    return teaching.taught(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def shrunk(taught, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "shrunk"
    run.do(recipe.of({"model": str(taught), "calibration": TEXT, "steps": [SHRINK]}), folder)
    return folder


@pytest.fixture(scope="module")
def student(shrunk, tmp_path_factory):
    """What a run gives that nobody stopped, with logits and states, languages by what they lack."""
    folder = tmp_path_factory.mktemp("runs") / "student"
    do(plan(shrunk, mixture="lacking", objective="hinton,hidden"), folder)
    return folder


def report_of(folder):
    found = manifest.read(folder).steps[-1]
    assert isinstance(found, Report)
    return found


def test_a_student_by_sizes_is_short_for_two_steps(taught):
    asked = {"layers": 1, "width": "0.75", "multiple": 4, "mixture": "lacking", "radius": 0.2}
    first, second = plan(taught, **asked).steps

    assert (first.kind, second.kind) == ("shrink", "distill")
    assert (first.work.blocks, first.work.width, first.work.multiple) == ("1", "0.75", 4)
    assert (first.work.mixture, second.work.mixture) == ("uniform", "lacking")
    assert second.work.at_hand
    assert (second.work.steps, second.work.radius) == (STEPS, 0.2)
    assert recipe.of(plan(taught, **asked).model_dump(mode="json")) == plan(taught, **asked)
    kinds = {
        init: [each.kind for each in plan(taught, layers=1, init=init).steps]
        for init in ("stride", "influence", "random")
    }
    assert kinds["stride"] == ["distill"]
    assert kinds["influence"] == kinds["random"] == ["shrink", "distill"]
    for width, init in ((None, "influence"), ("0.75", "influence"), ("0.75", None)):
        assert plan(taught, layers=1, width=width, init=init).steps[0].work.fit
    first, second = plan(taught, layers=1, init="random").steps
    assert (first.work.fit, second.work.init) == (False, "random")


def test_a_narrower_student_learns_and_is_an_ordinary_folder(taught, shrunk, student):
    report = report_of(student)

    config = AutoConfig.from_pretrained(student / "model")
    assert (config.hidden_size, config.num_hidden_layers) == (24, 1)
    assert AutoModelForCausalLM.from_pretrained(student / "model")
    assert report.against["name"] == str(taught)
    assert report.layers == [1, 2]
    assert report.best > 0
    first, last = report.lacks(0), report.lacks(report.best)
    assert max(last.values()) < 0.8 * max(first.values())
    assert set(report.objectives) == {"hinton", "hidden"}
    before, after = weights(shrunk), weights(student)
    assert report.trained == sum(each.numel() for each in after.values())
    assert not [name for name in after if "maps" in name]
    name = "model.embed_tokens.weight"
    assert not torch.equal(before[name], after[name])
    told = tell(report)
    assert "18,264 of 32,096 parameters from a teacher of 2, " in told.lines[0]
    assert "Loss against the teacher on text held apart: mean " in told.lines[1]
    assert len(told.listings[0].rows) == 3
    assert "distilled" in card.card(student)
    assert [each.kind for each in manifest.read(student).chain] == ["shrink", "distill"]


def test_one_command_gives_the_same_as_two(taught, student, tmp_path):
    """The same weights: the shrunk model is opened again from its folder."""
    asked = plan(
        taught, layers="1", width=24, multiple=4, mixture="lacking", objective="hinton,hidden"
    )
    found = do(asked, tmp_path / "run")

    assert [each["kind"] for each in found["steps"]] == ["shrink", "distill"]
    one, other = weights(tmp_path / "run"), weights(student)
    assert all(torch.equal(each, other[name]) for name, each in one.items())


@pytest.mark.parametrize("stop", [2, 6])
def test_a_stopped_training_goes_on_to_the_same_bytes(shrunk, student, tmp_path, stop):
    asked = plan(shrunk, mixture="lacking", objective="hinton,hidden")

    with pytest.raises(KeyboardInterrupt):
        run.do(asked, tmp_path / "run", progress=stop_at(stop))
    said = []
    run.do(asked, tmp_path / "run", progress=lambda what, done, _: said.append((what, done)))

    assert content(tmp_path / "run") == content(student)
    steps = [done for what, done in said if what.endswith("train: step") and done]
    assert steps[0] == (1 if stop < 4 else 5)
    assert any("against the teacher" in what and ", the worst, " in what for what, _ in said)


def test_where_work_may_end_early_an_interrupt_keeps_the_best_so_far(shrunk, tmp_path):
    with may_end_early():
        run.do(plan(shrunk), tmp_path / "run", progress=stop_at(6))

    found = report_of(tmp_path / "run")
    assert found.stopped == "by Ctrl-C behind step 4 of 8"
    assert (found.at, found.best) == ([0, 4], 1)
    assert "Stopped by Ctrl-C behind step 4 of 8." in tell(found).warnings


def test_nothing_better_ends_it_and_leaves_the_student_as_it_was(shrunk, tmp_path):
    found = do(plan(shrunk, rate=1e-30, patience=1), tmp_path / "run")["steps"][0]

    assert (found["at"], found["best"]) == ([0, 4], 0)
    before, after = weights(shrunk), weights(tmp_path / "run")
    assert all(torch.equal(each, after[name]) for name, each in before.items())
    assert any("No step did better" in line for line in tell(report_of(tmp_path / "run")).warnings)


def test_a_student_at_random_has_the_shapes_alone_and_the_seed_decides(shrunk, tmp_path):
    """The control of a table."""
    found = {}
    for seed in (0, 1):
        asked = plan(shrunk, init="random", steps=1, evaluate=1, text={"seed": seed})
        do(asked, tmp_path / str(seed))
        found[seed] = weights(tmp_path / str(seed))
    name = "model.layers.0.mlp.up_proj.weight"

    assert {each.shape for each in found[0].values()} == {
        each.shape for each in weights(shrunk).values()
    }
    assert not torch.equal(found[0][name], found[1][name])
    assert 0.01 < found[0][name].std() < 0.03  # as the config says, not as it was learnt
    assert "begun at random" in tell(report_of(tmp_path / "0")).how


def test_a_plan_says_what_both_steps_will_take(taught, tmp_path):
    asked = plan(taught, layers=1, width=24, multiple=4).model_dump(mode="json")
    del asked["model"]

    told = press(str(taught), asked, out=tmp_path / "run", dry_run=True)

    assert told.says[0].startswith("step 1: shrink to blocks 1, channels 24")
    assert told.says[1].startswith(
        "step 2: distil what it all began with into the model at hand in 8"
    )
    assert told.says[3].startswith("step 2: about ")
    found = estimate(plan(taught, layers=1, width=24, multiple=4))[1]
    numbers = 18_264  # as many as the student has, and not its teacher
    # weights, what did best and what is written over it, checkpoints of weights and moments
    assert found.disk_bytes == numbers * (4 + 2 * 4 + (fit.KEPT + 1) * 12)


def test_what_cannot_be_is_one_line_before_anything_is_done(taught, shrunk, tmp_path):
    prune = {"prune": {"method": "magnitude", "pattern": "0.5"}}
    line = refusal(BadSetting, plan, taught, SHRINK, prune)
    assert "distill cannot come after prune: all of a student learns" in line
    line = refusal(BadSetting, plan, taught, prune, SHRINK | {"shrink": {"blocks": 1}})
    assert "distill cannot come after prune: all of a student learns" in line
    learnt = {"distill": {"layers": 2}}
    assert len(plan(taught, prune, learnt).steps) == 3
    run.do(recipe.of({"model": str(shrunk), "calibration": TEXT, "steps": [prune]}), tmp_path / "p")
    out = tmp_path / "run"
    cases = [
        (plan(tmp_path / "p"), BadModel, "was pruned: all of a student learns"),
        (plan(taught), BadSetting, "a student is smaller. Make one with --layers N"),
        (plan(taught, layers=9, width=24, multiple=4), BadSetting, "is more than the 2 blocks"),
        (plan(taught, width=40), BadSetting, "--width 40 is more than the 32 channels there are"),
        (plan(shrunk, against=str(tmp_path / "none")), BadModel, "none"),
    ]
    for asked, kind, words in cases:
        assert words in refusal(kind, do, asked, out)
        assert not out.exists()


def nothing_is_done(kind, words, asked, out):
    """It is refused, and nothing was looked at before."""
    said = []
    line = refusal(kind, do, asked, out, progress=lambda what, *_: said.append(what))
    assert words in line
    assert (said, out.exists()) == ([], False)


def test_what_distilling_cannot_is_refused_before_the_model_is_shrunk(taught, tmp_path):
    out, sizes = tmp_path / "run", {"ffn": 24, "multiple": 4}
    folders = {}
    for family, mask in (
        ("t5", True),
        ("bert", True),
        ("xlm_roberta", True),
        ("modernbert", False),
    ):
        model: Any = pico.model(family)
        model = model.base_model if family == "bert" else model
        tokenizer = pico.tokenizer()
        tokenizer.mask_token = "<pad>" if mask else None
        folders[family] = tmp_path / family
        model.save_pretrained(folders[family])
        tokenizer.save_pretrained(folders[family])
    few = {"tokens": 32}
    nothing_is_done(BadCorpus, "1 blocks of text to learn", plan(taught, text=few, **sizes), out)
    nothing_is_done(BadModel, "encoder-decoder, and those are", plan(folders["t5"], **sizes), out)
    asked = plan(folders["bert"], objective="hinton", **sizes)
    nothing_is_done(BadModel, "has no head that predicts tokens", asked, out)
    nothing_is_done(BadModel, "gives labels, and plain", plan(folders["xlm_roberta"], **sizes), out)
    nothing_is_done(BadModel, "has no mask token", plan(folders["modernbert"], **sizes), out)


def test_steps_after_a_student_are_asked_of_its_shapes(taught, tmp_path):
    """The teacher has 32 channels, the student that is given 24: groups of 16 do not divide it."""
    config = AutoConfig.from_pretrained(taught)
    config.hidden_size = 24
    small = AutoModelForCausalLM.from_config(config)
    small.save_pretrained(tmp_path / "small")
    pico.tokenizer().save_pretrained(tmp_path / "small")
    coded = [{"quantize": {"group": 16, "bits": 4}}]
    asked = plan(taught, after=coded, student=str(tmp_path / "small"))
    nothing_is_done(BadLayer, "16 does not divide the 24 inputs", asked, tmp_path / "run")
    walk = Walk(open_shapes(str(taught)))
    assert len(distill.check("tiny", walk, distill.Settings(layers=1)).blocks) == 1


def test_the_model_itself_becomes_the_student_and_an_estimate_leaves_it(shrunk):
    """No copy of it stays in memory beside the teacher."""
    opened = with_known(open_any(str(shrunk)), str(shrunk), plan(shrunk).steps[0], None)
    text = plan(shrunk).calibration
    known = weights_hash(opened.model)
    trial = Trial(
        opened, text, Walk(opened.model), {}, None, False, 0, hash_seconds=0.0, open_seconds=0.0,
        open_again=0.0, text_seconds=0.0,
    )  # fmt: skip

    distill.estimate(trial, distill.Settings(steps=2), chained=False)
    assert weights_hash(opened.model) == known
    assert all(each.grad is None for each in opened.model.parameters())

    student, _ = _distilling._student(opened, distill.Settings(), 0)
    assert student is opened.model


def test_babel_mini_learns_what_it_lost(tmp_path):
    """The embedded model: half of its layers, three quarters of its width."""
    text = {"corpus": "embedded", "languages": ["en", "sw"], "tokens": 1024, "length": 64}
    asked = plan(
        "babel-mini", layers=2, width="0.75", objective="hinton,hidden", steps=8, evaluate=8,
        batch=4, rate=0.001, text=text,
    )  # fmt: skip

    do(asked, tmp_path / "run")

    report = report_of(tmp_path / "run")
    assert report.best == 1
    assert all(report.lacks(1)[tag] < report.lacks(0)[tag] for tag in report.lacks(0))
