"""A MODEL that is a run: its model/, and only as the run wrote it."""

import json

import pytest
from running import do, plan

from babelpress.errors import BadModel, BadRun
from babelpress.runs import manifest
from babelpress.runs.open import open_any, place, ranges_of
from babelpress.runs.places import origin_of

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_stands_for_its_model_once_it_is_finished(model, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("model: mine\nsteps: []")
    with pytest.raises(BadRun, match="without a finished model/"):
        place(str(run))
    model_folder = run / "model"
    model_folder.mkdir()
    (model_folder / "config.json").write_text("{}")

    assert place(str(run)) == place(str(model_folder)) == str(model_folder)
    assert place("owner/name@0123abc") == "owner/name@0123abc"
    assert place(str(model)) == str(model)


def test_a_run_is_opened_under_the_name_that_it_was_asked_for(model, tmp_path):
    do(plan(model), tmp_path / "run")

    assert open_any(str(tmp_path / "run")).name == str(tmp_path / "run")
    assert origin_of(str(tmp_path / "run")) == str(model)
    assert origin_of(str(model)) == str(model)
    assert len(ranges_of(tmp_path / "run").largest) == 8


def test_a_chain_over_two_runs_goes_back_to_the_first_model(model, tmp_path):
    do(plan(model), tmp_path / "first")

    found = do(plan(tmp_path / "first", {"pattern": "1of4"}), tmp_path / "second")

    assert [step["step"]["pattern"] for step in found["before"]] == ["0.25"]
    assert [step["step"]["pattern"] for step in found["steps"]] == ["1of4"]
    assert origin_of(str(tmp_path / "second")) == str(model)
    assert len(manifest.read(tmp_path / "second").costs) == 2
    third = do(plan(tmp_path / "second", {"pattern": "0.9"}), tmp_path / "third")
    assert [step["step"]["pattern"] for step in third["before"]] == ["0.25", "1of4"]
    costs = manifest.read(tmp_path / "third").costs
    assert len(costs) == 3 and all(each["seconds"] > 0 for each in costs)


def test_a_folder_that_is_neither_is_told_what_it_lacks(tmp_path):
    with pytest.raises(BadModel, match=r"has no config\.json"):
        open_any(str(tmp_path))
    with pytest.raises(BadRun, match="keeps no ranges"):
        ranges_of(tmp_path)


# ---- folders of other programs -------------------------------------------------------------

FOREIGN = {
    "llm-compressor": (
        "recipe.yaml",
        "stage:\n  modifiers:\n    SparseGPTModifier: {sparsity: 0.5}\n",
    ),
    "a list": ("recipe.yaml", "- model: a\n- steps: []\n"),
    "more keys": ("recipe.yaml", "model: a\nsteps: []\ndataset: b\n"),
    "no YAML": ("recipe.yaml", "model: [a\n"),
    "a tag": ("recipe.yaml", "model: !!python/name:os.system\nsteps: []\n"),
    "not UTF-8": ("recipe.yaml", b"model: \xff\nsteps: []\n"),
    "a web app": ("manifest.json", json.dumps({"name": "x", "icons": [], "steps": [{"do": 1}]})),
    "moments": ("manifest.json", json.dumps({"format": 1, "identity": {}, "blocks": 2})),
    "no JSON": ("manifest.json", "{"),
}


@pytest.mark.parametrize("program", FOREIGN)
def test_a_file_of_another_program_makes_no_run(program, tmp_path):
    name, data = FOREIGN[program]
    (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")

    assert not manifest.is_run(tmp_path) and not manifest.is_finished(tmp_path)
    assert manifest.read_if_there(tmp_path) is None
    assert place(str(tmp_path)) == str(tmp_path)
    assert place(str(tmp_path / "model")) == str(tmp_path / "model")
    assert origin_of(str(tmp_path)) == str(tmp_path)


def test_a_model_folder_is_never_a_run(model, tmp_path):
    (model / "recipe.yaml").write_text("model: a\nsteps: []\n")
    (model / "manifest.json").write_text(json.dumps({"steps": [{"model": {"name": "a"}}]}))
    assert not manifest.is_run(model) and open_any(str(model)).name == str(model)


def test_a_run_is_known_by_either_of_its_files(model, tmp_path):
    run = tmp_path / "run"
    do(plan(model), run)
    words = (run / "manifest.json").read_text()
    (run / "manifest.json").write_text(words[:-20])
    assert manifest.is_finished(run)
    with pytest.raises(BadRun, match="not valid JSON"):
        open_any(str(run))
    (run / "manifest.json").write_text(words)
    (run / "recipe.yaml").write_text("{")
    assert manifest.is_run(run) and open_any(str(run))


def test_nothing_is_done_in_a_folder_that_another_program_made(model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "recipe.yaml").write_text(FOREIGN["llm-compressor"][1])
    with pytest.raises(BadRun, match="is not empty and holds no run"):
        do(plan(model), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["recipe.yaml"]
