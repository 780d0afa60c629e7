"""A MODEL that is a run: its model/, and only as the run wrote it."""

import pytest
from running import do, plan

from babelpress.errors import BadModel, BadRun
from babelpress.runs.open import open_any, origin_of, place, ranges_of

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_stands_for_its_model_once_it_is_finished(model, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("steps: []")
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
    third = do(plan(tmp_path / "second", {"pattern": "0.9"}), tmp_path / "third")
    assert [step["step"]["pattern"] for step in third["before"]] == ["0.25", "1of4"]


def test_a_folder_that_is_neither_is_told_what_it_lacks(tmp_path):
    with pytest.raises(BadModel, match=r"has no config\.json"):
        open_any(str(tmp_path))
    with pytest.raises(BadRun, match="keeps no ranges"):
        ranges_of(tmp_path)
