"""What compare says of runs that differ in sparsity alone, from folders made by hand."""

import pytest
from scoring import LOSS, run, scored

from babelpress import commands
from babelpress.commands.declared import rows_of
from babelpress.errors import BadRun
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
        "hin_Deva",
        "swh_Latn",
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
