"""A shrinking step: what goes, counts, bytes, chains, refusals, and that engines load the rest."""

import pico
import pytest
import torch
from running import TEXT, content, do, refusal, weights
from shrinking import BLOCKS, WIDTH, made, plan, saved
from transformers import AutoConfig, AutoModelForCausalLM

from babelpress.commands.pressing import press
from babelpress.errors import BadModel, BadSetting
from babelpress.models.linears import linears, weight
from babelpress.models.open import open_model
from babelpress.models.walk import Walk
from babelpress.moments.calibrate import calibrate
from babelpress.report.card import card
from babelpress.report.told import tell
from babelpress.runs import fits, recipe, run
from babelpress.runs.estimate import estimate
from babelpress.runs.manifest import read
from babelpress.runs.open import open_any
from babelpress.steps import _shrinking
from babelpress.steps.shrink import Report
from babelpress.text.settings import CalibrationSettings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return saved(made(), tmp_path_factory.mktemp("models") / "deep")


@pytest.fixture(scope="module")
def shrunk(source, tmp_path_factory):
    """A run without a quarter of the neurons, half of the heads and a block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "run"
    do(plan(source, {"ffn": 0.75, "heads": "0.5", "blocks": 3}), out)
    torch.set_num_threads(threads)
    return out


def report_of(folder):
    """The report of the last step, with what shrinking has of its own."""
    found = read(folder).steps[-1]
    assert isinstance(found, Report)
    return found


def logits(folder):
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(torch.arange(3, 40)[None]).logits


# ---- what a run leaves -----------------------------------------------------------------------


def test_it_is_an_ordinary_folder_with_the_shapes_that_its_config_states(shrunk):
    config = AutoConfig.from_pretrained(shrunk / "model")

    assert (config.num_hidden_layers, config.intermediate_size) == (3, 36)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (2, 1, 8)
    ours = open_any(str(shrunk)).model
    how = ours.config._attn_implementation
    plain = AutoModelForCausalLM.from_pretrained(shrunk / "model", attn_implementation=how).eval()
    ids_BT = torch.arange(3, 40)[None]
    assert torch.equal(pico.passed(ours, ids_BT).logits, pico.passed(plain, ids_BT).logits)


def test_parameters_and_bytes_are_really_fewer(source, shrunk):
    """Of a block 32 x 12 three times and 32 x 8 of two queries, a key, a value, two outputs."""
    before = sum(each.numel() for each in open_model(str(source)).model.parameters())
    block = 3 * 32 * 48 + 32 * 8 * (4 + 2 + 2 + 4) + 2 * 32
    after = before - block - 3 * (3 * 32 * 12 + 32 * 8 * 6)

    report = report_of(shrunk)

    assert report.parameters == [before, after]
    assert report.bytes == [4 * before, 4 * after]
    assert report.ledger["parameters"] == after
    assert sum(each.numel() for each in weights(shrunk).values()) == after
    size = (shrunk / "model" / "model.safetensors").stat().st_size
    assert size < (source / "model.safetensors").stat().st_size - 4 * block


def test_what_was_found_is_told_in_run_card_and_terminal(shrunk):
    report = report_of(shrunk)
    told = tell(report)

    assert report.sizes == {"blocks": [4, 3], "heads": [4, 2], "ffn": [48, 36]}
    assert len(report.kept) == 3
    assert set(report.nats) == set(report.worth) == set(report.damage) == set(TEXT["languages"])
    assert all(len(each) == BLOCKS for each in report.worth.values())
    assert report.apart < 1e-5
    assert told.done == "shrink to 3 of 4 blocks, 36 of 48 neurons, 2 of 4 attention heads"
    assert "--on confusion" in " ".join(told.lines)
    words = card(shrunk)
    assert "| 1 | shrink | influence, energy | 3 of 4 blocks, 36 of 48 neurons" in words
    assert "max over languages, fitted | uniform | pressed blocks |" in words
    assert "Loss on text of the calibration itself" in words
    titles = [each.title for each in told.listings]
    assert titles == [
        "nats a token on text of the calibration itself",
        "what each block is worth, by influence",
    ]


def test_losses_before_and_after_are_those_of_the_models(source, shrunk):
    """Before it is that of a run that took nothing out, whose loss does not change."""
    report = report_of(shrunk)

    for before, after in report.nats.values():
        assert before > 0
        assert after != before
    again = do(plan(source, {"ffn": "1.0"}), shrunk.parent / "full")["steps"][0]
    assert {tag: each[0] for tag, each in again["nats"].items()} == {
        tag: each[0] for tag, each in report.nats.items()
    }
    assert all(before == after for before, after in again["nats"].values())


# ---- laws ------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", ["energy", "lost"])
def test_full_size_changes_nothing_bit_for_bit(source, tmp_path, score):
    full = {"ffn": "1.0", "heads": 4, "blocks": "1.0", "score": score, "multiple": 64}
    do(plan(source, full), tmp_path / "run")

    before = open_model(str(source)).model.state_dict()
    after = open_any(str(tmp_path / "run")).model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(each, after[name]) for name, each in before.items())


def dead(model, gone):
    """Neurons that are never there: their rows of what feeds them are zero, in every block."""
    for index, block in enumerate(model.model.layers):
        for name in ("gate_proj", "up_proj"):
            getattr(block.mlp, name).weight.data[gone[index]] = 0
    return model


@pytest.mark.parametrize("score", ["energy", "lost"])
def test_planted_dead_neurons_go_and_the_logits_stay(tmp_path, score):
    gone = [torch.arange(index, WIDTH, 4) for index in range(BLOCKS)]  # others in every block
    model = saved(dead(made(), gone), tmp_path / "model")
    do(plan(model, {"ffn": 0.75, "score": score}), tmp_path / "run")

    assert torch.allclose(logits(tmp_path / "run" / "model"), logits(model), atol=2e-5)
    kept = [each for each in range(WIDTH) if each % 4 != 1]
    left = weights(tmp_path / "run")["model.layers.1.mlp.up_proj.weight"]
    assert torch.equal(left, weights_of(model)["model.layers.1.mlp.up_proj.weight"][kept])


def weights_of(folder):
    return open_model(str(folder)).model.state_dict()


def test_a_planted_group_that_repeats_another_goes_and_the_logits_stay(tmp_path):
    """Of two groups that are the same one goes, and the other is read for both."""
    model = made()
    for block in model.model.layers:
        attention = block.self_attn
        attention.q_proj.weight.data[16:] = attention.q_proj.weight.data[:16]
        for name in ("k_proj", "v_proj"):
            weight_OI = getattr(attention, name).weight.data
            weight_OI[8:] = weight_OI[:8]
    folder = saved(model, tmp_path / "model")
    do(plan(folder, {"heads": 2, "score": "lost", "damp": 1e-6}), tmp_path / "run")

    before, after = logits(folder), logits(tmp_path / "run" / "model")
    assert (after - before).norm() < 1e-2 * before.norm()
    do(plan(folder, {"heads": 2, "fit": False}), tmp_path / "bare")
    bare = logits(tmp_path / "bare" / "model")
    assert (bare - before).norm() > 0.05 * before.norm()


def test_a_planted_block_that_does_nothing_goes_and_the_logits_stay(tmp_path):
    model = made()
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        model.model.layers[2].get_submodule(name).weight.data.zero_()
    folder = saved(model, tmp_path / "model")

    for by in ("influence", "loss"):
        # random blocks may be missed by nobody: only by what they turn is this one sure to go
        steps = do(plan(folder, {"blocks": 3, "by": by}), tmp_path / by)["steps"]
        worth = [each[2] for each in steps[0]["worth"].values()]
        assert worth == pytest.approx([0] * 3, abs=1e-9)
    assert report_of(tmp_path / "influence").kept == [0, 1, 3]
    assert torch.equal(logits(tmp_path / "influence" / "model"), logits(folder))


def test_the_loss_without_a_block_is_that_of_the_model_without_it(source, tmp_path):
    """Every block is worth what the run without it alone lost."""
    worth = do(plan(source, {"blocks": 3, "by": "loss"}), tmp_path / "run")["steps"][0]

    went = ({*range(BLOCKS)} - {*worth["kept"]}).pop()
    for tag, (before, after) in worth["nats"].items():
        assert worth["worth"][tag][went] == pytest.approx(after / before - 1, abs=1e-6)


def test_fitting_leaves_less_damage_than_not_fitting(source, tmp_path):
    fitted = do(plan(source, {"ffn": 0.5}), tmp_path / "fitted")["steps"][0]
    bare = do(plan(source, {"ffn": 0.5, "fit": False}), tmp_path / "bare")["steps"][0]

    assert fitted["few"] == ""  # 756 tokens for 24 inputs

    for tag in TEXT["languages"]:
        assert fitted["damage"][tag] < bare["damage"][tag]


# ---- in chains -------------------------------------------------------------------------------


def test_pruning_follows_on_the_new_shapes_and_a_killed_run_goes_on_to_the_same_bytes(
    source, tmp_path
):
    chain = plan(
        source, {"ffn": 0.75, "blocks": 3}, {"prune": {"pattern": "2of4", "method": "magnitude"}}
    )
    do(chain, tmp_path / "whole")

    def stop(what, done, total):
        if what.endswith(("prune: press: block", "prune: block")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        do(chain, tmp_path / "run", progress=stop)
    assert (tmp_path / "run" / "steps" / "01-shrink" / "model").exists()
    do(chain, tmp_path / "run")

    assert content(tmp_path / "run") == content(tmp_path / "whole")
    down = weights(tmp_path / "run")["model.layers.0.mlp.down_proj.weight"]
    assert down.shape == (32, 36)
    assert ((down == 0).view(32, 9, 4).sum(2) >= 2).all()


def test_a_step_that_does_not_fit_the_new_shapes_is_refused_before_anything_is_done(
    source, tmp_path
):
    """36 neurons are no multiple of 16, and 48 were."""
    data = plan(source, {"ffn": 0.75}).model_dump(mode="json")
    data["steps"].append({"quantize": {"group": 16}})

    line = refusal(Exception, run.do, recipe.of(data), tmp_path / "run")

    assert "mlp.down_proj" in line and "16" in line
    assert not (tmp_path / "run").exists()


def test_a_sweep_knows_from_the_config_alone_what_cannot_be(source):
    plans = [plan(source, {"heads": "0.5", "blocks": 2}), plan(source, {"heads": 1})]

    fine, wrong = fits.errors(plans)

    assert fine == ""
    assert "is fewer than the heads of a group, 2" in wrong


def test_neurons_do_not_go_after_pruning(source, tmp_path):
    prune = {"prune": {"pattern": "0.25", "method": "magnitude"}}
    line = refusal(BadSetting, plan, source, prune, {"ffn": 0.75})
    assert line.startswith("shrink cannot come after prune: what is fitted has no zeros left")

    do(plan(source, prune), tmp_path / "pruned")
    line = refusal(BadModel, do, plan(tmp_path / "pruned", {"ffn": 0.75}), tmp_path / "run")
    assert "pruned was pruned, and neurons, heads or channels go before that: " in line
    assert not (tmp_path / "run").exists()
    behind = plan(tmp_path / "pruned", {"blocks": 3}, {"ffn": 0.75})
    for asked in (lambda: run.do(behind, tmp_path / "run"), lambda: estimate(behind, near=None)):
        assert refusal(BadModel, asked) == line
    assert not (tmp_path / "run").exists()
    assert fits.errors([behind]) == [line]
    blocks = do(plan(tmp_path / "pruned", {"blocks": 2}), tmp_path / "run")
    assert blocks["steps"][0]["sizes"] == {"blocks": [4, 2]}


def test_moments_serve_where_no_block_goes(source, tmp_path):
    text = CalibrationSettings(**TEXT)
    calibrate(open_model(str(source)), text, tmp_path / "moments", gram=True)
    step = {"ffn": 0.75, "moments": str(tmp_path / "moments")}
    found = do(plan(source, step), tmp_path / "run")["steps"][0]
    dense = do(plan(source, {"ffn": 0.75, "propagate": "dense"}), tmp_path / "dense")

    assert found["sizes"] == {"ffn": [48, 36]}
    assert found["nats"] == {}
    assert weights(tmp_path / "run").keys() == weights(tmp_path / "dense").keys()
    assert found["damage"] == pytest.approx(dense["steps"][0]["damage"], rel=1e-6)
    with pytest.raises(BadSetting, match="--blocks needs text"):
        plan(source, {**step, "blocks": 3})


def test_moments_of_the_model_before_are_refused_after_it(source, tmp_path):
    with pytest.raises(BadSetting, match="prune cannot have moments after shrink, for it gives"):
        plan(source, {"ffn": 0.75}, {"prune": {"moments": "somewhere"}})


def test_what_it_takes_is_estimated_and_a_plan_says_what_is_asked_for(source, tmp_path):
    asked = plan(source, {"ffn": 0.75, "heads": 2, "blocks": 3})

    found = estimate(asked, near=tmp_path)[0]

    assert found.seconds > 0
    assert {"influence", "look", "press"} <= found.phases.keys()
    (tmp_path / "recipe.yaml").write_text(recipe.dump(asked))
    said = press(str(source), tmp_path / "recipe.yaml", out=tmp_path / "run", dry_run=True).says
    assert said[0].startswith(
        "step 1: shrink to blocks 3, neurons 0.75, attention heads 2, uniform, max over languages"
    )
    only = estimate(plan(source, {"blocks": 3, "by": "loss"}), near=tmp_path)[0]
    assert only.phases["influence"] > 0


# ---- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "kind", "words"),
    [
        ({}, BadSetting, "shrink takes nothing out. Say what stays"),
        ({"ffn": 1.5}, BadSetting, "a share of 1.5 is above 1"),
        ({"ffn": "many"}, BadSetting, "a size of 'many' is neither a share nor a number"),
        ({"ffn": 0.02, "multiple": 64}, BadSetting, "and none would be left"),
        ({"blocks": 5}, BadSetting, "--blocks 5 is more than the 4 blocks there are"),
        ({"heads": 1}, BadSetting, "is fewer than the heads of a group, 2"),
        ({"ffn": 0.5, "over": "min"}, BadSetting, "--over min is not known. Use max or mean."),
        ({"ffn": 0.5, "score": "size"}, BadSetting, "--score size is not known"),
        ({"blocks": 2, "by": "luck"}, BadSetting, "--by luck is not known"),
        ({"ffn": 0.5, "mixture": "lacking"}, BadSetting, "the mixture lacking is of training"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_left(source, tmp_path, step, kind, words):
    line = refusal(kind, lambda: do(plan(source, step), tmp_path / "run"))

    assert words in line
    assert not (tmp_path / "run").exists()


def test_loss_of_what_predicts_no_tokens_is_one_line(tmp_path):
    folder = saved(pico.model("distilbert"), tmp_path / "labels")

    line = refusal(BadSetting, do, plan(folder, {"blocks": 1, "by": "loss"}), tmp_path / "run")

    assert "--by loss needs a model that predicts next or hidden tokens" in line
    found = do(plan(folder, {"blocks": 1, "ffn": 0.75}), tmp_path / "run")["steps"][0]
    assert found["sizes"] == {"blocks": [2, 1], "ffn": [48, 36]}
    assert found["nats"] == {}
    assert not found["writes"]


def test_what_computes_something_else_when_it_is_cut_is_refused(source, tmp_path, monkeypatch):
    """A cut of rows that do not belong to the columns never leaves the step."""
    whole = _shrinking._cut

    def wrong(walk, widths):
        found = whole(walk, widths)
        if found.device.type != "meta":
            layer = linears(Walk(found).blocks[0])["mlp.up_proj"]
            weight(layer).copy_(weight(layer).flip(0))
        return found

    monkeypatch.setattr(_shrinking, "_cut", wrong)

    line = refusal(BadModel, do, plan(source, {"ffn": 0.75}), tmp_path / "run")

    assert "computes something else when its zeros are cut out" in line
    assert not (tmp_path / "run" / "model").exists()
