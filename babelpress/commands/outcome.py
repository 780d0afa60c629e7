"""What a command gives back, and how its rows are written for people.

Rows are plain values and go to `--json` as they are. On a terminal a command shows tables of them:
a column is a short heading and a way to write a row.

Tested in tests/test_cli.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babelpress.errors import UnknownName

Row = dict[str, Any]
NOTHING = "–"
SUMMARIES = {
    "mean": "mean of all",
    "low_resource": "low-resource",
    "high_resource": "high-resource",
    "latin": "Latin script",
    "non_latin": "other scripts",
    "spread": "spread",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and what stands under it; numbers stand right."""

    title: str
    write: Callable[[Mapping[str, Any]], str]
    number: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as a terminal shows them."""

    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Any]]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command found: rows, the folder or file that it wrote, what it shows, exit code."""

    rows: list[Row]
    out: Path | None = None
    tables: tuple[Table, ...] = ()
    says: tuple[str, ...] = ()
    exit_code: int = 0


# ---- columns -------------------------------------------------------------------------------


def word(key: str, title: str) -> Column:
    """A value as it is."""
    return Column(title, lambda row: _known(row[key], str))


def tag(key: str = "language") -> Column:
    """The canonical tag of a language."""
    return word(key, "language")


def name(key: str = "language") -> Column:
    """A language as a person says it."""
    return Column("name", lambda row: _known(row[key], spoken))


def count(key: str, title: str) -> Column:
    """A whole number, thousands apart."""
    return Column(title, lambda row: _known(row[key], "{:,}".format), number=True)


def number(key: str, title: str) -> Column:
    """Three decimals."""
    return Column(title, lambda row: _known(row[key], "{:.3f}".format), number=True)


def share(key: str, title: str) -> Column:
    """A share of one, in per cent."""
    return Column(title, lambda row: _known(row[key], part), number=True)


def change(key: str = "change", title: str = "change") -> Column:
    """A relative change, in per cent and with its sign."""
    return Column(title, lambda row: _known(row[key], signed), number=True)


def interval(low: str = "low", high: str = "high") -> Column:
    """The 95 % interval of a change."""
    return Column("95 % interval", lambda row: between(row[low], row[high]), number=True)


# ---- words ---------------------------------------------------------------------------------


def spoken(language: str) -> str:
    """The English name of a language; its tag where the table lacks it."""
    from babelpress.text.languages import find

    try:
        return find(language).name
    except UnknownName:
        return language


def aside(texts: object) -> tuple[str, ...]:
    """A warning about what lies in a corpus and is not read; other texts have nothing to say."""
    from babelpress.text.corpus import Corpus

    lines = texts.says() if isinstance(texts, Corpus) else ()
    return tuple(f"warning: {line}" for line in lines)


def signed(value: float) -> str:
    """0.1234 as "+12.3 %"."""
    return f"{100 * value:+.1f} %"


def part(value: float) -> str:
    """0.00391 as "0.391 %": three digits, never an exponent."""
    decimals = 1 if value >= 0.1 else 2 if value >= 0.01 else 3
    return f"{100 * value:.{decimals}f} %" if value == 0 or value >= 5e-6 else "<0.001 %"


def between(low: float, high: float) -> str:
    """The ends of an interval of changes."""
    return f"{100 * low:+.1f} to {100 * high:+.1f} %"


def summary(row: Mapping[str, Any]) -> str:
    """What a summary row is about."""
    if row["name"] == "worst":
        return f"worst: {spoken(row['language'])}"
    return SUMMARIES[row["name"]]


def _known(value: Any, write: Callable[[Any], str]) -> str:
    return NOTHING if value is None else write(value)
