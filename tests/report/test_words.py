"""Every word of ours that a page uses has an explanation."""

import pytest

from babelpress import evals
from babelpress.report import words
from babelpress.text import mixtures


def test_every_policy_is_explained():
    named = {each.partition(":")[0].partition("[")[0] for each in mixtures.POLICIES}

    assert [name for name in named if not words.policy(f"{name}:sw")] == ["FILE.yaml"]
    assert words.policy("FILE.yaml")
    assert set(words.POLICIES) == named - {"FILE.yaml"}


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("only:swh_Latn", "calibration text in Swahili alone"),
        ("temperature:2:xglm", "as trained, but evened out: large shares shrink, small ones grow"),
        ("shares.yaml", "shares from a file"),
        ("somebody's own", ""),
    ],
)
def test_a_policy_in_a_line(asked, shown):
    assert words.policy(asked) == shown


@pytest.mark.parametrize("name", evals.EVALUATIONS.names())
def test_every_evaluation_says_what_it_measures_and_which_way_is_better(name):
    said = words.metric(name)
    better = "Lower" if evals.facts(name).lower_is_better else "Higher"

    assert said.endswith(f"{better} is better.")
    assert len(said) > 40
    assert said[0].isupper()


def test_an_evaluation_of_another_version_is_not_explained():
    assert words.metric("no such thing") == ""
