"""Curves of sparsity against loss: what is in the table, in the charts and on the page."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from scoring import LOSS, ON, run, scored

from babelpress import commands
from babelpress.errors import BadRun
from babelpress.judge.collapse import Collapse, Point
from babelpress.judge.ladders import BITS, SPARSITY, Ladder, Rung
from babelpress.report import curves, data, scale
from babelpress.report.gather import CURVES, LANGUAGES, report_input
from babelpress.report.page import render
from babelpress.system.files import read_json, write_json

BEARS = {"0.25": 0.1, "0.5": 1.0, "0.75": 2.0}  # how much of LOSS each sparsity costs


def step(pattern, method="wanda"):
    """The recipe of a pruning step."""
    return {"model": "babel-mini", "steps": [{"prune": {"method": method, "pattern": pattern}}]}


def rung(folder, pattern, part, method="wanda"):
    """A scored run of some sparsity."""
    run(folder, {tag: part * lost for tag, lost in LOSS.items()}, policy=f"{method} {pattern}")
    whole = read_json(folder / "manifest.json") | {"recipe": step(pattern, method)}
    write_json(folder / "manifest.json", whole)
    return folder


@pytest.fixture
def folders(tmp_path):
    """The dense model and a ladder of three rungs, the harshest first."""
    dense = scored(tmp_path / "dense", dict.fromkeys(LOSS, 0.0))
    return dense, [rung(tmp_path / p, p, part) for p, part in reversed(BEARS.items())]


@pytest.fixture
def given(folders):
    return report_input(*folders, on=ON, max_loss=0.04)


def drawn(report):
    """The charts by their ids, and the points of each."""
    found = curves.specs(report, data.rows(report), data.labels(report.pressed))
    return {
        name: [value for table in spec["data"] for value in table.get("values", []) if value]
        for name, spec in found.items()
    }


def test_the_table_has_every_language_the_first_that_collapses_first(given):
    held = curves.held(given)

    assert held is not None
    assert held.labels == ("wanda, sparsity",)
    assert [tongue.tag for tongue, _ in held.rows][-1] == "eng_Latn"
    cells = {tongue.tag: cell for tongue, (cell,) in held.rows if cell}
    assert cells["swh_Latn"].point == "0.25"
    assert cells["eng_Latn"].point == "≥ 0.75"
    assert held.every[0].point == "0.25"
    assert cells["eng_Latn"].shade == scale.MIDDLE < cells["swh_Latn"].shade < scale.CLASSES
    assert held.charts == (("curves-sparsity", SPARSITY, ("wanda",)),)


def test_curves_begin_at_the_dense_model_and_have_every_rung(given):
    points = drawn(given)

    assert list(points) == ["curves-sparsity", "curves-sparsity-score"]
    swahili = [p for p in points["curves-sparsity"] if p["language"] == "Swahili"]
    row = {r.label: r for r in data.rows(given) if r.tongue.tag == "swh_Latn"}
    assert [p["value"] for p in swahili] == [0.0, 0.25, 0.5, 0.75]
    assert swahili[0]["percent"] == 0.0
    assert swahili[2]["percent"] == pytest.approx(100 * row["wanda 0.5"].change)
    assert [p["score"] for p in swahili[1:]] == [
        row[f"wanda {pattern}"].pressed for pattern in ("0.25", "0.5", "0.75")
    ]
    assert [p["value"] for p in swahili if p["last"]] == [0.25]
    means = [p for p in points["curves-sparsity"] if p["language"] == curves.MEAN]
    rows = [r.change for r in data.rows(given) if r.label == "wanda 0.75"]
    assert means[-1]["percent"] == pytest.approx(100 * sum(rows) / len(rows))
    assert not [p for p in points["curves-sparsity-score"] if p["language"] == curves.MEAN]


def test_of_many_languages_the_first_and_the_last_have_lines_of_their_own():
    order = [f"l{i}" for i in range(12)]

    assert curves._shown(order) == ["l0", "l1", "l2", "l3", "l11"]
    assert curves._shown(order[: curves.MANY]) == order[: curves.MANY]


def test_lines_of_one_colour_differ_in_their_dashes():
    lines = [*"abcdefgh", curves.MEAN]

    colour: Any = curves._colour(lines).to_dict()
    colours = colour["scale"]["range"]
    pairs = set(zip(colours, map(str, curves._dashes(lines)), strict=True))

    assert len(pairs) == len(lines)


def test_bits_fall_to_the_right_and_have_no_dense_point(given):
    ladder = Ladder("gptq", BITS, (Rung(2, 8.0), Rung(1, 4.0), Rung(0, 3.0)))
    ((_, found),) = given.collapses
    points = drawn(replace(given, collapses=((ladder, found),)))

    assert list(points) == ["curves-bits", "curves-bits-score"]
    assert {p["value"] for p in points["curves-bits"]} == {8.0, 4.0, 3.0}


def test_the_finding_names_who_collapses_first_and_who_last(given):
    assert curves.finding(given) == (
        "With wanda, no language loses more than 4\u202f% up to sparsity 0.25, "
        "Swahili collapses first, and English holds up to sparsity 0.75."
    )


@pytest.mark.parametrize(
    ("holds", "words"),
    [
        ((0, 0), "With m, some language loses more than 5\u202f% already at sparsity 0.25."),
        (
            (0, 2),
            "With m, some language loses more than 5\u202f% already at sparsity 0.25, Swahili "
            "collapses first, and English holds up to sparsity 0.5.",
        ),
        (
            (3, 3),
            "With m, no language loses more than 5\u202f% up to sparsity 0.75, as far as was "
            "measured.",
        ),
    ],
)
def test_the_finding_at_the_ends_of_a_ladder(given, holds, words):
    rungs = tuple(Rung(at, value) for at, value in enumerate((0.25, 0.5, 0.75)))
    points = tuple(
        Point(tag, held, held, held)
        for tag, held in zip(("swh_Latn", "eng_Latn"), holds, strict=True)
    )
    found = Collapse(points, Point(None, min(holds), 0, 0), 0.05)

    assert curves.finding(replace(given, collapses=((Ladder("m", SPARSITY, rungs), found),))) == (
        words
    )


def test_a_language_at_chance_has_a_dash_and_comes_last(given):
    ((ladder, found),) = given.collapses
    points = tuple(
        replace(p, holds=0, at_chance=True) if p.language == "swh_Latn" else p for p in found.points
    )
    held = curves.held(replace(given, collapses=((ladder, replace(found, points=points)),)))

    assert held is not None
    tongue, (cell,) = held.rows[-1]
    assert (tongue.tag, cell and cell.point, cell and cell.note) == ("swh_Latn", "–", "at chance")


# ---- the page ------------------------------------------------------------------------------


def test_a_page_is_about_curves_where_all_runs_are_on_a_ladder_of_three(folders, tmp_path):
    dense, runs = folders
    aside = rung(tmp_path / "aside", "0.5", 1.0, method="ria")

    assert report_input(dense, runs, on=ON).rising
    assert not report_input(dense, runs[:2], on=ON).rising
    assert not report_input(dense, [*runs, aside], on=ON).rising
    assert not report_input(dense, runs, on=ON, about=LANGUAGES).rising
    assert report_input(dense, runs[:2], on=ON, about=CURVES).rising


def test_a_page_about_curves_of_runs_that_are_no_ladder_is_refused(folders):
    dense, runs = folders

    with pytest.raises(BadRun, match="no two of them differ in sparsity or bits alone"):
        report_input(dense, runs[:1], on=ON, about=CURVES)


def test_the_page_of_curves_has_them_and_no_matrix(given):
    page = render(given)

    (text,) = re.findall(r'id="specs">(.*?)</script>', page, re.DOTALL)
    specs = json.loads(text)
    assert set(specs) == {"curves-sparsity", "curves-sparsity-score"}
    assert 'id="collapse"' in page
    assert 'id="numbers"' in page
    assert 'id="heat"' not in page
    assert 'download="collapse.csv"' in page


def test_a_page_about_languages_has_the_curves_of_its_ladders_too(given):
    page = render(replace(given, rising=False))

    assert 'id="heat"' in page
    assert 'id="collapse"' in page
    assert 'id="curves-sparsity"' in page
    assert page.count("<h1>") == 1


def test_the_command_takes_the_loss_and_the_page(folders, tmp_path):
    dense, runs = folders

    out = tmp_path / "page.html"
    commands.report(dense, runs, out=out, max_loss=0.5, page="languages")

    page = out.read_text(encoding="utf-8")
    assert "loses no more than 50&nbsp;%" in page
    assert 'id="heat"' in page


def test_colours_and_dashes_have_one_legend_also_where_ladders_name_other_languages(sample):
    tags = [change.language for change in sample.pressed[0].comparison.changes]
    ladders = tuple(
        (
            Ladder(name, SPARSITY, (Rung(0, 0.3), Rung(1, 0.5), Rung(2, 0.7))),
            Collapse(
                tuple(Point(tag, 1, 1, 1, loss=sign * at) for at, tag in enumerate(tags)),
                Point(None, 1, 1, 1),
                0.05,
            ),
        )
        for name, sign in (("wanda", 1), ("ria", -1))
    )
    report = replace(sample, collapses=ladders)

    (spec, *_) = curves.specs(report, data.rows(report), data.labels(report.pressed)).values()

    (legend,) = spec["legends"]
    assert {"stroke", "strokeDash"} <= set(legend)
    scales = {each["name"]: each for each in spec["scales"]}
    assert scales["color"]["domain"] == scales["strokeDash"]["domain"]
    assert scales["color"]["domain"][-1] == curves.MEAN
    assert len(scales["color"]["domain"]) > curves.FIRST + 2
