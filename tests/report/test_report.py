"""What the report says and how it is put together, without a browser."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from babelpress.errors import BadRun, NotFinite
from babelpress.judge.compare import Summary
from babelpress.report import ReportInput, charts, data, extras, matrix, scale, write_report
from babelpress.report.finding import WIDTH, cards, finding
from babelpress.report.overview import overview

LEDGER = {
    "bytes_dense": 10_490_368,
    "bytes_stored": 5_998_336,
    "parameters": 5_245_184,
    "bits_per_weight": 9.1487,
    "parts": [
        {"part": "blocks", "parameters": 5_245_184, "bytes_dense": 10_490_368,
         "bytes_stored": 5_998_336, "bits": 9.1487},
    ],
}  # fmt: skip


class Page(HTMLParser):
    """Scripts, styles, titles and attributes of a page, as a parser that is not ours sees them."""

    def __init__(self, text: str):
        super().__init__()
        self.inside: dict[str, list[str]] = {"script": [], "style": [], "title": []}
        self.attributes: list[tuple[str, str, str]] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._open = tag
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag):
        self._open = self._open.replace(tag, "")

    def handle_data(self, data):
        if self._open in self.inside:
            self.inside[self._open][-1] += data


def written(report: ReportInput, folder) -> str:
    return write_report(report, folder / "report.html").read_text()


def with_worst(report: ReportInput, *worst: tuple[float, float, float]) -> ReportInput:
    """The report with other worst languages: value, low and high, all of Thai."""
    pressed = []
    for model, (value, low, high) in zip(report.pressed, worst, strict=False):
        summaries = tuple(
            Summary("worst", value, low, high, "tha_Thai") if old.name == "worst" else old
            for old in model.comparison.summaries
        )
        pressed.append(replace(model, comparison=replace(model.comparison, summaries=summaries)))
    return replace(report, pressed=tuple(pressed))


def test_the_policy_allows_exactly_the_scripts_and_the_style_of_the_page(sample, tmp_path):
    page = Page(written(sample, tmp_path))
    policy = next(value for tag, name, value in page.attributes if value.startswith("default-src"))

    def hashes(sources):
        found = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in sources)
        return {f"'sha256-{digest}'" for digest in found}

    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert set(directives["script-src"].split()) == hashes(page.inside["script"][1:])
    assert set(directives["style-src"].split()) == hashes(page.inside["style"])
    assert "unsafe" not in policy


def test_the_page_points_nowhere_outside_itself(sample, tmp_path):
    page = Page(written(sample, tmp_path))

    links = [value for _, name, value in page.attributes if name in ("src", "href", "action")]

    assert all(link.startswith(("#", "data:")) for link in links)
    assert not [name for _, name, _ in page.attributes if name == "style" or name.startswith("on")]


def test_the_page_is_small_enough_to_send(sample, tmp_path):
    assert len(written(sample, tmp_path).encode()) < 1_600_000


def test_hostile_text_adds_no_element_and_no_attribute(sample, tmp_path):
    attack = "</script></title><script>alert(1)</script>\" onload='x' {{ 7*7 }} \u2028\ud800"
    first = replace(sample.pressed[0], name="other", calibration="plain")
    usual = Page(written(replace(sample, pressed=(first, *sample.pressed[1:])), tmp_path))
    hostile = replace(
        sample,
        title=attack,
        model=attack,
        share_source=attack,
        notes=(attack,),
        manifest={attack: attack},
        pressed=(replace(sample.pressed[0], name=attack, calibration=attack), *sample.pressed[1:]),
    )

    page = Page(written(hostile, tmp_path))

    shown = attack.replace("\ud800", "\ufffd")
    assert len(page.inside["script"]) == len(usual.inside["script"]) == 3
    assert page.inside["title"] == [shown]
    assert len(page.attributes) == len(usual.attributes)
    assert not set("<>&\u2028") & set(page.inside["script"][0])
    labels = [
        value["label"]
        for table in json.loads(page.inside["script"][0])["dumbbell"]["data"]
        for value in table.get("values", [])
    ]
    assert f"{shown} · {shown}" in labels


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a\x00b\x9f", "a�b�"),
        ("x\u202ey", "x�y"),
        ("\ud83d", "�"),
        ("line\n\tkept", "line\n\tkept"),
    ],
)
def test_what_cannot_be_seen_is_shown_to_be_there(given, shown):
    assert data.clean(given) == shown


def test_the_language_that_loses_most_in_any_model_comes_first(sample):
    first, second, _ = sample.pressed
    changes = [
        replace(c, change=0.9) if c.language == "tha_Thai" else c for c in second.comparison.changes
    ]
    changes = [replace(c, change=-9.0) if c.language == "eng_Latn" else c for c in changes]
    other = replace(second, comparison=replace(second.comparison, changes=tuple(changes)))

    ordered = [tongue.tag for tongue in data.tongues(replace(sample, pressed=(first, other)))]

    assert ordered[0] == "tha_Thai"
    assert ordered[-1] == "eng_Latn"
    assert [t.tag for t in data.in_order(data.rows(sample))] == [
        tongue.tag for tongue in data.tongues(sample)
    ]


def test_a_language_that_the_table_lacks_goes_by_its_tag(sample):
    model = sample.pressed[0]
    strange = replace(model.comparison.changes[0], language="qqq_Zzzz")
    model = replace(model, comparison=replace(model.comparison, changes=(strange,)))

    assert data.tongues(replace(sample, pressed=(model,)))[0].name == "qqq_Zzzz"


def test_a_language_that_was_not_measured_is_named(sample, tmp_path):
    model = sample.pressed[1]
    fewer = tuple(c for c in model.comparison.changes if c.language != "tam_Taml")
    model = replace(model, comparison=replace(model.comparison, changes=fewer))
    report = replace(sample, pressed=(sample.pressed[0], model))

    assert "proportional was not measured in Tamil." in written(report, tmp_path)


def test_models_of_two_methods_are_told_apart_and_twins_are_refused(sample, tmp_path):
    first, second, _ = sample.pressed

    assert data.labels((first, replace(first, name="ria 0.5"))) == [
        "wanda 0.5 · english",
        "ria 0.5 · english",
    ]
    with pytest.raises(BadRun, match="two pressed models are called 'english'"):
        data.labels((first, second, first))
    with pytest.raises(BadRun, match="nothing to report"):
        write_report(replace(sample, pressed=()), tmp_path / "none.html")
    assert not list(tmp_path.iterdir())


def test_a_score_that_is_no_number_stops_the_report(sample, tmp_path):
    model = sample.pressed[0]
    broken = replace(model.comparison.changes[3], pressed=float("nan"))
    model = replace(model, comparison=replace(model.comparison, changes=(broken,)))

    with pytest.raises(NotFinite, match=f"english with the dense model in {broken.language}"):
        write_report(replace(sample, pressed=(model,)), tmp_path / "nan.html")

    assert not list(tmp_path.iterdir())


def test_the_finding_names_the_dearest_and_the_cheapest_calibration(sample):
    report = with_worst(sample, (0.24, 0.21, 0.27), (0.15, 0.13, 0.17), (0.116, 0.1, 0.13))

    sentence = finding(report.pressed, data.rows(report))

    assert sentence.replace("\u202f", " ") == (
        "English-only calibration costs the worst language (Thai) 24.0 %, minimax 11.6 %."
    )


def test_intervals_that_overlap_are_no_finding(sample):
    report = with_worst(sample, (0.24, 0.12, 0.3), (0.15, 0.13, 0.17), (0.116, 0.1, 0.13))

    sentence = finding(report.pressed, data.rows(report))

    assert sentence.startswith("No significant difference between the calibrations in the worst")
    assert "English-only 24.0\u202f% (Thai) and minimax 11.6\u202f% (Thai)" in sentence


def test_without_a_significant_language_there_is_no_finding(sample):
    rows = [replace(row, significant=False) for row in data.rows(sample)]

    assert finding(sample.pressed, rows) == (
        "No significant difference from the dense model in any language."
    )


def few(report, *places, documents=4, needed=11):
    """A report without a finding, in some of whose languages the test can find nothing."""

    def changed(place, change):
        scarce = {"documents": documents, "needed": needed} if place in places else {}
        return replace(change, significant=False, **scarce)

    models = [
        replace(
            model,
            comparison=replace(
                model.comparison,
                changes=tuple(changed(*each) for each in enumerate(model.comparison.changes)),
            ),
        )
        for model in report.pressed
    ]
    return replace(report, pressed=tuple(models))


def test_documents_too_few_to_tell_are_not_called_no_difference(sample, tmp_path):
    report = few(with_worst(sample, (0.24, 0.21, 0.27)), *range(31))

    sentence = finding(report.pressed, data.rows(report)).replace("\u202f", " ")
    page = written(report, tmp_path)

    assert sentence == (
        "Too few documents to tell (4; at least 11) whether any language differs from the dense "
        "model. The worst language (Thai) changes by +24.0 %, 95 % interval +21.0 % to +27.0 %."
    )
    assert "o significant difference" not in page.split('id="specs"')[0]
    assert '<td class="same">too few documents to tell (4; at least 11)</td>' in page
    spec = charts.dumbbell(data.rows(report))
    colours = next(scale for scale in spec["scales"] if scale["name"] == "color")
    points = [point for each in spec["data"] for point in each.get("values", ())]
    assert {point["told"] for point in points} <= set(colours["domain"])
    assert {point["verdict"] for point in points} == {"too few documents to tell (4; at least 11)"}


def test_some_languages_with_too_few_documents_are_named(sample):
    report = few(with_worst(sample, (0.24, 0.21, 0.27)), 0, 2)

    sentence = finding(report.pressed, data.rows(report))

    assert sentence.startswith(
        "No significant difference from the dense model in any language that has documents enough; "
        "too few documents to tell (4; at least 11) in English, German. The worst language (Thai)"
    )


def test_one_model_alone_is_described_by_its_worst_language_and_mean(sample):
    report = with_worst(sample, (0.24, 0.21, 0.27))

    sentence = finding(report.pressed, data.rows(report))

    mean = report.pressed[0].comparison.summaries[0].value * 100
    assert sentence.replace("\u202f", " ") == (
        "English-only calibration costs the worst language (Thai) 24.0 %, "
        f"and all languages {mean:.1f} % on average."
    )


def test_a_gain_everywhere_is_not_called_a_loss(sample):
    report = with_worst(sample, (-0.01, -0.02, -0.005), (-0.02, -0.03, -0.01))

    sentence = finding(report.pressed, data.rows(report))

    assert sentence == "No language loses anything, whatever the calibration."


def test_the_bars_of_all_cards_share_one_scale(sample):
    found = cards(sample.pressed, data.rows(sample))

    lines = [line for card in found for line in card.lines]
    by_value = sorted(lines, key=lambda line: float(line.value[:-2].replace("−", "-")))
    assert [line.at for line in by_value] == sorted(line.at for line in lines)
    assert len({card.zero for card in found}) == 1
    assert all(0 < line.start <= line.at <= line.stop < WIDTH for line in lines)
    assert [line.title for line in found[0].lines] == [
        "Worst language",
        "Mean of all languages",
        "Low-resource mean",
        "Standard deviation of languages",
    ]
    assert not [line.value for line in lines if line.value[0] == "+" and "deviation" in line.title]


def test_the_colour_classes_lie_around_zero_and_hold_every_change(sample):
    rows = data.rows(sample)
    limits = scale.edges(rows)
    largest = max(abs(row.change) for row in rows) * 100

    assert limits == [-limit for limit in reversed(limits)]
    assert limits == sorted(limits)
    assert largest <= 4 / 3 * limits[-1]
    assert scale.class_of(0.0, limits) == scale.MIDDLE == 8
    assert scale.class_of(limits[-1] / 100, limits) == 16
    assert scale.class_of(-largest, limits) == 0
    assert scale.class_of((limits[8] - 1e-6) / 100, limits) == 8


def changed(sample, *percents):
    """Rows whose changes are these, in per cent."""
    rows = data.rows(sample)
    return [replace(row, change=p / 100) for row, p in zip(rows, percents, strict=False)]


def test_changes_of_fifteen_and_thirty_per_cent_have_colours_of_their_own(sample):
    for largest in (30, 41, 61, 79, 100, 171, 399):
        limits = scale.edges(changed(sample, 15.2, 29.9, largest))

        assert scale.class_of(0.152, limits) < scale.class_of(0.299, limits), largest


@pytest.mark.parametrize("largest", [0.03, 1.0, 9.9, 40.0, 40.1, 80.1, 160.1, 171.0, 3000.0])
def test_twice_a_loss_is_another_colour_and_limits_are_round(sample, largest):
    limits = scale.edges(changed(sample, largest))

    for start in limits[10:]:
        for change in (start * 1.001, start * 1.3):
            if 2 * change <= largest:
                first, second = (scale.class_of(c / 100, limits) for c in (change, 2 * change))
                assert first < second, (change, limits)
    assert all(float(f"{limit:.2g}") == limit for limit in limits)
    assert limits[10] <= largest / 3


def test_the_legend_has_the_classes_from_the_best_to_the_worst_and_no_others(sample):
    rows = changed(sample, -1.5, 0.0, 25.0)
    limits = scale.edges(rows)

    assert limits[8:] == [1, 2.5, 5, 7.5, 10, 15, 20, 30]
    assert scale.legend(rows, limits) == [
        (7, ""), (8, "−1"), (9, "+1"), (10, "+2.5"), (11, "+5"), (12, "+7.5"), (13, "+10"),
        (14, "+15"), (15, "+20"),
    ]  # fmt: skip
    assert scale.legend(changed(sample, 25.0), limits)[0] == (8, "")


def test_a_report_with_no_change_at_all_still_has_classes(sample):
    rows = [replace(row, change=0.0) for row in data.rows(sample)]

    assert len(set(scale.edges(rows))) == 16


def test_per_cent_has_a_sign_and_a_real_minus():
    assert data.percent(0.1234) == "+12.3\u202f%"
    assert data.percent(-0.05) == "\u22125.0\u202f%"
    assert data.percent(0.24, sign=False) == "24.0\u202f%"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_background(scheme):
    style = files("babelpress.report").joinpath("style.css").read_text()
    blocks = style.split("prefers-color-scheme: dark", 1)
    colours = dict(
        re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[0 if scheme == "light" else 1])
    )
    pairs = [(f"on-class-{index}", f"class-{index}") for index in range(scale.CLASSES)]
    pairs += [(text, ground) for text in ("ink", "muted") for ground in ("paper", "card")]
    pairs += [(text, "card") for text in ("worse", "better", "accent")]

    too_faint = [pair for pair in pairs if contrast(*(colours[name] for name in pair)) < 4.5]
    assert too_faint == []
    assert contrast(colours["faint"], colours["paper"]) >= 3  # lines and dots


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


# ---- many models ---------------------------------------------------------------------------


@pytest.fixture
def fifteen(sample):
    """Five methods with three calibrations each, as a sweep interleaves them."""
    methods = ("wanda 0.5", "ria 0.5", "sparsegpt 0.5", "magnitude 0.5", "random 0.5")
    return replace(
        sample,
        pressed=tuple(
            replace(model, name=name, ledger=LEDGER | {"bytes_stored": 4_000_000 + 90_000 * place})
            for model in sample.pressed
            for place, name in enumerate(methods)
        ),
    )


def test_a_sweep_is_a_matrix_for_every_method_the_worst_language_first(fifteen):
    rows = data.rows(fifteen)

    found = matrix.matrices(fifteen, rows, scale.edges(rows))

    assert [each.title for each in found] == [
        "wanda 0.5", "ria 0.5", "sparsegpt 0.5", "magnitude 0.5", "random 0.5"
    ]  # fmt: skip
    assert {each.labels for each in found} == {("english", "proportional", "minimax")}

    def columns(one):
        """The cells of every column; all were measured."""
        return [[c for _, cells in one.lines if (c := cells[place])] for place in range(3)]

    most = [max(c.row.change for c in cells if c) for _, cells in found[0].lines]
    assert most == sorted(most, reverse=True)
    assert len(most) == 31
    for each in found:
        for cells in columns(each):
            assert len(cells) == 31
            worst = [cell.row.change for cell in cells if cell.worst]
            assert worst == [max(cell.row.change for cell in cells)]
        assert [tongue.tag for tongue, _ in each.lines] == [t.tag for t, _ in found[0].lines]


def test_a_cell_that_was_not_measured_is_empty(sample):
    first, second, _ = sample.pressed
    short = replace(first.comparison, changes=first.comparison.changes[:-1])
    report = replace(sample, pressed=(replace(first, comparison=short), second))
    rows = data.rows(report)

    (found,) = matrix.matrices(report, rows, scale.edges(rows))

    (khmer,) = [cells for tongue, cells in found.lines if tongue.tag == "khm_Khmr"]
    assert khmer[0] is None
    assert khmer[1] is not None


def test_methods_with_one_model_each_stand_side_by_side(sample):
    one, two, _ = sample.pressed
    report = replace(sample, pressed=(one, replace(two, name="ria 0.5")))

    assert matrix.groups(report.pressed) == [("", [0, 1])]


def test_many_models_are_lines_by_method_and_few_have_cards(fifteen, sample, tmp_path):
    found = overview(fifteen, cards(fifteen.pressed, data.rows(fifteen)))
    many, few = written(fifteen, tmp_path), written(sample, tmp_path)

    assert [(title, len(lines)) for title, lines in found.groups][:2] == [
        ("wanda 0.5", 3),
        ("ria 0.5", 3),
    ]
    assert found.titles[0] == "Worst language"
    assert found.groups[1][1][0].size == "4.09\u202fMB"
    assert many.count('<tr class="group">') == 5
    assert 'class="card"' not in many
    assert few.count('class="card"') == 3
    assert 'id="overview"' not in few


# ---- what stands beside the numbers --------------------------------------------------------


def test_size_time_memory_documents_and_the_meaning_of_words_are_visible(sample, tmp_path):
    first = replace(
        sample.pressed[0],
        policy="minimax",
        kinds={"pruned": "some of its weights are zero"},
        ledger=LEDGER,
        seconds=12.3,
        memory_mib=371.0,
        documents={"khm_Khmr": 1234},
        again=("babelpress press a b --out c",),
    )
    text = written(
        replace(sample, pressed=(first,), machine="cpu", again=("babelpress eval x",)), tmp_path
    )

    assert "6\u202fMB as stored; pressed in 12\u202fs, 371\u202fMiB at the peak" in text
    assert "<dfn>Pruned</dfn>: some of its weights are zero." in text
    assert "<dfn>Bits per byte</dfn>: " in text
    assert "<dfn><bdi>minimax</bdi></dfn>: shares searched so that the language predicted" in text
    assert '<td class="number" data-value="1234">1,234</td>' in text
    assert "babelpress press a b --out c\n" in text
    assert "babelpress eval x\n" in text


def test_what_models_wrote_is_shown_and_escaped(sample, tmp_path):
    said = (data.Said("dense", "before"), data.Said("english", "</dd><script>after"))
    passage = data.Passage("amh_Ethi", "prompt<", "goes on", said)

    text = written(replace(sample, passages=(passage,)), tmp_path)

    assert "What the models write" not in written(sample, tmp_path)
    assert '<dl lang="amh-Ethi">' in text
    for shown in ("Amharic</h3>", "prompt&lt;", "goes on", "before", "&lt;/dd&gt;&lt;script&gt;"):
        assert shown in text


@pytest.mark.parametrize(
    ("seconds", "memory", "shown"),
    [(12.4, 370.7, "12 s, 371 MiB"), (5400, None, "90 min"), (None, 20480, "20 GiB"),
     (None, None, "")],
)  # fmt: skip
def test_time_and_memory_in_words(seconds, memory, shown):
    assert data.took(seconds, memory).replace("\u202f", " ") == shown


@pytest.mark.parametrize(
    ("stored", "shown"),
    [(None, ""), (12, "12 B"), (5_998_336, "6 MB"), (4_090_000, "4.09 MB"), (1.2e9, "1.2 GB")],
)
def test_size_in_words(stored, shown):
    assert data.size(stored).replace("\u202f", " ") == shown


# ---- range check and ledger ----------------------------------------------------------------


def test_runs_without_ledger_and_range_scores_have_neither_table(sample, tmp_path):
    page = written(sample, tmp_path)

    assert extras.beyond(sample.pressed) is None
    assert extras.ledgers(sample.pressed) == []
    assert "Who leaves the calibration range" not in page
    assert "Where the bytes are" not in page
    assert "Zeros alone make nothing faster" in page


def test_a_quantized_report_names_method_and_grid_and_what_was_measured(quantized, tmp_path):
    page = written(quantized, tmp_path)

    assert '<dt>Pressed</dt><dd><bdi dir="auto">gptq 4 bits, group 64</bdi>' in page
    assert "measured with its weights unpacked" in page
    assert "Zeros alone make nothing faster" not in page


def test_models_with_one_ledger_share_a_table_and_the_embedding_is_called_what_it_is(quantized):
    first, *others = quantized.pressed
    smaller = {**first.ledger, "bytes_stored": 12_000_000}

    found = extras.ledgers((replace(first, ledger=smaller), *others))

    assert [ledger.labels for ledger in found] == [("english",), ("proportional", "minimax")]
    assert found[0].says == ""
    assert found[1].says == (
        "Most of the file, 72.1 %, is the embedding, not the layers. "
        "With --embeddings 8bit it is about 5.8 bits a weight in a GGUF file, where "
        "llama.cpp has the family."
    )
    assert [part.name for part in found[1].parts] == ["blocks", "embedding", "other", "whole"]
    assert found[1].parts[1].share == pytest.approx(4_322_560 / 5_998_336)
    assert (found[1].parts[-1].share, found[1].parts[-1].bits) == (1, 9.1487)


def test_the_worst_language_and_the_worst_sites_come_first(quantized):
    one, other, last = quantized.pressed
    one = replace(one, beyond={"tha_Thai": 0.01, "swh_Latn": 0.08}, sites={})
    sites = {
        "tha_Thai": {"0.a": 0.002, "1.b": 0.03, **{f"2.{n}": 0.001 for n in range(6)}},
        "khm_Khmr": {"0.a": 0.004, "1.b": 0.01},
    }
    other = replace(other, beyond={"tha_Thai": 0.0399, "khm_Khmr": 0.0}, sites=sites)

    found = extras.beyond((one, other, replace(last, beyond={}, sites={})))

    assert found is not None
    assert found.labels == ("english", "proportional")
    assert [tongue.name for tongue, _ in found.rows] == ["Swahili", "Thai", "Khmer"]
    assert found.limits[-4:] == (0.005, 0.01, 0.02, 0.04)
    assert len(found.limits) == 8
    shown = [[(cell.share, cell.shade) for cell in cells] for _, cells in found.rows]
    assert shown == [
        [(0.08, 16), (None, 8)],
        [(0.01, 14), (0.0399, 15)],
        [(None, 8), (0.0, 8)],
    ]
    assert [(s.label, s.name, s.language, s.share) for s in found.sites][:2] == [
        ("proportional", "1.b", "Thai", 0.03),
        ("proportional", "0.a", "Khmer", 0.004),
    ]
    assert len(found.sites) == extras.SITES
    assert found.sites[0].mean == pytest.approx(0.02)


def test_no_activation_beyond_the_range_is_shown_as_none(quantized):
    model = replace(quantized.pressed[0], beyond={"tha_Thai": 0.0}, sites={})

    found = extras.beyond((model,))

    assert found is not None
    assert found.rows[0][1] == (extras.Cell(0.0, 8),)


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0, "0.0 %"),
        (0.000001, "< 0.001 %"),
        (0.00039, "0.039 %"),
        (0.0123, "1.23 %"),
        (1, "100.0 %"),
    ],
)
def test_a_share_is_never_an_exponent_and_never_rounds_to_nothing(share, shown):
    assert extras.part_text(share).replace("\u202f", " ") == shown


def test_hostile_sites_and_parts_add_no_element(quantized, tmp_path):
    attack = "</td></table><script>alert(1)</script>\u202e"
    usual = Page(written(quantized, tmp_path))
    first = quantized.pressed[0]
    ledger = {**first.ledger, "parts": [first.ledger["parts"][0] | {"part": attack}]}
    sites = {tag: {attack: 0.5} for tag in first.sites}
    bad = replace(first, name=attack, sites=sites, ledger=ledger, beyond={attack: 0.5})

    text = written(replace(quantized, pressed=(bad,)), tmp_path)

    page = Page(text)
    assert len(page.inside["script"]) == len(usual.inside["script"]) == 3
    assert text.count("&lt;/td&gt;&lt;/table&gt;&lt;script&gt;alert(1)") >= 4
    assert "\u202e" not in text


def test_importing_the_report_loads_nothing_heavy():
    heavy = "{'altair', 'jinja2', 'vl_convert', 'torch', 'transformers'}"
    code = f"import sys, babelpress.report; print(sorted({heavy} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
