"""The tables of a page as CSV, inside the page: a link that needs neither network nor script.

A field that a spreadsheet would take for a formula is quoted with an apostrophe: names come from
outside.

Tested in tests/report/test_tables.py.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from babelpress.judge.collapse import Collapse
from babelpress.judge.ladders import Ladder
from babelpress.report.data import Pressed, Row, clean

FORMULA = ("=", "+", "-", "@", "\t", "\r")
LEDGER = ("part", "parameters", "bytes_dense", "bytes_stored", "bits")
MARK = "\ufeff"  # without it a spreadsheet takes UTF-8 for something else


def numbers(rows: Iterable[Row], names: Mapping[str, str]) -> str:
    """Every number, unrounded; `names` are the methods by label."""
    return link(
        {
            "method": names[row.label],
            "calibration": row.label,
            "language": row.tongue.tag,
            "name": row.tongue.name,
            "script": row.tongue.script,
            "resources": row.tongue.resource,
            "training_share": row.tongue.share,
            "documents": row.documents,
            "dense": row.dense,
            "pressed": row.pressed,
            "change": row.change,
            "low": row.low,
            "high": row.high,
            "p_holm": row.p_holm,
            "finding": row.verdict,
        }
        for row in rows
    )


def summaries(pressed: Sequence[Pressed], labels: Sequence[str]) -> str:
    """One line for each model and summary, with size, run time and memory."""
    return link(
        {
            "method": clean(model.name),
            "calibration": label,
            "summary": summary.name,
            "language": summary.language,
            "change": summary.value,
            "low": summary.low,
            "high": summary.high,
            "bytes_stored": model.bytes_stored,
            "seconds": model.seconds,
            "memory_mib": model.memory_mib,
        }
        for model, label in zip(pressed, labels, strict=True)
        for summary in model.comparison.summaries
    )


def collapse(collapses: Sequence[tuple[Ladder, Collapse]]) -> str:
    """How far each language can be pressed, by ladder; the first line of each is all together."""
    return link(
        {
            "runs": ladder.label,
            "axis": ladder.axis,
            "language": point.language,
            "max_loss": found.max_loss,
            "point": None if point.at_chance else ladder.value(point.holds),
            "low": None if point.at_chance else ladder.value(point.low),
            "high": None if point.at_chance else ladder.value(point.high),
            "note": ladder.note(point.beyond, at_chance=point.at_chance),
        }
        for ladder, found in collapses
        for point in (found.every, *found.points)
    )


def beyond(pressed: Sequence[Pressed], labels: Sequence[str]) -> str:
    """Shares of activations beyond the calibration range, by language."""
    return link(
        {"method": clean(model.name), "calibration": label, "language": tag, "beyond": share}
        for model, label in zip(pressed, labels, strict=True)
        for tag, share in model.beyond.items()
    )


def ledger(pressed: Sequence[Pressed], labels: Sequence[str]) -> str:
    """Where the bytes are, by part."""
    return link(
        {"method": clean(model.name), "calibration": label} | {name: part[name] for name in LEDGER}
        for model, label in zip(pressed, labels, strict=True)
        if model.ledger
        for part in model.ledger["parts"]
    )


def link(rows: Iterable[Mapping[str, Any]]) -> str:
    """An address that holds the rows as CSV (RFC 4180, UTF-8)."""
    return f"data:text/csv;charset=utf-8,{quote(MARK + as_csv(rows))}"


def as_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows with the same keys as CSV; None is empty."""
    found = list(rows)
    paper = io.StringIO()
    writer = csv.writer(paper)
    writer.writerow(found[0])
    writer.writerows([_field(value) for value in row.values()] for row in found)
    return paper.getvalue()


def _field(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = clean(value)
    return f"'{text}" if text.startswith(FORMULA) else text
