"""Which passages a report shows: the worst-hit language, of the models whose scores it shows."""

import json

import pytest
from scoring import LOSS, ON, run, scored

from babelpress.judge.written import FILE, Generation
from babelpress.report import said
from babelpress.report.gather import report_input
from babelpress.system.files import seal, write_json

TAGS = tuple(LOSS)  # English, Swahili (worst), Hindi, Thai


def wrote(folder, weights, *, prompt="begins", tags=TAGS):
    """What a model wrote in some languages, beside its scores."""
    write_json(folder / "tallies" / f"{ON}.json", {"identity": {"model": weights}, "texts": {}})
    found = [
        Generation(tag, "", "doc-0", prompt, f"{folder.name} {tag}", "goes on", weights)
        for tag in tags
    ]
    lines = (json.dumps(seal(each.row())) + "\n" for each in found)
    (folder / FILE).write_text("".join(lines))


@pytest.fixture
def dense(tmp_path):
    folder = scored(tmp_path / "dense", dict.fromkeys(LOSS, 0.0))
    wrote(folder, "weights of dense")
    return folder


def shown(dense, *runs):
    return report_input(dense, runs, on=ON).passages


def test_three_languages_are_shown_the_worst_first(dense, tmp_path):
    one = run(tmp_path / "one", LOSS)
    wrote(one, "weights of one")

    found = shown(dense, one)

    assert [each.language for each in found] == ["swh_Latn", "tha_Thai", "eng_Latn"]
    assert [(each.by, each.text) for each in found[0].said] == [
        ("dense", "dense swh_Latn"),
        ("uniform", "one swh_Latn"),
    ]
    assert (found[0].prompt, found[0].reference) == ("begins", "goes on")


def test_only_after_equal_prompts_and_of_the_weights_that_were_scored(dense, tmp_path):
    one = run(tmp_path / "one", LOSS, policy="english")
    wrote(one, "weights of one", prompt="begins otherwise")
    two = run(tmp_path / "two", LOSS)
    wrote(two, "weights of two")
    write_json(two / "tallies" / f"{ON}.json", {"identity": {"model": "other"}, "texts": {}})

    assert shown(dense, one, two) == ()


def test_none_where_one_side_keeps_nothing(dense, tmp_path):
    one = run(tmp_path / "one", LOSS)
    assert shown(dense, one) == ()

    wrote(one, "weights of one", tags=["hin_Deva"])
    assert [each.language for each in shown(dense, one)] == ["hin_Deva"]

    (dense / FILE).unlink()
    assert shown(dense, one) == ()


def test_of_many_models_those_at_both_ends_are_shown(dense, tmp_path):
    runs = []
    for place in range(said.FEW + 1):
        loss = {tag: value * (1 + (place - 2) ** 2) for tag, value in LOSS.items()}
        runs.append(run(tmp_path / f"run-{place}", loss, policy=f"only:{place}"))
        wrote(runs[-1], f"weights of {place}")

    assert [each.by for each in shown(dense, *runs)[0].said] == ["dense", "only:0", "only:2"]
