"""Tables on terminals of any width, in any encoding."""

import io

import pytest
from rich.console import Console

from babelpress.commands import outcome as o
from babelpress.commands import screen
from babelpress.commands.outcome import Outcome, Table

ROWS = [
    {
        "tag": "nob_Latn",
        "name": "nob_Latn",
        "change": 0.1234,
        "low": -0.05,
        "high": 1.0,
        "n": 12345,
    },
    {"tag": "swh_Latn", "name": "swh_Latn", "change": -0.5, "low": -0.6, "high": -0.4, "n": 7},
]
COLUMNS = (
    o.key(o.tag("tag")),
    o.beside(o.name("name")),
    o.change(),
    o.interval(),
    o.count("n", "documents"),
)
OUTCOME = Outcome(ROWS, tables=(Table(COLUMNS, ROWS, "a – title"),), says=("x – y",))


def shown(outcome: Outcome, width: int, encoding: str = "utf-8") -> list[str]:
    paper = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    screen.show(outcome, Console(width=width, file=paper, color_system=None))
    paper.flush()
    return [line.rstrip() for line in paper.buffer.getvalue().decode(encoding).splitlines()]


def test_with_room_there_is_every_column():
    lines = shown(OUTCOME, 80)

    assert lines[1].split("  ")[0] == "language"
    assert all(column.title in lines[1] for column in COLUMNS)
    assert lines[2].split("  ")[:3] == ["nob_Latn", "Norwegian Bokmål", "+12.3 %"]
    assert lines[2].endswith("-5.0 to +100.0 %     12,345")
    assert not any("no room" in line for line in lines)


@pytest.mark.parametrize(
    ("width", "kept", "gone"),
    [
        (56, ("language", "change", "95 % interval", "documents"), "name"),
        (45, ("language", "change", "95 % interval"), "name, documents"),
        (30, ("language", "change"), "name, 95 % interval, documents"),
        (6, ("language",), "name, change, 95 % interval, documents"),
    ],
)
def test_without_it_the_least_needed_columns_go_and_are_named(width, kept, gone):
    lines = shown(OUTCOME, width)

    assert f"no room for {gone}: a wider terminal shows all, and so does --json" in lines
    if width > 6:
        assert [title for title in ("name", *kept) if title in lines[1]] == list(kept)
        assert lines[2].startswith("nob_Latn")
        assert max(map(len, lines[1:4])) <= width


@pytest.mark.parametrize("width", [30, 34, 45, 50, 56, 80])
def test_no_number_is_ever_broken(width):
    text = "\n".join(shown(OUTCOME, width))

    assert "+12.3 %" in text
    for title, number in (("interval", "-5.0 to +100.0 %"), ("documents", "12,345")):
        assert (number in text) == (title not in text.partition("no room for ")[2])


def test_a_terminal_without_the_characters_gets_others():
    lines = shown(OUTCOME, 80, "ascii")

    assert lines[0] == "a - title"
    assert "Norwegian Bokmal" in lines[2]
    assert lines[-1] == "x - y"


def test_warnings_stand_before_what_is_said():
    outcome = Outcome([], says=("next: x",), warnings=("few tokens",))

    assert shown(outcome, 50) == ["warning: few tokens", "next: x"]
