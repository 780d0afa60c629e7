"""What compare says of runs that differ in sparsity alone, from folders made by hand."""

import json

import numpy as np
import pytest
from scoring import LOSS, ON, run, scored

from babelpress import commands
from babelpress.commands.declared import rows_of
from babelpress.errors import BadRun
from babelpress.judge import scores
from babelpress.numerics.tally import Tally
from babelpress.system.files import read_json, write_json

BEARS = {"0.25": 0.1, "0.5": 1.0, "0.75": 2.0}  # how much of LOSS each sparsity costs


def step(pattern):
    """The recipe of a pruning step."""
    return {"model": "babel-mini", "steps": [{"prune": {"method": "wanda", "pattern": pattern}}]}


@pytest.fixture
def folders(tmp_path):
    """The dense model and its runs, the harshest first."""
    runs = []
    for pattern, part in reversed(BEARS.items()):
        losses = {tag: part * lost for tag, lost in LOSS.items()}
        runs.append(run(tmp_path / f"run-{pattern}", losses))
        whole = read_json(runs[-1] / "manifest.json") | {"recipe": step(pattern)}
        write_json(runs[-1] / "manifest.json", whole)
    return scored(tmp_path / "dense", dict.fromkeys(LOSS, 0.0)), runs


def test_runs_of_one_ladder_give_the_collapse_point_of_every_language(folders):
    dense, runs = folders

    found = commands.compare(dense, runs, max_loss=0.04)

    points = [row for row in found.rows if row["kind"] == "collapse"]
    assert [row["language"] for row in points] == [
        None,
        "swh_Latn",
        "hin_Deva",
        "tha_Thai",
        "eng_Latn",
    ]
    assert [row["point"] for row in points] == [0.25, 0.25, 0.25, 0.25, 0.75]
    assert {row["name"] for row in points} == {"sparsity"}
    assert {row["run"] for row in points} == {"wanda"}
    documented = sorted(rows_of(commands.COMMANDS["compare"]))
    assert all(sorted(row) == documented for row in found.rows)
    table = found.tables[-1]
    assert table.title == (
        "wanda: the largest sparsity up to which each language loses at most 4 %"
    )
    cells = {row["name"]: row["point"] for row in table.rows}
    assert cells["every language"] == cells["Swahili"] == "0.25"
    assert cells["English"] == "≥ 0.75"


def test_a_loss_that_none_bears_has_no_point(folders):
    dense, runs = folders

    found = commands.compare(dense, runs, max_loss=0.0001)

    rows = {row["language"]: row for row in found.rows if row["kind"] == "collapse"}
    assert all(row["point"] is row["low"] is row["high"] is None for row in rows.values())
    assert {row["point"] for row in found.tables[-1].rows} == {"< 0.25"}


def test_several_runs_have_a_line_each(folders):
    dense, runs = folders

    found = commands.compare(dense, runs)

    (together,) = [each for each in found.tables if each.title.startswith("all runs")]
    assert [row["run"] for row in together.rows] == ["run-0.75", "run-0.5", "run-0.25"]
    for row in together.rows:
        own = {r["name"]: r for r in found.rows if r["run"] == row["run"]}
        assert row["gap"] == pytest.approx(own["swh_Latn"]["change"] - own["eng_Latn"]["change"])
        assert (row["language"], row["worst"]) == ("swh_Latn", own["swh_Latn"]["change"])


def test_one_run_alone_has_neither(folders):
    dense, runs = folders

    found = commands.compare(dense, runs[:1])

    assert {row["kind"] for row in found.rows} == {"summary", "language"}
    assert len(found.tables) == 2


def test_a_folder_alone_that_is_no_sweep_is_refused(folders):
    with pytest.raises(BadRun, match=r"no folder of a sweep.*Name the scored dense model"):
        commands.compare(folders[0])


def test_of_a_sweep_its_folder_is_enough_and_runs_go_by_what_they_differ_in(folders, tmp_path):
    dense, runs = folders
    for there, place in ((dense, "dense/k"), *((each, f"runs/{each.name}") for each in runs)):
        folder = tmp_path / "swept" / place
        folder.parent.mkdir(parents=True, exist_ok=True)
        there.rename(folder)
        write_json(folder / "tallies" / "bits_per_byte.json", {"identity": {"model": "f00"}})
        if place != "dense/k":
            whole = read_json(folder / "manifest.json")
            whole["steps"][0]["model"]["fingerprint"] = "f00"
            write_json(folder / "manifest.json", whole)

    found = commands.compare(tmp_path / "swept")

    (together,) = [each for each in found.tables if each.title.startswith("all runs")]
    assert [row["run"] for row in together.rows] == ["pattern 0.25", "pattern 0.5", "pattern 0.75"]
    assert {row["run"] for row in found.rows if row["kind"] == "summary"} == {
        "run-0.25",
        "run-0.5",
        "run-0.75",
    }
    assert found.tables[0].title.startswith("pattern 0.25 against ")
    assert found.tables[-1].title.startswith("wanda: the largest sparsity")


# ---- harder text ---------------------------------------------------------------------------


def on_corpora(folder, losses, *, documents=12):
    """Scores on two corpora, by language and corpus; hard documents lose twice as much."""
    rows = []
    for corpus, by_language in losses.items():
        for place, (tag, lost) in enumerate(by_language.items()):
            rng = np.random.default_rng([place, len(corpus)])
            size = rng.integers(50, 90, documents).astype(float)
            hard = np.linspace(1, 2, documents)
            names = tuple(f"{corpus}/{i:02d}" for i in range(documents))
            tally = Tally(names, size * hard * (1 + lost * hard), size)
            row = {"model": "m", "language": tag, "evaluation": ON, "corpus": corpus}
            rows.append({**row, "value": tally.value})
            tally.save(scores.tally_path(folder, rows[-1]))
            write_json(scores.facts_path(folder, ON, corpus), {"identity": {"corpus": corpus}})
    folder.mkdir(exist_ok=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def twofold(tmp_path):
    """A dense model and a run, scored on news and on talk."""
    lost = {"news": {"eng_Latn": 0.02, "swh_Latn": 0.05}, "talk": {"swh_Latn": 0.2}}
    none = {corpus: dict.fromkeys(by_language, 0.0) for corpus, by_language in lost.items()}
    return on_corpora(tmp_path / "dense", none), on_corpora(tmp_path / "run", lost)


def test_easy_and_hard_documents_have_rows_and_a_table(twofold):
    dense, pressed = twofold

    found = commands.compare(dense, [pressed], corpus="news", buckets=True)

    rows = {(row["name"], row["language"]): row for row in found.rows if row["kind"] == "bucket"}
    assert len(rows) == 9
    assert rows["easy", "swh_Latn"]["change"] < rows["hard", "swh_Latn"]["change"]
    assert rows["hard", None]["documents"] == 8
    assert all(row["low"] <= row["change"] <= row["high"] for row in rows.values())
    documented = sorted(rows_of(commands.COMMANDS["compare"]))
    assert all(sorted(row) == documented for row in found.rows)
    (table,) = [each for each in found.tables if "easy or hard" in each.title]
    assert [row["name"] for row in table.rows] == ["mean of all", "English", "Swahili"]


def test_documents_without_an_order_are_told(folders):
    dense, runs = folders

    found = commands.compare(dense, runs[:1], buckets=True)

    assert not [row for row in found.rows if row["kind"] == "bucket"]
    (line,) = [line for line in found.says if "no order of easy and hard" in line]
    assert line.startswith("run-0.75: bits_per_byte gives documents no order")


def test_a_second_corpus_stands_beside_the_first_and_the_other_one_is_meant(twofold):
    dense, pressed = twofold

    found = commands.compare(dense, [pressed], ood="talk")

    rows = {(row["name"], row["language"]): row for row in found.rows if row["kind"] == "ood"}
    by_tag = {row["name"]: row for row in found.rows if row["kind"] == "language"}
    assert set(by_tag) == {"eng_Latn", "swh_Latn"}  # those of news
    assert {language for _, language in rows} == {None, "swh_Latn"}
    more, there = rows["more", "swh_Latn"], rows["elsewhere", "swh_Latn"]
    assert more["change"] == pytest.approx(there["change"] - by_tag["swh_Latn"]["change"])
    assert more["low"] > 0.1
    (table,) = [each for each in found.tables if "(there)" in each.title]
    assert table.title == "run: change on news (here) and on talk (there)"


def test_a_second_corpus_that_is_not_there_is_named(twofold):
    dense, pressed = twofold

    with pytest.raises(BadRun, match=r"scores on radio \(it has news, talk\)"):
        commands.compare(dense, [pressed], corpus="news", ood="radio")


def test_a_report_shows_both(twofold, tmp_path):
    dense, pressed = twofold

    commands.report(dense, [pressed], ood="talk", out=tmp_path / "page.html")

    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'id="thirds"' in page
    assert 'id="elsewhere"' in page
