"""A distilling step: folders, what was learnt, going on after a stop, and what does not fit."""

import errno

import pico
import pytest
import small
import teaching
import torch
from killing import killed_before
from running import LANGUAGES, content, do, refusal, weights
from safetensors.torch import load_file
from stopping import stop_at
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from babelpress.commands.pressing import press
from babelpress.errors import BadCorpus, BadModel, BadRun, BadSetting, UnknownName
from babelpress.numerics.lacking import shares_by_lack
from babelpress.report import card
from babelpress.runs import recipe, run
from babelpress.steps.distill import Settings
from babelpress.steps.prune import Settings as Prune

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 8
TEXT = {"languages": LANGUAGES, "tokens": 256, "length": 32}


def plan(model, *before, text=None, **step):
    asked = {"layers": 1, "steps": STEPS, "evaluate": 4, "batch": 4, "rate": 0.01, **step}
    asked = {key: value for key, value in asked.items() if value is not None}
    steps = [*({"prune": each} for each in before), {"distill": asked}]
    return recipe.of({"model": str(model), "calibration": {**TEXT, **(text or {})}, "steps": steps})


def saved(model, folder, *, mask=False):
    tokenizer = pico.tokenizer()
    if mask:
        tokenizer.mask_token = "<pad>"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return saved(pico.model("bert"), tmp_path_factory.mktemp("models") / "bert", mask=True)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    return teaching.taught(tmp_path_factory.mktemp("models"))


def test_a_student_of_a_decoder_is_an_ordinary_folder_that_learnt(taught, tmp_path):
    manifest = do(plan(taught, options={"alpha": 0.0}, rate=0.003), tmp_path / "run")

    (step,) = manifest["steps"]
    assert (step["kind"], step["kept"], step["layers"]) == ("distill", [1], [1, 2])
    assert step["objectives"] == {"hinton": {"alpha": 0.0}}
    assert [len(each) for each in step["distances"]] == [3, 3, 3]
    first, last = step["distances"][0], step["distances"][step["best"]]
    assert all(last[tag] < first[tag] for tag in LANGUAGES)
    assert (step["at"], step["best"] > 0) == ([0, 4, 8], True)
    assert set(step["reference"]) == set(step["losses_apart"][0]) == set(LANGUAGES)
    assert sum(step["read"].values()) == STEPS * 4 * 31
    assert step["parameters"][0] < step["parameters"][1]
    assert len(step["losses"]) == 2
    assert step["unit"] == "nats a scored token"
    assert step["apart"]["of_train"] == LANGUAGES
    assert "are on train text that was held apart" in step["apart"]["notes"][0]
    assert set(step["mixture"]["shares"].values()) == {1 / 3}
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert found.config.num_hidden_layers == 1
    before, after = load_file(taught / "model.safetensors"), weights(tmp_path / "run")
    assert torch.equal(after["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    embeddings = before["model.embed_tokens.weight"].numel()
    assert step["trained"] == sum(each.numel() for each in after.values()) - embeddings
    moved = after["model.layers.0.mlp.up_proj.weight"]
    assert not torch.equal(moved, before["model.layers.1.mlp.up_proj.weight"])
    assert manifest["ledger"]["parameters"] == sum(each.numel() for each in after.values())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "run" / "model" / name).read_bytes() == (taught / name).read_bytes()
    assert AutoTokenizer.from_pretrained(tmp_path / "run" / "model")("abc").input_ids
    assert not (tmp_path / "run" / "steps" / "01-distill" / "training").exists()
    assert "Nothing was added to it" not in card.card(tmp_path / "run")


def test_the_numbers_that_learn_are_those_that_are_not_the_embeddings(taught, tmp_path):
    manifest = do(plan(taught, steps=4, rate=0.003, embeddings=True), tmp_path / "run")

    after = weights(tmp_path / "run")
    assert manifest["steps"][0]["trained"] == sum(each.numel() for each in after.values())
    name = "model.embed_tokens.weight"
    assert not torch.equal(after[name], load_file(taught / "model.safetensors")[name])


@pytest.mark.parametrize("objective", ["hinton,hidden", "mixkd"])
def test_a_student_of_an_encoder_learns_hidden_words(encoder, tmp_path, objective):
    manifest = do(plan(encoder, objective=objective, rate=0.003), tmp_path / "run")

    (step,) = manifest["steps"]
    assert set(step["objectives"]) == set(objective.split(","))
    assert step["losses"][-1] < step["losses"][0]
    found = AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "model")
    assert found.config.num_hidden_layers == 1


def test_of_an_encoder_without_a_head_states_are_learnt(tmp_path):
    bare = saved(pico.model("bert").base_model, tmp_path / "bare", mask=True)

    (step,) = do(plan(bare), tmp_path / "run")["steps"]

    assert set(step["objectives"]) == {"hidden"}
    assert step["unit"] == "share of the states"
    given = {"objective": "hidden", "options": {"relative": False}, "steps": 1}
    (step,) = do(plan(bare, **given), tmp_path / "absolute")["steps"]
    assert step["unit"] == "mean squared difference of states"
    line = refusal(BadModel, do, plan(bare, objective="hinton"), tmp_path / "other")
    assert "BertModel has no head that predicts tokens" in line
    assert line.endswith("Use --objective hidden.")
    assert not (tmp_path / "other").exists()


@pytest.fixture(scope="module")
def whole(encoder, tmp_path_factory):
    """What a run gives that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    do(plan(encoder, mixture="lacking"), folder)
    return content(folder)


@pytest.mark.parametrize("stop", [2, 6])
def test_a_stopped_training_goes_on_to_the_same_bytes(encoder, whole, tmp_path, stop):
    """With dropout, and shares that were found on the way."""
    asked = plan(encoder, mixture="lacking")

    with pytest.raises(KeyboardInterrupt):
        run.do(asked, tmp_path / "run", progress=stop_at(stop))
    said = []
    run.do(asked, tmp_path / "run", progress=lambda what, done, _: said.append((what, done)))

    assert content(tmp_path / "run") == whole
    steps = [done for what, done in said if what.endswith("train: step") and done]
    assert steps[0] == (1 if stop < 4 else 5)
    assert any("resuming: training goes on" in what for what, _ in said)


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOSPC, "No space left")])
def test_a_training_that_failed_goes_on_from_its_checkpoint(encoder, whole, tmp_path, error):
    asked = plan(encoder, mixture="lacking")

    with pytest.raises((MemoryError, BadRun)):
        run.do(asked, tmp_path / "run", progress=stop_at(6, error))
    said = []
    run.do(asked, tmp_path / "run", progress=lambda what, done, _: said.append((what, done)))

    assert content(tmp_path / "run") == whole
    assert next(done for what, done in said if what.endswith("train: step") and done) == 5


def test_a_training_that_failed_before_a_checkpoint_leaves_nothing(encoder, tmp_path):
    with pytest.raises(MemoryError):
        run.do(plan(encoder), tmp_path / "run", progress=stop_at(1, MemoryError()))

    assert not list(tmp_path.rglob("*training*"))


def test_another_recipe_does_not_go_on_with_what_was_stopped(encoder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run.do(plan(encoder), tmp_path / "run", progress=stop_at(6))
    said = []
    other = plan(encoder, steps=3)
    run.do(other, tmp_path / "run", progress=lambda what, done, _: said.append((what, done)))

    assert [done for what, done in said if what.endswith("train: step")] == [0, 1, 2, 3]
    assert not any("resuming" in what for what, _ in said)


def test_shares_follow_what_each_language_lacks(model, tmp_path):
    (found,) = do(plan(model, mixture="lacking"), tmp_path / "lacking")["steps"]

    assert len(found["drawn"]) == 2
    for place, drawn in enumerate(found["drawn"]):
        losses = found["losses_apart"][place]
        lacks = {tag: losses[tag] / found["reference"][tag] - 1 for tag in LANGUAGES}
        assert drawn == pytest.approx(shares_by_lack(dict.fromkeys(LANGUAGES, 1 / 3), lacks))
    for tag, share in found["mixture"]["shares"].items():
        assert share == pytest.approx(sum(drawn[tag] for drawn in found["drawn"]) / 2)
    assert found["mixture"]["policy"] == "lacking"


def test_another_model_with_the_same_tokenizer_may_be_the_student(model, tmp_path):
    config = pico.model().config
    config.hidden_size, config.num_hidden_layers, config.head_dim = 16, 1, 4
    torch.manual_seed(3)
    student = saved(type(pico.model())(config).eval(), tmp_path / "small")

    asked = plan(model, layers=None, student=str(student), objective="hinton,hidden")
    (step,) = do(asked, tmp_path / "run")["steps"]

    assert step["kept"] == []
    assert step["layers"] == [1, 2]
    assert weights(tmp_path / "run")["model.embed_tokens.weight"].shape == (pico.VOCABULARY, 16)
    assert not [name for name in weights(tmp_path / "run") if "maps" in name]


def test_a_pruned_model_teaches_and_a_student_is_pruned(model, tmp_path):
    asked = plan(model, {"method": "magnitude", "pattern": "0.5"}).model_dump(mode="json")
    asked["steps"].append({"prune": {"method": "magnitude", "pattern": "0.25"}})

    manifest = do(recipe.of(asked), tmp_path / "run")

    assert [each["kind"] for each in manifest["steps"]] == ["prune", "distill", "prune"]
    found = weights(tmp_path / "run")["model.layers.0.mlp.up_proj.weight"]
    assert int((found == 0).sum()) == found.numel() // 4


def test_text_held_apart_is_never_learnt_and_is_named(model, tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    for tag in ("sw", "hi"):
        lines = [
            f'{{"id": "{n}", "split": "{split}", "text": "{tag} {n} maneno mengi {n * 7} ya leo"}}'
            for split, numbers in {"train": range(60), "valid": range(60, 90)}.items()
            for n in numbers
        ]
        (folder / f"{tag}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    asked = plan(model, steps=1, text={"corpus": str(folder), "languages": ["sw", "hi"]})
    (step,) = do(asked, tmp_path / "other")["steps"]

    assert step["apart"]["of_train"] == []
    assert all(tokens > 700 for tokens in step["apart"]["tokens"].values())


def test_a_plan_says_what_it_will_take_and_makes_nothing(model, tmp_path):
    asked = plan(model, mixture="lacking").model_dump(mode="json")
    del asked["model"]

    told = press(str(model), asked, out=tmp_path / "run", dry_run=True)

    assert "step 1: distil a student of 1 layers (stride) in 8 steps, lacking, on " in told.says[0]
    assert told.says[1].startswith("step 1: about ")
    assert [row["share"] for row in told.rows] == [1 / 3] * 3
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("step", "kind", "words"),
    [
        ({"student": "x"}, BadSetting, "made with --layers, or given with --student DIR: one of"),
        ({"init": "middle"}, BadSetting, "Use stride, last, first, influence, random."),
        ({"init": "last", "width": 0.5}, BadSetting, "--init last chooses layers by their place"),
        ({"layers": None, "init": "influence"}, BadSetting, "and no size is asked for. Say what"),
        ({"against": "x"}, BadSetting, "with --layers the model is the teacher"),
        ({"layers": None, "task": "ner"}, BadSetting, "--task needs --layers alone, or --student"),
        ({"width": "0.5", "task": "ner"}, BadSetting, "--task needs --layers alone, or --student"),
        ({"watch": "best"}, BadSetting, "--watch best is none of worst, mean"),
        ({"radius": 0.2}, BadSetting, "--radius has no effect without --mixture lacking"),
        ({"layers": None, "student": "x", "init": "last"}, BadSetting, "x begins with its own"),
        ({"mixture": "minimax"}, BadSetting, "minimax is of pressing. Use lacking"),
        ({"objective": "hintn"}, UnknownName, "Did you mean 'hinton'"),
        ({"options": {"temper": 1}}, BadSetting, "no objective here has an option temper"),
        ({"options": {"temperature": 0.0}}, BadSetting, "Use a number from 0.1 to 100."),
        (
            {"objective": "hidden", "options": {"weight": 0.0}},
            BadSetting,
            "hidden's weight is 0.0. Use a number from 0.001 to 1000.",
        ),
        ({"rate": 0}, BadSetting, "rate"),
    ],
)
def test_settings_that_cannot_be_are_one_line(step, kind, words):
    assert words in refusal(kind, plan, "tiny", **step)


def test_recipes_of_before_mean_what_they_meant(model):
    """All of them say stride, those of a --student too."""
    for step, init in (({}, "stride"), ({"layers": None, "student": "x"}, None)):
        now = plan("tiny", **step)
        before = now.model_dump(mode="json")
        before["steps"][0]["distill"]["init"] = "stride"

        assert recipe.of(before) == now
        assert now.steps[0].work.init == init


def test_the_mixture_of_training_is_none_of_pressing():
    line = refusal(BadSetting, Prune, mixture="lacking")

    assert "the mixture lacking is of training" in line
    assert Settings(layers=2).mixture == "uniform"


def test_what_does_not_fit_is_one_line_before_anything_is_trained(model, encoder, tmp_path):
    out = tmp_path / "run"
    labels = saved(pico.model("xlm_roberta"), tmp_path / "labels", mask=True)
    unmasked = saved(pico.model("bert"), tmp_path / "unmasked")
    foreign = tmp_path / "foreign"
    pico.model().save_pretrained(foreign)
    small.tokenizer().save_pretrained(foreign)
    both = saved(pico.model("t5"), tmp_path / "both")
    cases = [
        (plan(both), BadModel, "is an encoder-decoder, and those are not distilled here"),
        (plan(model, layers=3), BadSetting, "--layers 3 is not from 1 to 2"),
        (plan(model, layers=None), BadSetting, "a student is smaller. Make one with --layers N"),
        (plan(labels), BadModel, "gives labels, and plain text has none to learn"),
        (plan(unmasked), BadModel, "has no mask token"),
        (plan(model, layers=None, student=str(encoder)), BadModel, "reads text on both sides and"),
        (plan(model, layers=None, student=str(foreign)), BadModel, "has another tokenizer than"),
        (plan(model, text={"tokens": 32}), BadCorpus, "1 blocks of text to learn from"),
    ]
    for asked, kind, words in cases:
        assert words in refusal(kind, do, asked, out)
        assert not out.exists()


@pytest.mark.parametrize("number", [12, 42, 60])
def test_a_training_that_was_killed_goes_on_to_the_same_bytes(encoder, whole, tmp_path, number):
    asked = plan(encoder, mixture="lacking")

    assert killed_before(number, lambda: run.do(asked, tmp_path / "run"))
    do(asked, tmp_path / "run")

    assert content(tmp_path / "run") == whole
