"""What a command gives back, and how its rows are written for people.

Rows are plain values and go to `--json` as they are. On a terminal and in a notebook a command
shows tables of them: a column is a short heading and a way to write a row.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from babelpress.errors import MissingPackage, UnknownName
from babelpress.system.escaping import clean

if TYPE_CHECKING:
    import pandas

    from babelpress.steps._kind import Listing

Row = dict[str, Any]
NOTHING = "–"
SUMMARIES = {
    "mean": "mean of all",
    "low_resource": "low-resource",
    "high_resource": "high-resource",
    "latin": "Latin script",
    "non_latin": "other scripts",
    "spread": "spread",
    "gap": "worst − best",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and what stands under it; numbers stand right, and are never broken.

    Where a terminal is too narrow, columns go: the one that is `needed` least, of equals the last.
    """

    title: str
    write: Callable[[Mapping[str, Any]], str] = field(repr=False)
    number: bool = False
    needed: int = 1


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """Rows as a terminal shows them."""

    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Any]]
    title: str = ""

    def __repr__(self) -> str:
        titles = ", ".join(column.title for column in self.columns)
        return f"<Table: {len(self.rows)} rows of {titles}>"

    def _repr_html_(self) -> str:
        """A table of HTML; every cell is text."""
        head = "".join(f"<th>{_text(column.title)}</th>" for column in self.columns)
        body = "".join(
            "<tr>" + "".join(_cell(column, row) for column in self.columns) + "</tr>"
            for row in self.rows
        )
        title = f"<caption>{_text(self.title)}</caption>" if self.title else ""
        return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """What a command found: rows, the folder or file that it wrote, what it shows, exit code.

    `warnings` are lines that a terminal shows before `says`, and that a library call gives to
    `warnings`.
    """

    rows: list[Row]
    out: Path | None = None
    tables: tuple[Table, ...] = ()
    says: tuple[str, ...] = ()
    exit_code: int = 0
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """What is in it, in a line."""
        keys = ", ".join(self.rows[0]) if self.rows else ""
        shown = f"{len(self.rows)} row{'s' * (len(self.rows) != 1)}{f' of {keys}' if keys else ''}"
        place = f"; out={str(self.out)!r}" if self.out else ""
        failed = f"; exit_code={self.exit_code}" if self.exit_code else ""
        return f"<Outcome: {shown}{place}{failed}>"

    def _repr_html_(self) -> str:
        """Its tables and lines for a notebook; whatever stands in them is text."""
        tables = self.tables or ((_plain(self.rows),) if self.rows else ())
        lines = "".join(f"<p>{_text(line)}</p>" for line in (*self.warnings, *self.says) if line)
        return "".join(table._repr_html_() for table in tables) + lines

    def to_pandas(self) -> "pandas.DataFrame":
        """The rows as a data frame of pandas. Raises MissingPackage without it."""
        try:
            import pandas
        except ImportError as error:
            raise MissingPackage("pandas") from error
        return pandas.DataFrame(self.rows)


def _text(value: str) -> str:
    return escape(clean(value)).replace("\n", "<br>")


def _cell(column: Column, row: Mapping[str, Any]) -> str:
    side = ' style="text-align: right"' if column.number else ""
    return f"<td{side}>{_text(column.write(row))}</td>"


def _plain(rows: Sequence[Row]) -> Table:
    """A table of whatever is in rows."""
    return Table(tuple(word(key, key) for key in rows[0]), rows)


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


def beside(column: Column) -> Column:
    """A column that says again what another says: the first to go."""
    return replace(column, needed=0)


def key(column: Column) -> Column:
    """A column without which nobody knows what a row is about: the last to go."""
    return replace(column, needed=2)


def listing(found: "Listing") -> Table:
    """A table that a step tells: its first column is words, the others are numbers."""

    def column(place: int, title: str) -> Column:
        return Column(title, lambda row: row["cells"][place], number=place > 0)

    columns = (column(place, title) for place, title in enumerate(found.head))
    first, *others = columns
    return Table((key(first), *others), [{"cells": cells} for cells in found.rows], found.title)


# ---- words ---------------------------------------------------------------------------------


def spoken(language: str) -> str:
    """The English name of a language; its tag where the table lacks it."""
    from babelpress.text.languages import find

    try:
        return find(language).name
    except UnknownName:
        return language


def aside(texts: object) -> tuple[str, ...]:
    """Warnings about what lies beside texts and is not read; some texts have nothing to say."""
    from babelpress.evals import Says

    return tuple(texts.says()) if isinstance(texts, Says) else ()


def findings(calibrations: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[str]]:
    """What the audits of some texts found: warnings, and notes; each once."""
    from babelpress.text.audit import Finding, told

    lines: dict[str, str] = {}
    for facts in calibrations:
        for level, words in told([Finding(**finding) for finding in facts.get("findings", ())]):
            lines.setdefault(words, level)
    notes = [f"note: {words}" for words, level in lines.items() if level == "note"]
    return tuple(words for words, level in lines.items() if level != "note"), notes


def signed(value: float) -> str:
    """0.1234 as "+12.3 %"."""
    return f"{100 * value:+.1f} %"


def part(value: float) -> str:
    """0.00391 as "0.391 %": three digits, never an exponent."""
    decimals = 1 if value >= 0.1 else 2 if value >= 0.01 else 3
    return f"{100 * value:.{decimals}f} %" if value == 0 or value >= 5e-6 else "<0.001 %"


def rounded(value: float | None) -> str:
    """Three digits of a number of any size; a dash where there is none."""
    if value is None:
        return NOTHING
    digits = 0 if value == 0 else 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(max(digits, 0), 6)}f}"


def amount(value: int) -> str:
    """5245184 as "5.25 M": three digits, decimal."""
    for unit, many in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= many:
            return f"{value / many:.3g} {unit}"
    return str(value)


def size(bytes_: int) -> str:
    """The same of bytes: "10.5 MB"."""
    return f"{amount(bytes_)}B" if bytes_ >= 1000 else f"{bytes_} B"


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
