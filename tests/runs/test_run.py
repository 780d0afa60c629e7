"""A run is a folder: whole, made once, the same bytes however often it was killed on the way."""

import pytest
import torch
import yaml
from killing import killed_before
from running import (
    LANGUAGES,
    TEXT,
    content,
    do,
    plan,
    refusal,
    same_weights,
    stop_in_step,
    weights,
)
from safetensors.torch import load_file

from babelpress.errors import BabelpressError, BadMoments, BadRun, BadSetting
from babelpress.models.open import open_model
from babelpress.moments import gather as feeding
from babelpress.moments.calibrate import calibrate
from babelpress.press import blocks as press
from babelpress.runs import manifest, recipe, run
from babelpress.runs.open import open_any
from babelpress.runs.places import origin_of
from babelpress.system.files import read_json
from babelpress.text import mixtures
from babelpress.text.settings import CalibrationSettings

pytestmark = pytest.mark.usefixtures("one_thread")
LINEARS = ("_proj.weight",)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """Moments of that model, by whether they have Gram matrices."""
    folders = {gram: tmp_path_factory.mktemp("moments") / "moments" for gram in (False, True)}
    for gram, out in folders.items():
        text = CalibrationSettings.model_validate(TEXT)
        calibrate(open_model(str(model)), text, out, gram=gram)
    return folders


@pytest.fixture(scope="module")
def moments(saved):
    """Moments of that model with Gram matrices."""
    return saved[True]


def test_a_finished_run_holds_recipe_report_manifest_and_model(model, tmp_path):
    asked = plan(model)

    found = do(asked, tmp_path / "run")

    files = set(content(tmp_path / "run"))
    assert {name for name in files if not name.startswith("model/")} == {
        "recipe.yaml",
        "manifest.json",
        "ranges.safetensors",
        "steps/01-prune/report.json",
    }
    assert {"model/model.safetensors", "model/config.json", "model/tokenizer.json"} <= files
    assert recipe.load(tmp_path / "run" / "recipe.yaml") == asked
    assert found == read_json(tmp_path / "run" / "manifest.json")
    assert set(found) == {"recipe", "steps", "ledger", "files", "cost", "surroundings"}
    assert recipe.of(found["recipe"]) == asked
    assert found["cost"]["steps"][0]["seconds"] > 0
    step = found["steps"][0]
    assert set(step["damage"]) == set(step["mixture"]["shares"]) == {*LANGUAGES}
    assert step["model"]["name"] == str(model)
    assert set(step["calibration"]["languages"]) == {*LANGUAGES}
    assert open_any(str(tmp_path / "run")).name == str(tmp_path / "run")
    usual = (tmp_path / "run" / "manifest.json").stat().st_mode  # the weights are as readable
    assert {p.stat().st_mode for p in (tmp_path / "run").rglob("*") if p.is_file()} == {usual}


@pytest.mark.parametrize("pattern", ["0.25", "1of4", "0.3/layer", "0.25/16"])
def test_the_zeros_in_the_manifest_are_those_of_the_saved_weights(model, tmp_path, pattern):
    step = do(plan(model, {"pattern": pattern}), tmp_path / "run")["steps"][0]

    linears = [w for n, w in weights(tmp_path / "run").items() if n.endswith(LINEARS)]
    assert step["zeros"] == sum(int((w == 0).sum()) for w in linears) > 0
    assert step["weights"] == sum(w.numel() for w in linears)
    assert sum(site["zeros"] for site in step["sites"]) == step["zeros"]
    assert len(step["sites"]) == 8


def test_what_is_skipped_and_all_that_is_no_linear_stays_as_it_was(model, tmp_path):
    do(plan(model, {"skip": ["*down_proj"]}), tmp_path / "run")

    before = load_file(model / "model.safetensors")
    same = {name for name, w in weights(tmp_path / "run").items() if torch.equal(w, before[name])}
    pressed = {n for n in before if n.endswith(LINEARS) and "down_proj" not in n}
    assert same == set(before) - pressed


def test_a_finished_run_is_not_done_again(model, tmp_path, monkeypatch):
    first = do(plan(model), tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    monkeypatch.setattr(run, "open_any", None)

    assert do(plan(model), tmp_path / "run") == first
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}


def test_a_finished_step_is_not_done_again(model, tmp_path, monkeypatch):
    chain = plan(model, {}, {"pattern": "1of4"})
    do(chain, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        do(chain, tmp_path / "run", progress=stop_in_step(2))
    words = refusal(BadRun, open_any, str(tmp_path / "run"))
    assert "without a finished model" in words
    opened = []
    real = run.open_step

    def watched(folder, **options):
        opened.append(folder)
        return real(folder, **options)

    monkeypatch.setattr(run, "open_step", watched)
    monkeypatch.setattr(run, "open_any", None)
    do(chain, tmp_path / "run")

    assert opened == [tmp_path / "run" / "steps" / "01-prune"]
    assert content(tmp_path / "run") == content(tmp_path / "whole")


def test_an_interrupted_first_step_leaves_nothing(model, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        do(plan(model), tmp_path / "run", progress=stop_in_step(1))

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [0, 1, 4, 9, 14, 17, 20, 22, 23])
def test_a_run_killed_before_a_write_goes_on_to_the_same_bytes(model, tmp_path, number):
    do(plan(model), tmp_path / "whole")

    assert killed_before(number, lambda: do(plan(model), tmp_path / "run"))
    do(plan(model), tmp_path / "run")

    assert content(tmp_path / "run") == content(tmp_path / "whole")


@pytest.mark.slow
def test_a_chain_killed_before_any_write_goes_on_to_the_same_bytes(model, tmp_path):
    chain = plan(model, {}, {"pattern": "1of4"})
    do(chain, tmp_path / "whole")
    killed = 0
    for number in range(200):
        out = tmp_path / str(number)
        if not killed_before(number, lambda out=out: do(chain, out)):
            break
        killed += 1
        do(chain, out)
        assert content(out) == content(tmp_path / "whole"), f"killed before write {number}"

    assert killed > 30


def test_between_moving_the_model_and_the_manifest_nothing_is_lost(model, tmp_path, monkeypatch):
    do(plan(model), tmp_path / "whole")
    real = manifest.write_sealed

    def dies(path, value):
        if path == tmp_path / "run" / "manifest.json":
            raise KeyboardInterrupt
        real(path, value)

    monkeypatch.setattr(manifest, "write_sealed", dies)
    with pytest.raises(KeyboardInterrupt):
        do(plan(model), tmp_path / "run")
    assert (tmp_path / "run" / "model" / "config.json").exists()
    monkeypatch.setattr(manifest, "write_sealed", real)
    monkeypatch.setattr(run, "open_any", None)

    do(plan(model), tmp_path / "run")

    assert content(tmp_path / "run") == content(tmp_path / "whole")


def test_two_steps_are_the_second_done_on_the_model_of_the_first(model, tmp_path):
    later = {"method": "magnitude", "pattern": "0.4"}
    manifest = do(plan(model, {}, later), tmp_path / "chain")
    do(plan(model), tmp_path / "first")

    second = do(plan(tmp_path / "first", later), tmp_path / "second")

    assert same_weights(tmp_path / "chain", tmp_path / "second")
    assert not same_weights(tmp_path / "chain", tmp_path / "first")
    first, last = manifest["steps"]
    assert first["zeros"] < last["zeros"] == second["steps"][0]["zeros"]
    assert first["model"]["fingerprint"] != last["model"]["fingerprint"]
    assert last["model"] == second["steps"][0]["model"]


def test_a_run_goes_by_the_training_shares_of_the_model_that_it_began_with(model, tmp_path):
    steps = {"mixture": "proportional"}, {"mixture": "proportional", "pattern": "1of4"}
    chain = do(plan(model, *steps), tmp_path / "chain")
    do(plan(model), tmp_path / "first")
    after = do(plan(tmp_path / "first", *steps), tmp_path / "second")

    expected = mixtures.mixture("proportional:babel-mini", LANGUAGES).shares
    for step in (*chain["steps"], *after["steps"]):
        assert step["mixture"]["distribution"] == "babel-mini"
        assert step["mixture"]["shares"] == expected
        assert step["model"]["name"] == str(model)


def test_another_recipe_in_the_folder_of_a_run_is_refused(model, tmp_path):
    do(plan(model), tmp_path / "run")
    before = content(tmp_path / "run")

    words = refusal(BadRun, run.do, plan(model, seed=1), tmp_path / "run")

    assert f"{tmp_path / 'run'} holds a run of another recipe" in words
    assert content(tmp_path / "run") == before


def test_a_recipe_that_an_older_version_wrote_with_fewer_defaults_is_the_same_one(model, tmp_path):
    do(plan(model), tmp_path / "run")
    path = tmp_path / "run" / "recipe.yaml"
    data = yaml.safe_load(path.read_text())
    for key in ("allocate", "allocation"):
        del data["steps"][0]["prune"][key]
    path.write_text(yaml.safe_dump(data))
    before = content(tmp_path / "run")

    run.do(plan(model), tmp_path / "run")

    assert content(tmp_path / "run") == before


@pytest.mark.parametrize("report", ["{}", "[]", '{"kind": "prune", "model": {}}'])
def test_a_damaged_report_of_a_step_is_named(report, tmp_path):
    (tmp_path / "report.json").write_text(report)

    with pytest.raises(BadRun, match=r"is no report of a step|and no mapping"):
        manifest.read_report(tmp_path / "report.json")


def test_the_folder_of_the_weights_of_a_run_stands_for_the_run(model, tmp_path):
    do(plan(model), tmp_path / "run")

    assert origin_of(str(tmp_path / "run" / "model")) == str(model)
    do(plan(tmp_path / "run" / "model"), tmp_path / "again")
    assert len(manifest.read(tmp_path / "again").chain) == 2


def test_a_folder_that_holds_anything_else_is_refused_and_left_as_it_is(model, tmp_path, moments):
    (tmp_path / "notes.txt").write_text("mine")

    assert "is not empty and holds no run" in refusal(BadRun, run.do, plan(model), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    before = sorted(moments.iterdir())
    assert "is not empty and holds no run" in refusal(BadRun, run.do, plan(model), moments)
    assert sorted(moments.iterdir()) == before


def test_a_run_whose_model_was_removed_is_an_error(model, tmp_path):
    do(plan(model), tmp_path / "run")
    (tmp_path / "run" / "model").rename(tmp_path / "elsewhere")

    assert "has lost its model/" in refusal(BadRun, run.do, plan(model), tmp_path / "run")


def test_a_folder_in_use_is_refused(model, tmp_path):
    def second(what, done, total):
        words = refusal(BadRun, run.do, plan(model), tmp_path / "run")
        assert "is in use by process" in words

    do(plan(model), tmp_path / "run", progress=second)


@pytest.mark.parametrize(("method", "gram"), [("wanda", False), ("sparsegpt", True)])
@pytest.mark.parametrize("mixture", ["uniform", "only:am", "minimax"])
def test_saved_moments_give_the_weights_that_the_text_itself_gives(
    model, saved, tmp_path, method, gram, mixture
):
    step = {
        "method": method,
        "mixture": mixture,
        "propagate": "dense",
        "minimax": {"rounds": 3},
    }
    of_folder = plan(model, {**step, "moments": str(saved[gram])})

    found = do(of_folder, tmp_path / "saved")["steps"][0]
    direct = do(plan(model, step), tmp_path / "direct")["steps"][0]

    assert same_weights(tmp_path / "saved", tmp_path / "direct")
    for key in ("damage", "trace", "zeros", "sites", "mixture", "calibration"):
        assert found[key] == direct[key]


def test_gram_matrices_that_wanda_does_not_need_do_not_change_what_it_does(model, saved, tmp_path):
    for gram, folder in saved.items():
        step = {"propagate": "dense", "moments": str(folder)}
        do(plan(model, step), tmp_path / str(gram))

    assert same_weights(tmp_path / "False", tmp_path / "True")


def test_moments_of_fewer_languages_are_weighed_where_fewer_are_asked_for(model, moments, tmp_path):
    step = {"propagate": "dense", "moments": str(moments)}

    found = do(plan(model, step, languages=["am", "hi"]), tmp_path / "run")["steps"][0]

    assert found["mixture"]["shares"] == {"amh_Ethi": 0.5, "hin_Deva": 0.5}
    assert set(found["damage"]) == {*LANGUAGES}
    words = refusal(BadMoments, run.do, plan(model, step, languages=["fr"]), tmp_path / "no")
    assert f"{moments} has no moments of fra_Latn; it has swh_Latn, amh_Ethi, hin_Deva" in words
    assert not (tmp_path / "no").exists()


def test_moments_need_propagate_dense_and_gram_matrices_where_the_method_does(
    model, tmp_path, saved
):
    step = {"moments": str(saved[True]), "propagate": "compressed"}
    assert "use propagate dense" in refusal(BadSetting, run.do, plan(model, step), tmp_path / "no")
    step = {"moments": str(saved[False]), "propagate": "dense", "method": "sparsegpt"}
    assert "--gram" in refusal(BadSetting, run.do, plan(model, step), tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_minimax_keeps_its_trace_and_takes_the_best_of_it(model, tmp_path):
    step = {"mixture": "minimax", "minimax": {"rounds": 4, "rate": 0.5}, "propagate": "dense"}

    found = do(plan(model, step), tmp_path / "run")["steps"][0]

    trace = found["trace"]
    assert len(trace) == 4
    assert trace[0]["shares"] == dict.fromkeys(LANGUAGES, pytest.approx(1 / 3))
    assert all(each["mean"] < each["worst"] for each in trace)
    assert found["mixture"]["policy"] == "minimax"
    assert found["mixture"]["shares"] == min(trace, key=lambda each: each["worst"])["shares"]
    assert sum(found["mixture"]["shares"].values()) == pytest.approx(1)
    # pressed with these shares, the languages lose what the loop foretold
    worst = min(each["worst"] for each in trace)
    assert max(found["damage"].values()) == pytest.approx(worst, rel=1e-12)


def test_minimax_with_compressed_propagation_finds_the_same_shares(model, tmp_path):
    step = {"mixture": "minimax", "minimax": {"rounds": 2}}

    dense = do(plan(model, {**step, "propagate": "dense"}), tmp_path / "dense")["steps"][0]
    other = do(plan(model, step), tmp_path / "compressed")["steps"][0]

    assert other["trace"] == dense["trace"]
    assert not same_weights(tmp_path / "dense", tmp_path / "compressed")


@pytest.mark.parametrize("propagate", ["dense", "compressed"])
@pytest.mark.parametrize("mixture", ["english", "only:fr"])
def test_a_mixture_of_unseen_languages_is_refused_before_anything_runs(
    model, tmp_path, monkeypatch, mixture, propagate
):
    monkeypatch.setattr(press, "gather", None)
    monkeypatch.setattr(feeding, "gather", None)
    asked = plan(model, {"mixture": mixture, "propagate": propagate})

    words = refusal(BadSetting, run.do, asked, tmp_path / "run")

    assert f"the mixture {mixture} gives a share to" in words
    assert "swh_Latn, amh_Ethi, hin_Deva" in words
    assert not (tmp_path / "run").exists()


def test_an_unknown_mixture_is_refused_before_anything_runs(model, tmp_path, monkeypatch):
    monkeypatch.setattr(press, "gather", None)
    monkeypatch.setattr(feeding, "gather", None)

    refusal(BabelpressError, run.do, plan(model, {"mixture": "unifrom"}), tmp_path / "run")

    assert not (tmp_path / "run").exists()


def test_two_runs_of_one_recipe_differ_in_their_cost_alone(model, tmp_path):
    step = {"method": "sparsegpt", "mixture": "minimax", "minimax": {"rounds": 2}}

    do(plan(model, step, {}), tmp_path / "one")
    do(plan(model, step, {}), tmp_path / "other")

    assert content(tmp_path / "one") == content(tmp_path / "other")


def test_a_recipe_file_that_a_run_wrote_does_the_run_again(model, tmp_path):
    do(plan(model, {"options": {}, "skip": ["*o_proj"]}), tmp_path / "one")
    words = (tmp_path / "one" / "recipe.yaml").read_text()

    do(recipe.of(yaml.safe_load(words)), tmp_path / "other")

    assert content(tmp_path / "one") == content(tmp_path / "other")
