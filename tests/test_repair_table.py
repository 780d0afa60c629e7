"""The table of benchmarks/repair on a tiny sweep: one row a way to repair, shares of before."""

from pathlib import Path

import pytest
import running

from babelpress.commands.sweeping import sweep
from babelpress.sweeps import plan
from benchmarks.repair import table

TONGUES = ["en", "sw"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repair")
    running.loud(folder / "tiny")
    prune = {"prune": {"method": "magnitude", "pattern": "0.5", "propagate": "dense"}}
    recover = {"recover": {"steps": 3, "batch": 128, "evaluate": 3, "rate": 0.003}}
    asked = {
        "model": str(folder / "tiny"),
        "calibration": {"languages": TONGUES, "tokens": 256, "length": 32},
        "steps": [prune],
        "recipes": [{"steps": [prune]}, {"steps": [prune, recover]}],
        "evaluate": {"documents": 3, "languages": TONGUES},
    }
    sweep(asked, out=folder / "out")
    return folder / "out"


def test_a_row_tells_what_a_repair_gave_back_and_took(swept):
    first, second = table.rows(table.load([swept]))

    assert first[:3] == ["magnitude 0.5", "none", "–"]
    assert second[:3] == ["magnitude 0.5", "logits", "uniform"]
    assert (first[8], first[9], first[10]) == ("–", "–", "–")
    runs = table.load([swept])
    assert second[8] == f"{runs[1].summary('worst') / runs[0].summary('worst'):.2f}"
    assert second[9] == f"{3 * 4 * 31:,}"
    assert len(first) == len(second) == 11


@pytest.mark.parametrize("name", ["sweep", "gemma"])
def test_the_sweeps_are_read(name):
    found = plan.load(Path(table.__file__).parent / f"{name}.yaml")

    ways = {tuple(step.kind for step in each.recipe.steps) for each in found.entries}
    assert {("prune",), ("prune", "recover"), ("quantize", "recover"), ("recover",)} <= ways
