"""The table of benchmarks/protect on a tiny sweep: ways side by side, and shares of uniform's."""

from pathlib import Path

import pytest
import running

from babelpress.commands.sweeping import sweep
from babelpress.sweeps import plan
from benchmarks.protect import table

TONGUES = ["en", "sw", "hi"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("protect")
    running.loud(folder / "tiny")

    def step(mixture):
        prune = {"method": "wanda", "pattern": "0.5", "propagate": "dense", "mixture": mixture}
        return {"prune": prune}

    recover = {"recover": {"steps": 2, "batch": 64, "evaluate": 2}}
    asked = {
        "model": str(folder / "tiny"),
        "calibration": {"languages": TONGUES, "tokens": 128, "length": 32},
        "steps": [step("uniform")],
        "recipes": [
            {"steps": [step("english")]},
            {"steps": [step("uniform")]},
            {"steps": [step("uniform")], "calibration.weigh": "loss"},
            {"steps": [step("uniform"), recover]},
        ],
        "vary": {"calibration.seed": [0, 1]},
        "evaluate": {"documents": 3, "languages": TONGUES},
    }
    sweep(asked, out=folder / "out")
    return folder / "out"


def test_a_row_is_a_way_beside_uniform_with_the_same_repair(swept):
    found = table.load(swept)

    told = table.rows(found)

    assert [row[:4] for row in told] == [
        ["wanda 0.5", "none", "english", "0, 1"],
        ["wanda 0.5", "none", "uniform", "0, 1"],
        ["wanda 0.5", "none", "uniform, weighed by the loss", "0, 1"],
        ["wanda 0.5", "uniform", "uniform", "0, 1"],
    ]
    runs = {(way.label, way.repair, run.seed): run for way, run in found}
    shares = [
        runs["english", "none", seed].summary("worst")[0]
        / runs["uniform", "none", seed].summary("worst")[0]
        for seed in (0, 1)
    ]
    english = [
        runs["english", "none", seed].loss("eng_Latn")
        - runs["uniform", "none", seed].loss("eng_Latn")
        for seed in (0, 1)
    ]
    assert told[0][7] == f"{sum(shares) / 2:.2f}"
    assert told[0][8] == f"{100 * sum(english) / 2:+.1f}"
    assert [told[n][7] for n in (1, 3)] == ["1.00", "1.00"]


def test_languages_that_no_choice_was_made_on_can_be_looked_at_alone(swept):
    told = table.rows(table.load(swept, ["sw", "hi"]))

    assert {row[6] for row in told} <= {"sw", "hi", "sw, hi", "hi, sw"}
    assert {row[8] for row in told} == {"–"}


@pytest.mark.parametrize(("name", "recipes"), [("mini", 38), ("gemma", 38), ("left_out", 7)])
def test_the_sweeps_are_read(name, recipes):
    found = plan.load(Path(table.__file__).parent / f"{name}.yaml").entries

    assert len(found) == 3 * 3 * recipes  # as it is and twice repaired, three seeds
    kinds = [tuple(step.kind for step in each.recipe.steps) for each in found]
    assert all(len(each) == 1 for each in kinds[: 3 * recipes])
    assert all(each[1] == "recover" for each in kinds[3 * recipes :])
