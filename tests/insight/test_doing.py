"""Analyses of a small model and two runs of it, from the command to the page."""

import json
import shutil
from typing import Any

import numpy as np
import pico
import pytest
import torch
from running import TEXT, plan

import babelpress as bp
from babelpress import cli
from babelpress.commands import checks
from babelpress.errors import BadCorpus, BadModel, BadMoments, BadRun, BadSetting
from babelpress.insight import ANALYSES, PARTS, _kept, facts
from babelpress.judge.scores import facts_path, sites_path, write_results
from babelpress.models.open import open_model
from babelpress.models.walk import Walk
from babelpress.moments.calibrate import calibrate
from babelpress.numerics.tally import Tally
from babelpress.report import page
from babelpress.runs import run
from babelpress.runs.open import open_any
from babelpress.system.files import read_json, write_json, write_sealed
from babelpress.text.settings import CalibrationSettings

pytestmark = pytest.mark.usefixtures("one_thread")
EVERY = ("similarity", "damage", "overlap", "neurons", "subspace", "features", "ranges")
ASKED = {"languages": ",".join(TEXT["languages"]), "tokens": 256, "length": 64}


@pytest.fixture(autouse=True)
def without_charts(monkeypatch):
    """The script that draws takes seconds to make; tests/report/test_insight.py has it."""
    monkeypatch.setattr(page, "_bundle", lambda: "window.vegaEmbed = 0;")


@pytest.fixture(scope="module")
def place(model, tmp_path_factory):
    """Moments and two runs that were made of them, with range scores made by hand."""
    folder = tmp_path_factory.mktemp("runs")
    text = CalibrationSettings.model_validate(TEXT)
    calibrate(open_model(str(model)), text, folder / "moments", gram=False)
    sites = [s.name for s in Walk(open_model(str(model)).model).sites(0, _hidden(model))]
    for name, pattern in (("english", "0.25"), ("uniform", "0.5")):
        step = {"pattern": pattern, "moments": str(folder / "moments"), "propagate": "dense"}
        run.do(plan(model, step), folder / name)
        _score(folder / name, sites)
    return folder


def _hidden(model):
    return Walk(open_model(str(model)).model).start(torch.tensor([[3, 4, 5, 6]]))


def _score(folder, sites):
    """Scores of the evaluation `range`, as `babelpress eval` keeps them."""
    rows, shares = [], {}
    for at, tag in enumerate(TEXT["languages"]):
        tally = Tally(("a", "b"), np.array([1.0 + at, 2.0]), np.array([100.0, 300.0]))
        tally.save(folder / "tallies" / f"range.{tag}.parquet")
        row = {"model": "m", "language": tag, "evaluation": "range", "value": tally.value}
        rows.append(row)
        shares[tag] = {f"{b}.{site}": 0.01 * (at + 1) for b in range(2) for site in sites}
    write_results(folder, rows)
    write_json(facts_path(folder, "range", ""), {"identity": {}, "files": {}})
    write_json(sites_path(folder, "range", ""), shares)


def asked(capsys, *words):
    """The JSON document of a command line, and what it says meanwhile."""
    code = cli.main(["insight", *map(str, words), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def test_every_analysis_is_done_from_the_command_line_to_the_page(place, tmp_path, capsys):
    out = tmp_path / "insight"
    words = [place / "english", place / "uniform", "--on", ",".join(EVERY), "--out", out]
    words += [f"--{key}={value}" for key, value in ASKED.items()]

    code, document, said = asked(capsys, *words)

    assert code == 0 and document["out"] == str(out)
    rows = document["results"]
    assert list(dict.fromkeys(row["analysis"] for row in rows)) == list(EVERY)
    html = (out / "insight.html").read_text(encoding="utf-8")
    assert all(row["question"] in html for row in rows)
    assert "which a recipe names" in said
    assert set(EVERY) == {kept.analysis for kept in _kept.read_all(out)[0]}
    assert set(EVERY) == set(ANALYSES.names())

    before = {path.name: path.read_bytes() for path in out.iterdir()}
    code, _, said = asked(capsys, *words)

    assert code == 0
    assert said.count("is done: nothing is done again") == len(EVERY)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_another_option_or_a_damaged_file_is_done_again_and_others_stay(place, tmp_path, capsys):
    out = tmp_path / "insight"
    bp.insight(place / "english", on="features,similarity", moments=place / "moments", out=out)
    capsys.readouterr()

    def done(*words):
        code, _, said = asked(
            capsys,
            *(place / "english", "--on", "features,similarity", "--moments", place / "moments"),
            *("--out", out, *words),
        )
        assert code == 0
        return [name for name in ("features", "similarity") if f"{name} is done: nothing" in said]

    assert done() == ["features", "similarity"]
    assert done("--option", "ratio=0.25") == ["similarity"]
    (out / "similarity.jsonl").write_text("{}\n")
    assert done("--option", "ratio=0.25") == ["features"]
    assert done("--option", "ratio=0.25") == ["features", "similarity"]
    narrow = ("--option", "ratio=0.25", "--languages", ",".join(TEXT["languages"][:2]))
    assert done(*narrow) == []
    tags = {row["language"] for row in _kept.read_rows(out, "features")}
    assert tags == set(TEXT["languages"][:2])


def test_results_of_one_run_lie_inside_it_and_moments_are_taken_where_none_fit(
    place, model, tmp_path, capsys
):
    own = tmp_path / "own"
    shutil.copytree(place / "english", own)

    shutil.move(place / "moments", place / "elsewhere")
    try:
        code, document, said = asked(
            capsys, own, "--on", "damage", "--gram", *(f"--{k}={v}" for k, v in ASKED.items())
        )
    finally:
        shutil.move(place / "elsewhere", place / "moments")

    assert code == 0 and "which a recipe names" not in said
    assert document["out"] == str(own / "insight")
    assert (own / "insight" / "moments" / "manifest.json").exists()
    rows = _kept.read_rows(own / "insight", "damage")
    assert {row.get("form") for row in rows} == {"gram", None}
    assert open_any(str(own)).model  # the run is still whole


def test_without_a_run_a_model_is_looked_at_alone(place, model, tmp_path):
    found = bp.insight(
        dense=model,
        on=["similarity", "neurons"],
        out=tmp_path / "alone",
        option="rate=0.1",
        **ASKED,
    )

    assert {row["analysis"] for row in found.rows} == {"similarity", "neurons"}
    protected = (tmp_path / "alone" / "protect.yaml").read_text()
    assert protected.startswith("neurons:\n  ")
    assert "fates" not in {row["picture"] for row in found.rows}


def test_text_that_changed_in_its_place_is_looked_at_again(model, tmp_path, capsys):
    text, out = tmp_path / "text", tmp_path / "out"
    text.mkdir()

    def look(words):
        for tag in ("eng_Latn", "swh_Latn"):
            row = {"id": "a", "split": "train", "text": f"{tag} {words} " * 20}
            (text / f"{tag}.jsonl").write_text(json.dumps(row) + "\n")
        where = ("--dense", model, "--corpus", text, "--out", out, "--tokens", 64, "--length", 32)
        code, _, said = asked(capsys, "--on", "neurons", "--option", "rate=0.1", *where)
        assert code == 0
        return "neurons is done: nothing" in said

    assert [look("one"), look("one"), look("other")] == [False, True, False]


def test_every_analysis_declares_what_it_reads_and_says():
    for name in ANALYSES.names():
        declared = facts(name)

        assert set(declared.reads) <= set(PARTS) and declared.runs in (0, 1, 2)
        assert declared.spoken and ANALYSES.defines(name, "measure")
        assert ANALYSES.defines(name, "pictures") and ANALYSES.about(name)


def test_what_is_wrong_is_told_before_anything_is_opened(place, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = place / "english"
    moments = {"moments": place / "moments"}

    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"runs": run, "on": "overlap"}, BadSetting, "overlap needs 2 runs at least; 1 is named"),
        ({"on": "similarity"}, BadSetting, "no run is named, and no model"),
        ({"runs": tmp_path, "on": "damage"}, BadRun, "is no finished run"),
        ({"runs": run, "on": "ranges", **moments}, BadSetting, "--moments has no effect on ranges"),
        ({"runs": run, "on": "damage", "moments": tmp_path}, BadMoments, "it is no moments folder"),
        ({"runs": run, "on": "damage", "dense": "nomodel"}, BadModel, "'nomodel' is neither"),
        ({"runs": run, "on": "damage", "option": "ratio=1"}, BadSetting, "has an option ratio"),
        ({"runs": run, "on": "neurons", "corpus": "nowhere"}, BadCorpus, "no folder nowhere"),
        (
            {"runs": run, "on": "subspace", "languages": "sw"},
            BadSetting,
            "needs 2 of them at least",
        ),
        (
            {"runs": run, "on": "ranges", "languages": "yor_Latn"},
            BadRun,
            "english has no range scores of yor_Latn",
        ),
    ]

    for given, error, words in wrong:
        with pytest.raises(error, match=words):
            bp.insight(**given, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_only_the_model_or_a_hub_can_tell_is_told_before_the_first_analysis(
    model, tmp_path, monkeypatch
):
    given: dict[str, Any] = {"dense": model, "on": "neurons,similarity", "out": tmp_path / "out"}

    with pytest.raises(BadSetting, match=r"site must be one of .*mlp\.down_proj; it is mlp\.up\."):
        bp.insight(**given, option="site=mlp.up", **ASKED)
    monkeypatch.setattr(checks, "text", lambda *_: [])  # as of a hub
    with pytest.raises(BadSetting, match="neurons tells languages apart and needs 2"):
        bp.insight(**given, **{**ASKED, "languages": "sw"})

    assert not list((tmp_path / "out").glob("*"))


def test_a_model_that_was_moved_is_named_and_languages_that_lack_are_told(place, model, tmp_path):
    gone = tmp_path / "gone"
    shutil.copytree(place / "english", gone)
    manifest = read_json(gone / "manifest.json")
    manifest["steps"][0]["model"]["name"] = str(tmp_path / "moved")
    write_json(gone / "manifest.json", manifest)

    with pytest.raises(BadModel, match=r"began with .*moved, which cannot be opened .*--dense"):
        bp.insight(gone, on="damage", out=tmp_path / "out")
    with pytest.raises(BadMoments, match=r"has no moments of yor_Latn; it has swh_Latn"):
        bp.insight(
            place / "english",
            on="similarity",
            moments=place / "moments",
            languages="yor_Latn",
            out=tmp_path / "out",
        )


def test_a_run_whose_inputs_were_scaled_cannot_be_compared_weight_by_weight(place, tmp_path):
    scaled = tmp_path / "scaled"
    shutil.copytree(place / "english", scaled)
    manifest = read_json(scaled / "manifest.json")
    manifest["steps"][0] |= {"kind": "quantize", "step": {"method": "awq", "bits": 4}}
    write_json(scaled / "manifest.json", manifest)

    with pytest.raises(BadRun, match="scaled was quantized with awq, which scales inputs"):
        bp.insight(scaled, on="damage", out=tmp_path / "out", moments=place / "moments")


# ---- other models, other results in the folder ---------------------------------------------


def test_a_run_that_began_with_other_weights_is_refused(model, place, tmp_path):
    shutil.copytree(model, tmp_path / "other")
    pico.model(seed=7).save_pretrained(tmp_path / "other")

    with pytest.raises(BadRun, match=r"uniform began with other weights than .*other has now"):
        bp.insight([place / "uniform"], on="damage", dense=tmp_path / "other", out=tmp_path / "o")

    assert not (tmp_path / "o" / "damage.json").exists()


def test_what_else_lies_in_the_folder_is_shown_if_it_is_of_the_model_and_sound(
    place, tmp_path, capsys
):
    runs, out = [place / "english", place / "uniform"], tmp_path / "o"
    bp.insight(runs, on="damage", moments=place / "moments", out=out)
    said = read_json(out / "damage.json")

    def shown():
        bp.insight(runs, on="overlap", out=out)
        return "Whose activations does pressing disturb" in (out / "insight.html").read_text()

    assert shown()
    write_sealed(out / "damage.json", {**said, "model": "e11"})
    assert not shown()
    (out / "damage.json").write_text("{")
    assert not shown()
    assert cli.main(["insight", *map(str, runs), "--on", "overlap", "--out", str(out)]) == 0
    assert "damage is not on the page, for it is damaged" in capsys.readouterr().err


def test_what_somebody_made_of_the_neurons_to_protect_is_never_lost(model, tmp_path):
    asked: dict[str, Any] = {**ASKED, "on": "neurons", "dense": str(model), "out": tmp_path / "o"}
    bp.insight(**asked)
    path = tmp_path / "o" / "protect.yaml"
    made = path.read_text()
    path.write_text("neurons: {0: [1]}\n")

    bp.insight(**asked)  # is done
    assert path.read_text() == "neurons: {0: [1]}\n"
    asked["tokens"] = 128
    bp.insight(**asked)

    assert (tmp_path / "o" / "protect.yaml.old").read_text() == "neurons: {0: [1]}\n"
    assert path.read_text().startswith(made[:8])
    asked["tokens"] = 192
    bp.insight(**asked)  # what nobody edited needs no copy
    assert [each.name for each in (tmp_path / "o").glob("protect*.old*")] == ["protect.yaml.old"]
    path.write_text("neurons: {1: [2]}\n")
    asked["tokens"] = 256
    bp.insight(**asked)
    assert (tmp_path / "o" / "protect.yaml.old").read_text() == "neurons: {0: [1]}\n"
    assert (tmp_path / "o" / "protect.yaml.old2").read_text() == "neurons: {1: [2]}\n"
