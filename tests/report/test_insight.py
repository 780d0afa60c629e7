"""The page of analyses, and the same sections in a report."""

import base64
import hashlib
import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from scoring import LOSS, run, scored

import babelpress as bp
from babelpress.errors import BabelpressWarning, BadRun
from babelpress.insight._kept import Kept, write
from babelpress.insight._pictures import Picture, Point
from babelpress.report import page, pictures, scale
from babelpress.report.gather import _analyses
from babelpress.report.insight import render, write_page

TAGS = ("English", "Swahili", "Hindi")
HEAT = Picture(
    "languages",
    "Whose activations does pressing disturb?",
    "run disturbs Swahili most (9.0 dB).",
    tuple(
        Point(run, str(block), name, 20.0 - 3.5 * place - block if block else None)
        for run in ("run", "other run")
        for place, name in enumerate(TAGS)
        for block in range(3)
    ),
    across="block",
    down="language",
    value="output SNR, dB",
    panel="run",
    first="other run",
    bad="low",
    digits=1,
    none="unchanged",
)
LINES = Picture(
    "depth",
    "At which depth?",
    "In block 1.",
    tuple(Point("", str(b), n, b / 4 + len(n)) for n in ("mean", "least") for b in range(4)),
    across="block",
    down="pairs",
    value="cosine",
    kind="lines",
)
KEPT = Kept("damage", "f00", "What pressing damages", "babel-mini; run", {}, (HEAT, LINES), {})


class Page(HTMLParser):
    """Elements by tag, with what is inside scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.inside, self.tags, self.attributes, self._open = {}, [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._open = tag
        if tag in ("script", "style"):
            self.inside.setdefault(tag, []).append("")

    def handle_data(self, data):
        if self._open in ("script", "style"):
            self.inside[self._open][-1] += data

    def handle_endtag(self, tag):
        assert tag
        self._open = ""


def rendered(*kept):
    return render(kept or (KEPT,), model="babel-mini", runs=["run"])


def test_a_page_has_question_answer_chart_and_numbers_of_every_picture():
    text = rendered()

    for shown in (HEAT, LINES):
        before, _, after = text.partition(f">{html.escape(shown.question)}</h3>")
        assert before and shown.seen in after
    found = Page(text)
    assert [v for t, n, v in found.attributes if (t, n) == ("figure", "id")] == [
        "insight-0-languages",
        "insight-0-depth",
    ]
    assert found.tags.count("table") == 3  # two panels of the heat map, and the lines
    assert found.tags.count("td") == 2 * 9 + 8 and text.count(">unchanged</td>") == 6
    assert 'value="other run" selected' in text


def test_the_policy_allows_the_scripts_and_the_style_of_the_page_alone_and_nothing_is_fetched():
    found = Page(rendered())
    policy = next(v for _, _, v in found.attributes if v.startswith("default-src"))

    for source in (*found.inside["script"][1:], *found.inside["style"]):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    links = [v for _, name, v in found.attributes if name in ("src", "href", "action")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not [name for _, name, _ in found.attributes if name == "style" or name[:2] == "on"]


def test_hostile_names_add_no_element():
    attack = '</script></td><script>alert(1)</script>"\u202e'
    points = tuple(p._replace(panel=attack, down=attack + p.down) for p in HEAT.points)
    hostile = replace(HEAT, points=points, seen=attack, question=attack, first="")

    text = rendered(replace(KEPT, pictures=(hostile,), about=attack, spoken=attack))

    assert Page(text).tags.count("script") == 3
    assert "\u202e" not in text and "alert(1)</script>" not in text


def values_of(picture):
    spec = pictures.specs([replace(KEPT, pictures=(picture,))])[f"insight-0-{picture.name}"]
    return next(d["values"] for d in spec["data"] if d["name"] == pictures.DATA)


def test_a_chart_has_every_number_with_the_colour_of_its_class():
    values = values_of(HEAT)

    assert len(values) == len(HEAT.points)
    low = min((v for v in values if v["value"] is not None), key=lambda v: v["value"])
    high = max((v for v in values if v["value"] is not None), key=lambda v: v["value"])
    # a low ratio is a loss: it has the last class, the highest the one of no loss at all
    assert low["shade"] == f"var(--class-{scale.CLASSES - 1})"
    assert high["shade"] == f"var(--class-{scale.MIDDLE})"
    assert values_of(LINES) and low["shown"] == "11.0"


def test_the_legend_says_where_every_colour_begins():
    (section,) = pictures.sections([KEPT])
    heat, lines = section.pictures
    limits = [float(words) for _, words in heat.legend[1:]]

    assert lines.legend == ()
    assert limits == sorted(limits) and heat.legend[0][1] == ""
    for value in values_of(HEAT):
        if value["value"] is not None:
            shade = int(re.findall(r"\d+", value["shade"])[0])
            place = [each for each, _ in heat.legend].index(shade)
            assert place == sum(value["value"] >= limit for limit in limits)


@pytest.mark.parametrize("bad", ["", "low", "high"])
def test_equal_numbers_have_one_class_and_none_at_all_are_no_failure(bad):
    same = replace(HEAT, bad=bad, points=(Point("", "0", "a", 1.0), Point("", "1", "a", 1.0)))
    nothing = replace(same, points=(Point("", "0", "a", None),))

    assert {value["shade"] for value in values_of(same)} == {f"var(--class-{scale.MIDDLE})"}
    assert "shade" not in values_of(nothing)[0]


def test_counts_have_a_class_for_none_at_all_and_one_for_each_number():
    counts = tuple(Point("", str(at), "a", float(at)) for at in range(5))
    (section,) = pictures.sections(
        [replace(KEPT, pictures=(replace(HEAT, points=counts, digits=0, bad=""),))]
    )

    assert [words for _, words in section.pictures[0].legend] == ["", "1", "2", "3", "4"]


def test_both_axes_have_a_title_where_their_names_are_the_same():
    points = tuple(Point("", one, other, 0.5) for one in TAGS for other in TAGS)
    pairs = replace(HEAT, points=points, across="small in", down="large in", first="")
    alike = replace(pairs, across="language", down="language")

    def titles(picture):
        spec = pictures.specs([replace(KEPT, pictures=(picture,))])["insight-0-languages"]
        return {axis["scale"]: axis.get("title") for axis in spec["axes"]}

    assert titles(pairs) == {"x": "small in", "y": "large in"}
    assert titles(alike) == {"x": None, "y": None}
    assert titles(HEAT) == {"x": "block", "y": None}


def test_lines_of_all_panels_have_one_scale():
    points = tuple(p._replace(panel=run) for run in ("a", "b") for p in LINES.points)
    low, *rest = points
    other = replace(LINES, points=(low._replace(value=-2.0), *rest), panel="run")
    spec = pictures.specs([replace(KEPT, pictures=(other,))])["insight-0-depth"]

    (domain,) = (each["domain"] for each in spec["scales"] if each["name"] == "y")
    assert domain == [-2.0, max(p.value or 0.0 for p in LINES.points)]


def test_the_table_to_download_has_every_number_unrounded():
    (section,) = pictures.sections([KEPT])

    lines = unquote(section.pictures[0].csv.partition(",")[2]).lstrip("\ufeff").splitlines()

    assert lines[0] == 'run,language,block,"output SNR, dB"'
    assert len(lines) == 1 + len(HEAT.points)
    assert lines[1] == "run,English,0," and lines[2] == "run,English,1,19.0"


def test_a_page_without_a_picture_is_an_error(tmp_path):
    with pytest.raises(BadRun, match="no analysis has a picture"):
        write_page([], tmp_path / "insight.html", model="m", runs=[])
    assert not (tmp_path / "insight.html").exists()


def test_a_report_shows_what_lies_in_a_run_and_what_is_named(sample, tmp_path):
    write(tmp_path / "run" / "insight", KEPT, [{"value": 1.0}], {})
    write(tmp_path / "joint", KEPT, [{"value": 1.0}], {})

    found, damaged = _analyses([tmp_path / "run", tmp_path / "bare"], None)
    both, _ = _analyses([tmp_path / "run"], tmp_path / "joint")
    text = page.render(replace(sample, analyses=both))

    assert [kept.analysis for kept in found] == ["damage"] and not damaged
    assert len(both) == 2
    assert text.count(HEAT.seen) == 2 and 'id="insight-1-depth"' in text
    assert HEAT.seen not in page.render(sample)
    with pytest.raises(BadRun, match="has no analyses"):
        _analyses([], tmp_path / "nowhere")
    with pytest.raises(BadRun, match=r"joint has analyses of another model \(babel-mini; run\)"):
        _analyses([], tmp_path / "joint", {"e11"})
    assert _analyses([], tmp_path / "joint", {"f00"})[0]


@pytest.mark.parametrize("name", ["damage.json", "damage.jsonl"])
def test_a_report_leaves_a_damaged_analysis_out_says_so_and_goes_on(name, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "_bundle", lambda: "window.vegaEmbed = 0;")
    dense = scored(tmp_path / "dense", dict.fromkeys(LOSS, 0.0))
    pressed = run(tmp_path / "run", LOSS)
    inside = pressed / "insight"
    write(inside, KEPT, [{"value": 1.0}], {})
    write(inside, replace(KEPT, analysis="overlap", pictures=(LINES,)), [{"value": 2.0}], {})
    (inside / name).write_text("{")
    again = f"Do it again: babelpress insight RUN --on damage --out {inside}"

    with pytest.warns(BabelpressWarning, match=re.escape(f"damage is left out: {inside / name}")):
        found = bp.report(dense, pressed, out=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")

    assert found.warnings[0].endswith(again)
    assert HEAT.seen not in text and LINES.seen in text
    assert html.escape(f"The analysis damage is left out: {inside / name}") in text
    both, damaged = _analyses([pressed], inside)
    assert [kept.analysis for kept in both] == ["overlap", "overlap"] and len(damaged) == 2


def test_a_report_still_stops_at_a_damaged_score(tmp_path):
    dense = scored(tmp_path / "dense", dict.fromkeys(LOSS, 0.0))
    pressed = run(tmp_path / "run", LOSS)
    (pressed / "results.jsonl").write_text("{\n")

    with pytest.raises(BadRun, match=r"results\.jsonl line 1"):
        bp.report(dense, pressed, out=tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
