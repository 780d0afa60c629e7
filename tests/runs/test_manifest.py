"""The manifest of a run: written once and sealed, read whole, its chain back to the beginning."""

import json

import pytest
from running import refusal

from babelpress.errors import BadRun
from babelpress.runs import manifest
from babelpress.runs.manifest import Manifest
from babelpress.runs.places import origin_of
from babelpress.steps import report_of
from babelpress.system.files import write_json, write_sealed

PRUNE = {
    "kind": "prune",
    "step": {"method": "wanda", "pattern": "0.25"},
    "model": {"name": "owner/dense", "fingerprint": "ab12"},
    "mixture": {"policy": "uniform", "shares": {"swh_Latn": 0.75, "hin_Deva": 0.25}},
    "damage": {"swh_Latn": 0.125, "hin_Deva": 0.5},
    "zeros": 3,
    "weights": 12,
    "cost": {"seconds": 1.5},
    "files": {"model/config.json": "0" * 64},
}
QUANTIZE = {
    "kind": "quantize",
    "step": {"method": "gptq", "bits": 4},
    "model": {"name": "runs/first", "fingerprint": "cd34"},
    "mixture": {"policy": "only:sw", "shares": {"swh_Latn": 1.0}},
    "grid": "4 bits, group 16",
    "cost": {"seconds": 2.5},
}
WHOLE = {
    "recipe": {"model": "owner/dense"},
    "ledger": {"parameters": 12},
    "files": {"model/config.json": "0" * 64},
    "cost": {"seconds": 4.0, "steps": [{"seconds": 1.5}]},
    "surroundings": {"device": "cpu"},
}


def finished(folder, steps=(PRUNE,), **more):
    """A folder with the manifest of these steps."""
    found = Manifest(**WHOLE, steps=tuple(map(report_of, steps)), **more)
    manifest.write(folder, found)
    (folder / manifest.RECIPE).write_text("steps: []")
    return found


def lines(folder):
    return json.loads((folder / manifest.FILE).read_text())


TUNE = {"kind": "finetune", "step": {}, "model": {"name": "runs/first", "fingerprint": "ef56"}}


@pytest.mark.parametrize(
    ("steps", "dense"),
    [
        ((PRUNE, QUANTIZE), "ab12"),
        ((TUNE, QUANTIZE), "cd34"),
        ((PRUNE, TUNE, QUANTIZE), "cd34"),
        ((PRUNE, TUNE), None),
    ],
)
def test_a_run_is_held_against_the_model_that_got_its_head(tmp_path, steps, dense):
    model = finished(tmp_path, steps).dense

    assert (model.fingerprint if model else None) == dense


# ---- reading and writing -------------------------------------------------------------------


def test_what_is_written_is_what_is_read_but_for_what_a_manifest_has_once(tmp_path):
    written = finished(tmp_path, (PRUNE, QUANTIZE))

    found = manifest.read(tmp_path)

    for part in ("recipe", "ledger", "files", "cost", "surroundings"):
        assert getattr(found, part) == getattr(written, part) == WHOLE[part]
    without = [
        {k: v for k, v in row.items() if k not in manifest.APART} for row in (PRUNE, QUANTIZE)
    ]
    assert list(found.steps) == list(map(report_of, without))
    assert [step.cost for step in found.steps] == [{}, {}]


def test_a_manifest_holds_a_seal_and_nothing_that_was_not_said(tmp_path):
    finished(tmp_path)

    rows = lines(tmp_path)

    assert set(rows) == {*WHOLE, "steps", "seal"}
    assert set(rows["steps"][0]) == set(PRUNE) - manifest.APART
    assert rows["steps"][0]["damage"] == PRUNE["damage"]


def test_writing_what_was_read_changes_no_byte(tmp_path):
    finished(tmp_path / "run", (PRUNE, QUANTIZE))

    manifest.write(tmp_path / "again", manifest.read(tmp_path / "run"))

    files = [(tmp_path / name / manifest.FILE).read_bytes() for name in ("run", "again")]
    assert files[0] == files[1]


def test_reports_come_back_as_those_of_their_kind(tmp_path):
    finished(tmp_path, (PRUNE, QUANTIZE))

    first, second = manifest.read(tmp_path).steps

    assert (type(first), type(second)) == (type(report_of(PRUNE)), type(report_of(QUANTIZE)))
    assert first.model_dump()["zeros"] == 3
    assert second.model_dump()["grid"] == "4 bits, group 16"


def test_a_report_without_a_kind_is_one_of_pruning(tmp_path):
    """Of before there were other kinds."""
    old = {key: value for key, value in PRUNE.items() if key != "kind"}
    write_json(tmp_path / manifest.FILE, {"steps": [old]})

    (step,) = manifest.read(tmp_path).steps

    assert step.kind == "prune"
    assert isinstance(step, type(report_of(PRUNE)))


def test_what_a_newer_version_wrote_beside_what_is_known_stays_there(tmp_path):
    newer = {**PRUNE, "heat": 3, "model": {**PRUNE["model"], "owner": "x"}}
    write_sealed(tmp_path / manifest.FILE, {"steps": [newer], "weather": {"rain": True}})

    manifest.write(tmp_path / "again", manifest.read(tmp_path))

    rows = lines(tmp_path / "again")
    assert rows["weather"] == {"rain": True}
    assert rows["steps"][0]["heat"] == 3
    assert rows["steps"][0]["model"]["owner"] == "x"


def test_a_manifest_that_was_read_is_not_changed_in_place(tmp_path):
    found = finished(tmp_path)

    with pytest.raises(ValueError, match="frozen"):
        found.steps = ()  # type: ignore[misc]


# ---- chain and origin ----------------------------------------------------------------------


def test_a_chain_is_what_was_done_before_and_then_the_steps(tmp_path):
    first = finished(tmp_path / "first")
    finished(tmp_path / "second", (QUANTIZE,), before=first.chain)

    found = manifest.read(tmp_path / "second")

    assert [step.kind for step in found.before] == ["prune"]
    assert [step.kind for step in found.steps] == ["quantize"]
    assert [step.kind for step in found.chain] == ["prune", "quantize"]
    assert "cost" not in lines(tmp_path / "second")["before"][0]


def test_the_origin_is_the_model_before_the_first_step_of_all(tmp_path):
    first = finished(tmp_path / "first")
    second = finished(tmp_path / "second", (QUANTIZE,), before=first.chain)
    finished(tmp_path / "third", (QUANTIZE,), before=second.chain)

    for name in ("first", "second", "third"):
        origin = manifest.read(tmp_path / name).origin
        assert (origin.name, origin.fingerprint) == ("owner/dense", "ab12")
        assert origin_of(str(tmp_path / name)) == "owner/dense"


def test_shares_are_those_of_the_last_step_that_has_some(tmp_path):
    blind = {"kind": "prune", "model": {"name": "owner/dense"}}
    first = finished(tmp_path / "first", (PRUNE, QUANTIZE))
    finished(tmp_path / "second", (PRUNE, blind))
    finished(tmp_path / "third", (blind,), before=first.chain)
    finished(tmp_path / "fourth", (blind,))

    names = ("first", "second", "third", "fourth")
    assert [manifest.read(tmp_path / name).shares for name in names] == [
        {"swh_Latn": 1.0},
        {"swh_Latn": 0.75, "hin_Deva": 0.25},
        {"swh_Latn": 1.0},
        {},
    ]


# ---- what is there -------------------------------------------------------------------------


def test_a_run_is_told_by_its_recipe_and_a_finished_one_by_its_manifest(tmp_path):
    assert not manifest.is_run(tmp_path)
    (tmp_path / manifest.RECIPE).write_text("model: mine\nsteps: []")
    assert manifest.is_run(tmp_path)
    assert not manifest.is_finished(tmp_path)
    assert manifest.read_if_there(tmp_path) is None

    finished(tmp_path)

    assert manifest.is_finished(tmp_path)
    assert manifest.read_if_there(tmp_path) == manifest.read(tmp_path)


def test_a_run_without_a_manifest_is_not_finished(tmp_path):
    words = refusal(BadRun, manifest.read, tmp_path)

    assert words == f"{tmp_path} has no manifest.json: it is no finished run. Finish it first."


# ---- damage --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        ([], "the whole"),
        ("run", "the whole"),
        ({"steps": "none"}, "steps"),
        ({"steps": [3]}, "steps.0"),
        ({"steps": [PRUNE, {"kind": "prune"}]}, "steps.1"),
        ({"before": [{**PRUNE, "model": {}}]}, "before.0"),
        ({"steps": [{**PRUNE, "damage": {"swh_Latn": "much"}}]}, "steps.0"),
        ({"steps": [PRUNE], "files": {"model": 3}}, "files.model"),
    ],
)
def test_a_manifest_of_another_form_is_refused_with_the_place(tmp_path, rows, place):
    write_json(tmp_path / manifest.FILE, rows)

    words = refusal(BadRun, manifest.read, tmp_path)

    assert words.startswith(f"{tmp_path / manifest.FILE} is no manifest of a run: {place}")


@pytest.mark.parametrize("rows", [{}, {"steps": []}, {"recipe": {}}])
def test_a_manifest_without_a_step_is_refused(tmp_path, rows):
    write_json(tmp_path / manifest.FILE, rows)

    words = refusal(BadRun, manifest.read, tmp_path)

    assert words.startswith(f"{tmp_path / manifest.FILE} is no manifest of a run: steps")


@pytest.mark.parametrize("kind", ["melt", 3, None, ["prune"]], ids=repr)
def test_a_step_of_a_kind_that_is_not_known_is_refused(tmp_path, kind):
    write_json(tmp_path / manifest.FILE, {"steps": [{**PRUNE, "kind": kind}]})

    assert str(tmp_path / manifest.FILE) in refusal(BadRun, manifest.read, tmp_path)


def test_a_changed_number_breaks_the_seal(tmp_path):
    finished(tmp_path)
    path = tmp_path / manifest.FILE
    path.write_text(path.read_text().replace("0.125", "0.126"))

    words = refusal(BadRun, manifest.read, tmp_path)

    assert words.startswith(f"{path} is damaged: it is not what was written.")


@pytest.mark.parametrize("text", ["", "{", "\x00"])
def test_what_is_no_json_is_refused(tmp_path, text):
    (tmp_path / manifest.FILE).write_text(text)

    words = refusal(BadRun, manifest.read, tmp_path)

    assert words.startswith(f"{tmp_path / manifest.FILE} is not valid JSON: ")
