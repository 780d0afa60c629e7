"""What a command gives back, for a prompt, a notebook and pandas."""

import sys
from pathlib import Path

import pytest

from babelpress.commands import outcome as o
from babelpress.commands.outcome import Outcome, Table
from babelpress.errors import MissingPackage

ROWS = [
    {"language": "swh_Latn", "change": 0.125, "run": "<script>alert(1)</script>"},
    {"language": "yor_Latn", "change": None, "run": "a\u202eb & c"},
]
TABLE = Table((o.name(), o.change(), o.word("run", "run <b>")), ROWS, "changes < 1")


def test_at_a_prompt_it_is_a_line_that_a_person_can_read():
    outcome = Outcome(ROWS, Path("runs/a"), (TABLE,), exit_code=1)

    assert repr(outcome) == (
        "<Outcome: 2 rows of language, change, run; out='runs/a'; exit_code=1>"
    )
    assert repr(Outcome([])) == "<Outcome: 0 rows>"
    assert repr(Outcome([{"a": 1}])) == "<Outcome: 1 row of a>"
    assert repr(TABLE) == "<Table: 2 rows of name, change, run <b>>"
    assert "lambda" not in repr(TABLE.columns)


def test_in_a_notebook_it_is_its_tables_and_lines_and_nothing_in_them_is_markup():
    html = Outcome(
        ROWS, tables=(TABLE,), says=("next: <i>",), warnings=("few & far",)
    )._repr_html_()

    assert html.count("<tr>") == 3
    assert "<td>Swahili</td>" in html
    assert '<td style="text-align: right">+12.5 %</td>' in html
    assert '<td style="text-align: right">–</td>' in html
    assert "<td>&lt;script&gt;alert(1)&lt;/script&gt;</td>" in html
    assert "<td>a\ufffdb &amp; c</td>" in html
    assert "<caption>changes &lt; 1</caption>" in html
    assert "<th>run &lt;b&gt;</th>" in html
    assert "<p>few &amp; far</p><p>next: &lt;i&gt;</p>" in html
    assert "<script" not in html


def test_without_tables_a_notebook_shows_the_rows():
    assert "<th>file</th>" in Outcome([{"file": "x", "bytes": 3}])._repr_html_()
    assert Outcome([])._repr_html_() == ""


def test_rows_are_a_data_frame_where_pandas_is():
    pandas = pytest.importorskip("pandas")

    frame = Outcome(ROWS).to_pandas()

    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["language", "change", "run"]
    assert frame["change"].isna().tolist() == [False, True]
    assert frame["change"].tolist()[0] == 0.125


def test_without_pandas_a_line_says_how_to_have_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(MissingPackage, match=r"pandas.*pip install pandas$"):
        Outcome(ROWS).to_pandas()
