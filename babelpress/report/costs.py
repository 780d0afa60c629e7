"""What models take beside what they lose: sizes, times, and the chart of size against loss.

Tested in tests/report/test_costs.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from babelpress.judge.compare import Comparison
from babelpress.judge.costs import SIZES
from babelpress.judge.ladders import Ladder
from babelpress.report import data
from babelpress.report.charts import COLOURS, DASHES, MINUS, between, compiled, titled, with_labels
from babelpress.report.data import NOTHING, Pressed, ReportInput, Tongue, percent, size

STORED, COMPRESSED = "bytes_stored", "bytes_compressed"
TIMED = ("ms_per_text", "mean_change", "low", "high")  # of the change
DENSE = "dense"


@dataclass(frozen=True, slots=True)
class Line:
    """What one model takes, in words; empty where it is not known.

    `time` is the mean over languages, `slower` the mean of their changes.
    """

    label: str
    parameters: str
    nonzero: str
    dense: str
    stored: str
    compressed: str
    time: str
    slower: str


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds a text by language: of the dense model, and of each that was timed as it was."""

    labels: tuple[str, ...]
    rows: tuple[tuple[Tongue, str, tuple[str, ...]], ...]


def lines(report: ReportInput) -> tuple[Line, ...]:
    """The dense model first, where it is known; none where no model says more than its parts."""
    timed = any(model.times for model in report.pressed)
    if not timed and not any(COMPRESSED in (model.ledger or {}) for model in report.pressed):
        return ()
    first = next((model.times for model in report.pressed if model.times), None)
    time = f"{_mean([each.dense for each in first.changes]):.2f}" if first else ""
    dense = _line(DENSE, report.sizes, time, "")
    found = [_line(label, known, *_time(timed)) for label, known, timed in _models(report)]
    return (*([dense] if report.sizes or timed else []), *found)


def numbers(report: ReportInput) -> list[dict[str, Any]]:
    """The same unrounded; None where it is not known."""
    nothing: dict[str, Any] = dict.fromkeys(TIMED)
    found: list[dict[str, Any]] = []
    for label, known, timed in [(DENSE, report.sizes, None), *_models(report)]:
        sizes = {key: known.get(key) for key in SIZES}
        found.append({"model": label, **sizes, **(_numbers(timed) if timed else nothing)})
    first = next((model.times for model in report.pressed if model.times), None)
    found[0]["ms_per_text"] = _mean([each.dense for each in first.changes]) if first else None
    return found


def _numbers(timed: Comparison) -> dict[str, float]:
    mean = next(each for each in timed.summaries if each.name == "mean")
    value = _mean([each.pressed for each in timed.changes])
    return dict(zip(TIMED, (value, mean.value, mean.low, mean.high), strict=True))


def _models(report: ReportInput) -> list[tuple[str, Mapping[str, Any], Comparison | None]]:
    labels = data.labels(report.pressed)
    return [(n, m.ledger or {}, m.times) for n, m in zip(labels, report.pressed, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _line(label: str, known: Mapping[str, Any], time: str, slower: str) -> Line:
    parameters, nonzero = known.get("parameters"), known.get("nonzero")
    some = f" ({percent(nonzero / parameters, sign=False)})" if nonzero and parameters else ""
    return Line(
        label,
        "" if parameters is None else f"{parameters:,}",
        "" if nonzero is None else f"{nonzero:,}{some}",
        size(known.get("bytes_dense")),
        size(known.get(STORED)),
        size(known.get(COMPRESSED)),
        time,
        slower,
    )


def _time(timed: Comparison | None) -> tuple[str, str]:
    """The mean over languages, and the mean of their changes: not the change of that mean."""
    if timed is None:
        return "", ""
    value, change, low, high = _numbers(timed).values()
    return f"{value:.2f}", f"{percent(change)} ({percent(low)} to {percent(high)})"


def times(report: ReportInput) -> Times | None:
    """Every language of the first model that was timed; None where none was."""
    timed = [
        (label, {each.language: each for each in found.changes})
        for label, _, found in _models(report)
        if found
    ]
    if not timed:
        return None
    rows = tuple(
        (
            data.tongue(tag),
            f"{first.dense:.2f}",
            tuple(
                f"{found[tag].pressed:.2f} ({percent(found[tag].change)})"
                if tag in found
                else NOTHING
                for _, found in timed
            ),
        )
        for tag, first in sorted(timed[0][1].items(), key=lambda each: -each[1].dense)
    )
    return Times(tuple(label for label, _ in timed), rows)


# ---- size against loss ---------------------------------------------------------------------


def chart(report: ReportInput, labels: Sequence[str]) -> dict[str, Any] | None:
    """Worst loss against size, every method on one chart; None unless models differ in size.

    The size is that compressed where every model has one, and the dense one too: pruned models
    differ in nothing else. Runs of a ladder are joined by a line.
    """
    known = [(m, label) for m, label in zip(report.pressed, labels, strict=True) if m.ledger]
    key = _key(report, [model for model, _ in known])
    if len({(model.ledger or {}).get(key) for model, _ in known}) < 2:
        return None
    named = _on(report, labels)
    values = [_point(model, label, key, named.get(label)) for model, label in known]
    dense = report.sizes.get(key) or max((m.ledger or {})["bytes_dense"] for m, _ in known)
    nothing = {"language": DENSE, "size": dense / 1e6, "percent": 0.0, "Size": size(dense)}
    across = alt.X(
        "size:Q",
        scale=alt.Scale(zero=True, nice=False, padding=22),
        axis=alt.Axis(title=f"size {WORDS[key]}, MB", grid=False, tickCount=8),
    )
    up = alt.Y(
        "percent:Q",
        scale=alt.Scale(padding=12, nice=False),
        axis=alt.Axis(title="worst language, %", grid=True, tickCount=6, labelExpr=MINUS),
    )
    base = alt.Chart(alt.Data(values=values)).encode(x=across, y=up)
    origin = alt.Chart(alt.Data(values=[nothing])).encode(x=across, y=up)
    zero = alt.Chart(alt.Data(values=[{}])).mark_rule(color="var(--muted)", aria=False)
    whole = origin.mark_point(
        filled=True, size=64, fill="var(--paper)", stroke="var(--ink)", strokeWidth=1.5, opacity=1
    )
    word = origin.mark_text(align="right", dx=-9, dy=-9, aria=False, text=DENSE)
    interval = (
        base.mark_rule(strokeWidth=1.5, aria=False, color="var(--faint)")
        .encode(y=alt.Y("low:Q"), y2="high:Q")
        .properties(name="intervals")
    )
    points = base.mark_point(filled=True, size=72, opacity=1).properties(name="points")
    points = points.encode(
        color=_colour(list(dict.fromkeys(value["line"] for value in values))),
        tooltip=titled({"run": "Run", "Change": "Worst", "Size": "Size"}),
    )
    layers = [zero.encode(y=alt.datum(0)), *_joined(base, values), whole, word, interval, points]
    return with_labels(compiled(alt.layer(*layers), "Worst loss against size", 380))


WORDS = {STORED: "as stored", COMPRESSED: "compressed"}


def _key(report: ReportInput, known: Sequence[Pressed]) -> str:
    """The size that all have."""
    every = all(COMPRESSED in (model.ledger or {}) for model in known)
    return COMPRESSED if every and COMPRESSED in report.sizes else STORED


def _on(report: ReportInput, labels: Sequence[str]) -> dict[str, tuple[str, str]]:
    """By label of a model the ladder that it is on, and its place there in words."""
    found: dict[str, tuple[str, str]] = {}
    for ladder, _ in report.collapses:
        for rung in ladder.rungs:
            found.setdefault(labels[rung.run], (_spoken(ladder), f"{rung.value:g}"))
    return found


def _spoken(ladder: Ladder) -> str:
    return data.clean(f"{ladder.label}, {ladder.axis}")


def _point(model: Pressed, label: str, key: str, named: tuple[str, str] | None) -> dict[str, Any]:
    worst = next(each for each in model.comparison.summaries if each.name == "worst")
    stored = (model.ledger or {})[key]
    language = data.tongue(worst.language or "").name
    line, shown = named or ("", label)
    return {
        "language": shown,
        "run": label,
        "line": line,
        "size": stored / 1e6,
        "percent": worst.value * 100,
        "low": worst.low * 100,
        "high": worst.high * 100,
        "Change": f"{language} {between(worst.value, worst.low, worst.high)}",
        "Size": size(stored),
    }


def _colour(names: Sequence[str]) -> alt.Color:
    """A colour for each ladder; what is on none is ink."""
    ladders = [name for name in names if name]
    colours = [
        COLOURS[ladders.index(name) % len(COLOURS)] if name else "var(--ink)" for name in names
    ]
    legend = alt.Legend(
        orient="top", title=None, labelColor="var(--ink)", labelLimit=300, columns=2
    )
    return alt.Color(
        "line:N",
        scale=alt.Scale(domain=names, range=colours),
        legend=legend if ladders and all(names) else None,
    )


def _joined(base: alt.Chart, values: Sequence[Mapping[str, Any]]) -> list[alt.Chart]:
    """The lines of ladders; none where no model is on one, for a scale of nothing is warned of."""
    names = [name for name in dict.fromkeys(value["line"] for value in values) if name]
    if not names:
        return []
    dashes = [DASHES[place // len(COLOURS) % len(DASHES)] for place in range(len(names))]
    lines = base.transform_filter('datum.line !== ""').mark_line(strokeWidth=1.5, aria=False)
    return [
        lines.encode(
            color=_colour([*names]),
            strokeDash=alt.StrokeDash(
                "line:N", scale=alt.Scale(domain=names, range=dashes), legend=None
            ),
        )
    ]
