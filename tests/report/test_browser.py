"""The report in a real browser."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browsing import CHROMIUM, PATIENCE, Browser, Tab

from babelpress.insight._kept import Kept
from babelpress.insight._pictures import Picture, Point
from babelpress.report import Pressed, ReportInput, write_report
from babelpress.report.insight import write_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    running = Browser(tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def page(sample: ReportInput, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(sample, tmp_path_factory.mktemp("page") / "report.html")


def test_the_page_draws_its_charts_without_a_word_and_without_the_network(browser, page):
    tab = Tab(browser).open(page)

    drawn = tab.js("[...document.querySelectorAll('.chart svg')].map(s => s.parentElement.id)")
    numbers = tab.js("document.querySelectorAll('#heat td.heat').length")

    assert drawn == ["dumbbell", "scatter"]
    assert numbers == 31 * 3
    assert tab.said() == []
    assert tab.asked() == [page.as_uri()]


def test_the_watch_over_console_and_network_sees_what_it_should(browser, tmp_path):
    loud = tmp_path / "loud.html"
    loud.write_text(
        "<html data-ready=charts><script>console.error('heard')</script>"
        "<img src='http://127.0.0.1:9/x.png'>"
    )

    tab = Tab(browser).open(loud)

    assert any("heard" in line for line in tab.said())
    assert "http://127.0.0.1:9/x.png" in tab.asked()


def test_the_policy_stops_a_script_that_is_not_ours(browser, page):
    tab = Tab(browser).open(page)

    tab.js(
        "{const s = document.createElement('script'); s.textContent = 'window.pwned = 1';"
        "document.body.append(s); const i = new Image(); i.src = 'https://example.org/a.png'; 0}"
    )

    assert tab.js("window.pwned ?? 0") == 0
    assert any("Content Security Policy" in line for line in tab.said())


def test_hostile_names_are_shown_as_text_and_never_run(browser, sample, tmp_path):
    attack = "<script>document.documentElement.dataset.pwned=1</script>"
    close = (
        f'</script></style></title>{attack}<img src=x onerror="dataset.pwned=1">\'"&amp;{{{{7*7}}}}'
    )
    first = sample.pressed[0]
    hostile = replace(
        sample,
        title=f"a\u202eb\x07 {close}",
        model=attack,
        pressed=(
            Pressed(close, attack, rename(first.comparison, "khm_Khmr", close)),
            *sample.pressed[1:],
        ),
        share_source=close,
        manifest={close: [close]},
        notes=(close,),
    )

    tab = Tab(browser).open(write_report(hostile, tmp_path / "hostile.html"))

    assert tab.js("document.documentElement.dataset.pwned ?? ''") == ""
    assert tab.js("document.scripts.length") == 3
    assert tab.js("document.images.length") == 0
    assert tab.js("document.title") == f"a\ufffdb\ufffd {close}"
    assert tab.js("document.querySelector('h1').textContent") == f"a\ufffdb\ufffd {close}"
    assert tab.js("document.getElementById('model').textContent") == attack
    assert close in tab.js("[...document.querySelectorAll('.notes bdi')].map(b => b.textContent)")
    assert close in tab.js("document.getElementById('table').textContent")
    assert close[:9] in tab.js("document.getElementById('dumbbell').textContent")
    assert tab.said() == []


def rename(comparison, old, new):
    changes = tuple(
        replace(change, language=new) if change.language == old else change
        for change in comparison.changes
    )
    return replace(comparison, changes=changes)


def test_the_table_sorts_and_filters_from_the_keyboard(browser, page):
    tab = Tab(browser).open(page)
    rows = "[...document.querySelectorAll('#table tbody tr:not([hidden])')]"
    cells = f"{rows}.map(row => Number(row.cells[8].dataset.value))"

    tab.js("document.querySelectorAll('#table thead button')[7].focus()")
    tab.press("Tab", 9)
    tab.press("Enter", 13, "\r")
    rising, state = (
        tab.js(cells),
        tab.js("document.querySelectorAll('#table thead th')[8].ariaSort"),
    )
    tab.press("Enter", 13, "\r")
    falling = tab.js(cells)
    tab.js("document.getElementById('filter').focus()")
    tab.call("Input.insertText", text="MINIMAX Cyrl")

    assert len(rising) == 93
    assert rising == sorted(rising)
    assert state == "ascending"
    assert falling == rising[::-1]
    assert len(tab.js(cells)) == 2
    assert tab.js("document.getElementById('count').textContent") == "2 of 93 rows"


def test_an_arrow_key_shows_the_next_calibration(browser, page):
    tab = Tab(browser).open(page)
    texts = "[...document.querySelectorAll('#dumbbell .mark-text.role-mark text')]"
    losses = f"{texts}.map(text => text.textContent)"
    before = tab.js(losses)

    tab.js("document.querySelector('[data-chart=dumbbell] input:checked').focus()")
    tab.press("ArrowRight", 39)
    after = tab.until(losses, lambda shown: shown != before)

    assert len(before) == len(after) == 31


def test_pointing_at_a_point_tells_what_it_holds(browser, page):
    tab = Tab(browser).open(page)
    tab.js("document.getElementById('scatter').scrollIntoView()")
    box = tab.js(
        "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
        "([...document.querySelectorAll('#scatter .mark-symbol.role-mark path')]"
        ".find(p => p.getAttribute('aria-label')?.includes('English')).getBoundingClientRect())"
    )

    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
    told = tab.js("document.getElementById('tip').textContent")
    shown = tab.js("document.getElementById('tip').hidden")

    assert shown is False
    assert told.startswith("LanguageEnglishCalibrationenglishChange+1.2")
    assert "Training share21\u202f%" in told
    assert tab.said() == []


@pytest.mark.parametrize("width", [360, 900, 1600])
def test_nothing_is_wider_than_the_window(browser, page, width):
    tab = Tab(browser, width).open(page)

    assert tab.js("document.documentElement.scrollWidth") <= width
    widest = tab.js(
        "Math.max(...[...document.querySelectorAll('.chart svg')].map("
        "s => s.getBoundingClientRect().right))"
    )
    assert 0.5 * width < widest <= width


def test_the_charts_follow_the_page_into_the_dark(browser, page):
    colours = (
        "[getComputedStyle(document.body).backgroundColor,"
        "getComputedStyle(document.querySelector('#dumbbell .role-axis-label text')).fill]"
    )

    light = Tab(browser).open(page).js(colours)
    dark = Tab(browser, scheme="dark").open(page).js(colours)
    paper = Tab(browser, scheme="dark", media="print").open(page).js(colours)

    assert light == ["rgb(255, 255, 255)", "rgb(22, 32, 44)"]
    assert dark == ["rgb(18, 22, 28)", "rgb(232, 236, 241)"]
    assert paper == light


def test_a_report_without_shares_and_with_one_model_is_whole(browser, sample, tmp_path):
    short = replace(sample, pressed=sample.pressed[:1], shares=None, manifest=None, notes=())

    tab = Tab(browser).open(write_report(short, tmp_path / "short.html"))

    assert tab.js("document.querySelectorAll('.chart svg').length") == 1
    assert tab.js("document.querySelectorAll('.chooser').length") == 0
    assert "shares of this model are not known" in tab.js("document.body.textContent")
    assert tab.said() == []


@pytest.mark.parametrize("width", [360, 1280])
def test_range_check_and_ledger_are_whole_on_every_width(browser, quantized, tmp_path, width):
    path = write_report(quantized, tmp_path / "quantized.html")
    tab = Tab(browser, width).open(path)

    def cells(table):
        return tab.js(f"document.querySelectorAll('{table} tbody tr > *').length")

    assert cells("#beyond") == 31 * 4
    assert cells("#sites") == 15 * 5
    assert cells(".ledger") == 4 * 6
    assert tab.js("document.documentElement.scrollWidth") <= width
    assert tab.said() == []
    assert tab.asked() == [path.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_heat_cell_keeps_its_colour_under_the_pointer(browser, quantized, tmp_path, scheme):
    tab = Tab(browser, scheme=scheme).open(write_report(quantized, tmp_path / "quantized.html"))
    colour = "getComputedStyle(document.querySelector('#beyond .class-16')).backgroundColor"
    before = tab.js(colour)
    tab.js("document.getElementById('beyond').scrollIntoView()")
    x, y = tab.js(
        "(({x, y}) => [x + 5, y + 5])"
        "(document.querySelector('#beyond .class-16').getBoundingClientRect())"
    )

    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    assert tab.js("document.querySelector('#beyond tr:hover') !== null")
    assert tab.js(colour) == before
    assert before == {"light": "rgb(107, 42, 3)", "dark": "rgb(255, 217, 173)"}[scheme]


@pytest.fixture(scope="module")
def fifteen(sample: ReportInput, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five methods with three calibrations each, as `report SWEEP` writes them."""
    pressed = tuple(
        replace(model, name=f"{name} 0.5", calibration=f"{model.calibration}, tokens 16384")
        for name in ("wanda", "ria", "sparsegpt", "magnitude", "worst_language")
        for model in sample.pressed
    )
    folder = tmp_path_factory.mktemp("fifteen")
    return write_report(replace(sample, pressed=pressed), folder / "report.html")


def test_one_model_leaves_no_hole_no_swollen_mark_and_no_word_on_the_console(
    browser, sample, tmp_path
):
    one = write_report(replace(sample, pressed=sample.pressed[:1]), tmp_path / "one.html")
    tab = Tab(browser, 1280).open(one)

    def box(selector):
        return tab.js(
            "(({top, bottom, height}) => ({top, bottom, height}))"
            f"(document.querySelector('{selector}').getBoundingClientRect())"
        )

    assert tab.said() == []
    assert box(".bar")["height"] <= 20
    assert box(".legend")["bottom"] + 40 >= box(".matrix")["top"]
    assert abs(box(".matrix")["bottom"] - box("#dumbbell svg")["bottom"]) < 15
    assert box("#heat")["height"] < 31 * 23 + 60


@pytest.mark.parametrize("width", [1280, 1920])
def test_every_number_is_there_without_scrolling_sideways(browser, page, fifteen, width):
    for each in (page, fifteen):
        tab = Tab(browser, width).open(each)
        inside = "(t => t.scrollWidth - t.parentElement.clientWidth)"

        assert tab.js(f"{inside}(document.getElementById('table'))") <= 0
        assert not tab.js(
            "(({left, top}, {right, bottom}) => left < right && top < bottom)("
            "document.querySelector('#dumbbell').getBoundingClientRect(),"
            "document.querySelector('#heat .matrix').getBoundingClientRect())"
        )
        assert tab.js(
            "[...document.querySelectorAll('.matrix')].every(t => "
            "t.getBoundingClientRect().right <= document.documentElement.clientWidth)"
        )


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_fifteen_models_fit_the_window_and_a_list_chooses_one(browser, fifteen, width):
    tab = Tab(browser, width).open(fifteen)
    texts = "[...document.querySelectorAll('#dumbbell .mark-text.role-mark text')]"
    losses = f"{texts}.map(text => text.textContent)"
    before = tab.js(losses)

    tab.js("document.getElementById('dumbbell-shown').focus()")
    tab.press("ArrowDown", 40)

    assert len(tab.until(losses, lambda shown: shown != before)) == 31
    assert tab.js("document.querySelectorAll('.matrix caption').length") == 5
    assert tab.js("document.documentElement.scrollWidth") <= width
    assert tab.said() == []


def test_a_table_is_downloaded_without_network_and_within_the_policy(browser, page, tmp_path):
    tab = Tab(browser).open(page)
    where = {"behavior": "allow", "downloadPath": str(tmp_path), "eventsEnabled": False}
    browser.call("Browser.setDownloadBehavior", **where)

    tab.js("document.querySelector('a[download=\"numbers.csv\"]').click()")
    end = time.monotonic() + PATIENCE
    while not (tmp_path / "numbers.csv").exists():
        assert time.monotonic() < end, "nothing was downloaded"
        time.sleep(0.05)

    lines = (tmp_path / "numbers.csv").read_text(encoding="utf-8-sig").splitlines()
    assert lines[0].startswith("method,calibration,language,name")
    assert len(lines) == 1 + 31 * 3
    assert tab.said() == []
    assert tab.asked() == [page.as_uri()]


def test_the_page_of_analyses_draws_its_pictures_and_another_panel_is_shown(browser, tmp_path):
    points = tuple(
        Point(run, str(block), name, float(block + len(name) + len(run)))
        for run in ("a", "run")
        for name in ("English", "Hindi")
        for block in range(3)
    )
    heat = Picture("heat", "Which?", "This.", points, "block", "language", "share", panel="run")
    lines = replace(heat, name="lines", kind="lines", points=points[:6], panel="")
    kept = Kept("damage", "f00", "Damage", "babel-mini", {}, (heat, lines), {})
    path = write_page([kept], tmp_path / "insight.html", model="babel-mini", runs=["a", "run"])

    tab = Tab(browser).open(path)
    numbers = "[...document.querySelectorAll('#insight-0-heat svg text')].map(t => t.textContent)"
    before = tab.js(numbers)
    tab.js(
        "{const s = document.getElementById('insight-0-heat-shown'); s.value = 'run';"
        "s.dispatchEvent(new Event('change', {bubbles: true})); 0}"
    )
    after = tab.js(numbers)

    drawn = tab.js("[...document.querySelectorAll('.chart svg')].map(s => s.parentElement.id)")
    assert drawn == ["insight-0-heat", "insight-0-lines"]
    assert "6.00" in before and "6.00" not in after and "12.00" in after
    assert tab.said() == []
    assert tab.asked() == [path.as_uri()]
