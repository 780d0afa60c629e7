"""A shrinking step: which text and languages decide, what is told of them, what comes before."""

import pico
import pytest
import torch
from running import TEXT, do, refusal
from shrinking import BLOCKS, made, plan, saved

from babelpress.errors import BadModel, BadSetting
from babelpress.models.open import open_model
from babelpress.models.walk import Walk
from babelpress.report.told import tell
from babelpress.runs import recipe
from babelpress.runs.estimate import estimate
from babelpress.runs.manifest import read
from babelpress.shrink import ffn
from babelpress.steps import _shrinking, _worth
from babelpress.steps.shrink import Report, Settings
from babelpress.text.draw import draw
from babelpress.text.settings import CalibrationSettings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return saved(made(), tmp_path_factory.mktemp("models") / "deep")


def report_of(folder):
    """The report of the last step, with what shrinking has of its own."""
    found = read(folder).steps[-1]
    assert isinstance(found, Report)
    return found


# ---- text ------------------------------------------------------------------------------------


def test_text_that_is_too_little_for_the_fit_is_told_and_how_much_is_enough(source, tmp_path):
    """36 inputs want 288 tokens; of 64 of a language 63 count."""
    few = {"languages": ["swh_Latn"], "tokens": 64}
    do(plan(source, {"ffn": 0.75}, **few), tmp_path / "run")
    do(plan(source, {"ffn": 0.75, "fit": False}, **few), tmp_path / "bare")

    (line,) = tell(report_of(tmp_path / "run")).warnings
    assert line.startswith("63 tokens are few to fit 36 inputs on")
    assert "Give --tokens 320 (of each language) for 8 an input" in line
    assert tell(report_of(tmp_path / "bare")).warnings == ()
    do(plan(source, {"ffn": 0.75}, **{**few, "tokens": 256}), tmp_path / "nearly")
    assert report_of(tmp_path / "nearly").few.startswith("252 tokens are few")
    do(plan(source, {"ffn": 0.75}, **{**few, "tokens": 320}), tmp_path / "enough")
    assert report_of(tmp_path / "enough").few == ""


def test_the_loss_is_looked_at_on_valid_text_where_there_is_some(source, tmp_path):
    """A corpus with text of one language beside that of the calibration."""
    opened, asked = open_model(str(source)), CalibrationSettings(**TEXT)
    drawn = draw(opened, asked)
    kept = dict(drawn.blocks)
    first = next(iter(kept))

    def some(opened, asked, blocks, tokens):
        return {first: _worth._few(blocks[first])}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_worth, "valid_text", some)
        looked = _worth.Looked.of(opened, asked, Settings(ffn="0.5"), drawn)
    assert looked.of_train == tuple(tag for tag in kept if tag != first)
    assert looked.told()["text"].startswith("valid text, in ")
    assert first not in looked.told()["text"]


def test_where_no_loss_is_shown_a_line_says_why(source, tmp_path):
    opened, asked = open_model(str(source)), CalibrationSettings(**TEXT)

    looked = _worth.Looked.of(opened, asked, Settings(ffn="0.5"), None)

    assert looked.text is None
    assert looked.none == "No loss is shown: --moments have no text. Evaluate the run."


# ---- which blocks go -------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["influence", "loss"])
def test_languages_without_a_share_decide_nothing_and_are_not_in_the_table(source, tmp_path, by):
    step = {"blocks": 3, "by": by, "mixture": "english"}
    tags = ["eng_Latn", "hin_Deva"]
    do(plan(source, step, languages=tags), tmp_path / "run")

    report = report_of(tmp_path / "run")
    assert report.worth.keys() == {"eng_Latn"}
    assert report.nats.keys() == set(tags)  # what they lose is told all the same
    went = ({*range(BLOCKS)} - {*report.kept}).pop()
    assert report.joined[went] == min(report.joined)
    table = tell(report).listings[-1]
    assert table.head[2] == "joined, max"
    assert [row[2] for row in table.rows] == [f"{each:.4f}" for each in report.joined]
    assert ("by which blocks were chosen" in " ".join(tell(report).lines)) == (by == "loss")


@pytest.mark.parametrize("by", ["influence", "loss"])
def test_every_language_with_a_share_is_heard(by):
    """The second language alone needs the last block."""
    worth = {"eng_Latn": [0.2, 0.2, 0.1], "hin_Deva": [0.1, 0.1, 0.9], "tha_Thai": [9.0, 0, 0]}
    shares = {"eng_Latn": 0.5, "hin_Deva": 0.5, "tha_Thai": 0.0}
    for over in ("max", "mean"):
        joined = _worth.joined_over(worth, shares, Settings(blocks="2", by=by, over=over))
        assert max(joined) == joined[2]


# ---- what is not itself without others -------------------------------------------------------


def test_a_cut_that_makes_another_model_of_the_blocks_is_refused(source, tmp_path, monkeypatch):
    """As a family would do that reckons with the number of a block."""
    whole = _shrinking.blocks.without

    def wrong(walk, kept):
        found = whole(walk, kept)
        if found.model.device.type != "meta":
            found.model.get_submodule("model.layers.0.mlp.down_proj").weight.data.mul_(1.5)
        return found

    monkeypatch.setattr(_shrinking.blocks, "without", wrong)

    line = refusal(BadModel, do, plan(source, {"blocks": 3}), tmp_path / "run")

    assert "computes something else when some of its blocks are gone" in line
    assert line.endswith("Leave out --blocks.")
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_what_is_cut_is_looked_at_in_every_precision(dtype):
    """In float32 at least, so that a wrong cut of a bfloat16 model does not pass for rounding."""
    model = made().to(dtype)
    walk = Walk(model)
    width = ffn.find("tiny", walk, "0.75", 4)
    for block in model.model.layers:
        block.mlp.down_proj.weight.data[:, ::4] = 0
    before = _shrinking._said(model)
    cut = _shrinking._cut(walk, [width])

    assert _shrinking._check_same(cut, before, "cut", "so.") < 1e-4
    cut.model.layers[0].mlp.down_proj.weight.data.mul_(1.03)
    refusal(BadModel, _shrinking._check_same, cut, before, "cut", "so.")
    assert model.dtype == dtype


# ---- before anything is done -----------------------------------------------------------------


def test_what_is_pruned_is_followed_through_every_step_before(source):
    """Gradual pruning prunes; a student that learns whole has no zeros, nor who lets them go."""
    prune = {"prune": {"pattern": "0.25", "method": "magnitude"}}
    tuning = {"task": "topic", "corpus": "labelled"}
    gradual = {"finetune": {**tuning, "gradual": "0.1..0.5"}}
    shrink = {"shrink": {"ffn": 0.5}}

    def asked(*steps):
        return recipe.of({"model": str(source), "calibration": TEXT, "steps": [*steps, shrink]})

    line = refusal(BadSetting, asked, gradual)
    assert line.startswith("shrink cannot come after finetune") and "before finetune" in line
    line = refusal(BadSetting, asked, prune, {"shrink": {"blocks": 3}}, {"finetune": tuning})
    assert line.startswith("shrink cannot come after prune")
    asked(prune, {"distill": {"layers": 2}})
    asked(prune, {"finetune": {**tuning, "keep_zeros": "no"}})


def test_minimax_does_not_choose_blocks(source):
    line = refusal(BadSetting, plan, source, {"blocks": 3, "mixture": "minimax"})

    assert line.startswith("the mixture minimax is found by pressing")
    plan(source, {"ffn": 0.5, "mixture": "minimax"})


def test_what_predicts_no_tokens_is_known_before_the_steps(tmp_path):
    folder = saved(pico.model("distilbert"), tmp_path / "labels")
    prune = {"prune": {"pattern": "0.25", "method": "magnitude"}}
    behind = plan(folder, prune, {"blocks": 1, "by": "loss"})

    line = refusal(BadSetting, estimate, behind)

    assert "--by loss needs a model that predicts next or hidden tokens" in line
