from types import SimpleNamespace

import pytest

from babelpress.insight import ranges

BEYOND = {
    "english": {
        "eng_Latn": {"0.q+k": 0.0, "0.mlp.down": 0.001, "1.q+k": 0.0},
        "tam_Taml": {"0.q+k": 0.01, "0.mlp.down": 0.03, "1.q+k": 0.25},
    },
    "uniform": {"eng_Latn": {"0.q+k": 0.002, "0.mlp.down": 0.0, "1.q+k": 0.0}},
}


@pytest.fixture
def given():
    return SimpleNamespace(labels=list(BEYOND), beyond=BEYOND.__getitem__)


def test_shares_are_those_that_were_kept_by_block(given):
    rows = ranges.measure(given)

    assert len(rows) == 9
    at = {(r["run"], r["language"], r["block"], r["site"]): r["value"] for r in rows}
    assert at["english", "tam_Taml", 0, "mlp.down"] == 0.03
    languages, sites = ranges.pictures(rows)
    shown = {(p.panel, p.down, p.across): p.value for p in languages.points}
    assert shown["english", "Tamil", "0"] == pytest.approx(2.0)  # mean of 1 % and 3 %
    assert shown["uniform", "Tamil", "0"] is None
    by_site = {(p.panel, p.down, p.across): p.value for p in sites.points}
    assert by_site["english", "q+k", "1"] == pytest.approx(12.5)


def test_the_language_and_the_site_that_are_furthest_out_are_named(given):
    languages, sites = ranges.pictures(ranges.measure(given))

    assert "in english Tamil leaves it most (9.667 %)" in languages.seen
    assert "in uniform English leaves it most (0.067 %)" in languages.seen
    assert "Tamil at q+k of block 1 in english (25.000 %)" in sites.seen
    assert languages.points[0].down == "Tamil"
