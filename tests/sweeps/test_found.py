"""The scores of a sweep are found again, in its order; what cannot be one report is named."""

import json
import shutil

import pytest
from scoring import LOSS, ON, run, scored

from babelpress.errors import BadRun
from babelpress.sweeps import found
from babelpress.system.files import read_json, write_json

MODEL = "a" * 64


def facts(folder, model=MODEL):
    """Say which weights were scored."""
    write_json(folder / "tallies" / f"{ON}.json", {"identity": {"model": model}, "texts": {}})
    return folder


def pressed(folder, model=MODEL):
    """A scored run of the model with this fingerprint."""
    run(folder, LOSS)
    manifest = read_json(folder / "manifest.json")
    manifest["steps"][0]["model"]["fingerprint"] = model
    write_json(folder / "manifest.json", manifest)
    return folder


@pytest.fixture
def swept(tmp_path):
    """Three runs, which the sweep had in another order than their names have."""
    facts(scored(tmp_path / "dense" / "key", dict.fromkeys(LOSS, 0.0)))
    for name in ("a1", "b2", "c3"):
        pressed(tmp_path / "runs" / name)
    order = [{"fingerprint": name, "value": 1.5} for name in ("c3", "a1", "a1", "b2")]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in order))
    return tmp_path


def test_runs_come_in_the_order_of_the_sweep(swept):
    it = found.find(swept, ON)

    assert it.dense == swept / "dense" / "key"
    assert [each.name for each in it.runs] == ["c3", "a1", "b2"]
    assert it.unscored == ()


def test_a_sweep_at_work_has_what_is_done_and_a_run_without_scores_is_named(swept):
    (swept / "results.jsonl").unlink()
    (swept / "runs" / "b2" / "results.jsonl").unlink()
    (swept / "runs" / "d4").mkdir()
    pressed(swept / "runs" / ".e5.17@here.partial")

    it = found.find(swept, ON)

    assert [each.name for each in it.runs] == ["a1", "c3"]
    assert [each.name for each in it.unscored] == ["b2"]


def test_other_dense_models_in_the_folder_are_not_taken(swept):
    facts(scored(swept / "dense" / "a-other", dict.fromkeys(LOSS, 0.0)), "b" * 64)

    assert found.find(swept, ON).dense.name == "key"


def test_a_sweep_of_several_models_is_no_one_report(swept):
    pressed(swept / "runs" / "z9", "b" * 64)

    with pytest.raises(BadRun, match="runs of 2 dense models, 1 of them scored"):
        found.find(swept, ON)


def with_head(folder):
    """A scored run whose last step gave it its head."""
    pressed(folder, "c" * 64)
    manifest = read_json(folder / "manifest.json")
    first = manifest["steps"][0]
    last = {"kind": "finetune", "step": {}, "model": {"name": "x", "fingerprint": "d" * 64}}
    write_json(folder / "manifest.json", {**manifest, "steps": [first, last]})


def test_a_run_whose_last_step_gave_the_head_is_left_out_and_named(swept):
    with_head(swept / "runs" / "d4")

    it = found.find(swept, ON)

    assert [each.name for each in it.runs] == ["c3", "a1", "b2"]
    assert [each.name for each in it.headed] == ["d4"]
    assert it.unscored == ()
    assert it.notes(ON) == [
        "These runs of the sweep are held against no dense model, as their last step gave them "
        "their head: d4."
    ]


def test_a_sweep_of_such_runs_alone_cannot_be_compared(swept):
    for name in ("a1", "b2", "c3"):
        with_head(swept / "runs" / name)

    with pytest.raises(BadRun, match="no run that is held against a dense model"):
        found.find(swept, ON)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda at: shutil.rmtree(at / "runs"), "is no folder of a sweep"),
        (lambda at: shutil.rmtree(at / "dense"), "0 of them scored"),
        (lambda at: (at / "results.jsonl").write_text("{\n"), "is no table of a sweep"),
        (
            lambda at: [path.unlink() for path in at.glob("runs/*/results.jsonl")],
            "has no run with bits_per_byte scores",
        ),
    ],
)
def test_what_is_missing_is_one_line(swept, broken, said):
    broken(swept)

    with pytest.raises(BadRun, match=said) as caught:
        found.find(swept, ON)
    assert "\n" not in str(caught.value)
