"""The tables that compare shows: of a run, of all runs, of what they take, of collapse points.

Tested in tests/commands/test_comparing.py.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from babelpress.commands import outcome as o
from babelpress.commands.outcome import Row, Table

if TYPE_CHECKING:
    from babelpress.judge.buckets import Bucket
    from babelpress.judge.collapse import Collapse
    from babelpress.judge.ladders import Ladder
    from babelpress.judge.ood import Apart


def of_run(rows: Sequence[Row], title: str) -> list[Table]:
    summaries = [row for row in rows if row["kind"] == "summary"]
    changes = [row for row in rows if row["kind"] == "language"]
    return [
        Table((o.Column("summary", o.summary), o.change(), o.interval()), summaries, title),
        Table((o.key(o.name()), o.change(), o.interval(), o.word("verdict", "verdict")), changes),
    ]


def thirds(found: "Sequence[Bucket]", run: str) -> list[Table]:
    """A line for every language: the loss on easy, middle and hard documents."""
    lines: dict[str | None, dict[str, str]] = {}
    for each in sorted(found, key=lambda each: each.language is not None):
        own = lines.setdefault(each.language, {"name": _named(each.language)})
        own[each.name] = f"{o.signed(each.change)} ({each.low * 100:+.1f}, {each.high * 100:+.1f})"
    names = list(dict.fromkeys(each.name for each in found))
    columns = (
        o.key(o.word("name", "name")),
        *(
            o.Column(name, lambda row, name=name: row.get(name, o.NOTHING), number=True)
            for name in names
        ),
    )
    title = f"{run}: change on documents that are easy or hard to the dense model (95 % interval)"
    return [Table(columns, list(lines.values()), title)] if lines else []


def elsewhere(found: "Sequence[Apart]", run: str, corpus: str, ood: str) -> list[Table]:
    """A line for every language: what it loses on two corpora, and the difference."""
    lines = [
        {
            "name": _named(each.language),
            "here": each.inside,
            "there": each.outside,
            "more": 100 * each.change,
            "low": each.low,
            "high": each.high,
        }
        for each in sorted(found, key=lambda each: (each.language is not None, -each.change))
    ]
    columns = (
        o.key(o.word("name", "name")),
        o.change("here", "here"),
        o.change("there", "there"),
        o.Column("more there", lambda row: f"{row['more']:+.1f} points", number=True),
        o.interval(),
    )
    here = corpus or "the corpus that was compared"
    title = f"{run}: change on {here} (here) and on {ood} (there)"
    return [Table(columns, lines, title)] if lines else []


def _named(language: str | None) -> str:
    return o.spoken(language) if language else "mean of all"


def together(rows: Sequence[Row], spoken: Mapping[str, str]) -> list[Table]:
    """A line for every run, where there are several."""
    by_run: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["kind"] == "summary":
            by_run.setdefault(row["run"], {})[row["name"]] = row
    if len(by_run) < 2:
        return []
    lines = [
        {"run": spoken[run], "language": found["worst"]["language"]}
        | {name: row["change"] for name, row in found.items()}
        for run, found in by_run.items()
    ]
    columns = (
        o.key(o.word("run", "run")),
        o.change("mean", "mean"),
        o.change("worst", "worst"),
        o.beside(o.name()),
        o.share("spread", "spread"),
        o.share("gap", "worst − best"),
    )
    return [Table(columns, lines, "all runs; spread is the standard deviation over languages")]


def costs(rows: Sequence[Row], spoken: Mapping[str, str]) -> list[Table]:
    """What every run takes beside what it loses: sizes, and times where both were timed."""
    by_run: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["kind"] in ("size", "time"):
            by_run.setdefault(row["run"], {})[row["name"]] = row
    lines = [
        {"run": spoken[run]} | {name: _beside(row) for name, row in found.items()} | _slower(found)
        for run, found in by_run.items()
    ]
    titles = {
        "bytes_stored": "stored",
        "bytes_compressed": "compressed",
        "latency": "ms a text, mean",
        "slower": "change of time, mean",
        "nonzero": "non-zero",
        "parameters": "parameters",
    }
    there = [name for name in titles if any(name in line for line in lines)]
    columns = (
        o.key(o.word("run", "run")),
        *(
            o.Column(titles[name], lambda row, name=name: row.get(name, o.NOTHING), number=True)
            for name in there
        ),
    )
    title = "sizes (compressed: zstd) and their change; mean times, and the mean of changes"
    return [Table(columns, lines, title)] if lines else []


def _beside(row: Row) -> str:
    """A size, and its change where the dense one is known; a time alone, in milliseconds."""
    value = row["pressed"]
    if row["kind"] == "time":  # its change is a mean of changes, and none of this mean
        return f"{value:.2f}"
    shown = o.size(value) if row["name"].startswith("bytes") else o.amount(value)
    return f"{shown} ({o.signed(row['change'])})" if row["change"] is not None else shown


def _slower(found: Mapping[str, Row]) -> dict[str, str]:
    """How much longer a run takes, where it was timed."""
    row = found.get("latency")
    if row is None:
        return {}
    low, high = (f"{row[end] * 100:+.1f}" for end in ("low", "high"))
    return {"slower": f"{o.signed(row['change'])} ({low}, {high})"}


def held(ladder: "Ladder", found: "Collapse") -> Table:
    """The collapse points of one ladder, of the language that collapses first first."""
    rows = [
        {
            "name": o.spoken(point.language) if point.language else "every language",
            "point": o.NOTHING if point.at_chance else ladder.said(point.holds),
            "interval": "" if point.at_chance else ladder.between(point.low, point.high),
            "note": ladder.note(point.beyond, at_chance=point.at_chance),
        }
        for point in (found.every, *found.first_lost())
    ]
    columns = (
        o.key(o.word("name", "name")),
        o.Column(ladder.axis, lambda row: row["point"], number=True),
        o.Column("95 % interval", lambda row: row["interval"], number=True),
        *([o.word("note", "note")] if any(row["note"] for row in rows) else []),
    )
    most = f"{ladder.most} up to which each language loses at most {100 * found.max_loss:g} %"
    return Table(columns, rows, f"{ladder.label}: {most}")
