"""How far each language can be pressed: curves of sparsity (or bits) against loss, and a table.

A page has them where some of its models are a ladder: they differ in sparsity or bits alone. Up to
`MANY` languages each have a line of their own; of more those that collapse first, and the last one.

Tested in tests/report/test_curves.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from babelpress.judge.collapse import Collapse, Point
from babelpress.judge.ladders import BITS, SPARSITY, Ladder
from babelpress.report import data, scale
from babelpress.report.charts import COLOURS, DASHES, MINUS, between, compiled, titled
from babelpress.report.data import ReportInput, Row, Tongue

MANY = 8  # lines that can be told apart
FIRST = 4  # languages that have a line of their own where there are more, besides the last
MEAN = "mean of all"
OTHERS = "other languages"
HEIGHT = 380
KINDS = {"loss": "percent", "score": "score"}  # charts of each axis, and what they have upwards


@dataclass(frozen=True, slots=True)
class Cell:
    """A collapse point in words, its interval and note, and its colour class; None of no point."""

    point: str
    interval: str
    note: str
    shade: int


@dataclass(frozen=True, slots=True)
class Held:
    """The collapse points of all ladders; `every` is the line of all languages together."""

    labels: tuple[str, ...]
    every: tuple[Cell, ...]
    rows: tuple[tuple[Tongue, tuple[Cell | None, ...]], ...]
    max_loss: float
    charts: tuple[tuple[str, str, tuple[str, ...]], ...]  # of every axis: id, axis, ladders


def held(report: ReportInput) -> Held | None:
    """The table, the language that collapses first first; None where nothing is a ladder."""
    if not report.collapses:
        return None
    points = [
        (ladder, {point.language: point for point in found.points})
        for ladder, found in report.collapses
    ]

    def weakest(tongue: Tongue) -> tuple[float, float, str]:
        own = [
            (there[tongue.tag].holds / len(ladder.rungs), -there[tongue.tag].loss)
            for ladder, there in points
            if tongue.tag in there and not there[tongue.tag].at_chance
        ]
        return *min(own, default=(2.0, 0.0)), tongue.name

    rows = tuple(
        (tongue, tuple(_cell(ladder, there.get(tongue.tag)) for ladder, there in points))
        for tongue in sorted(data.tongues(report), key=weakest)
    )
    every = tuple(filter(None, (_cell(ladder, found.every) for ladder, found in report.collapses)))
    labels = tuple(data.clean(_named(ladder)) for ladder, _ in report.collapses)
    charts = tuple(
        (f"curves-{axis}", axis, tuple(data.clean(ladder.label) for ladder in _of(report, axis)))
        for axis in (SPARSITY, BITS)
        if _of(report, axis)
    )
    return Held(labels, every, rows, report.collapses[0][1].max_loss, charts)


def finding(report: ReportInput) -> str:
    """Up to where every language holds on the best ladder, and which collapses first."""
    ladder, found = max(report.collapses, key=lambda each: _reach(*each))
    told = [point for point in found.first_lost() if not point.at_chance]
    if not told:
        return "The dense model does no better than chance in any language: it has nothing to lose."
    names = {tongue.tag: tongue.name for tongue in data.tongues(report)}
    most = f"{found.max_loss * 100:g}\u202f%"
    label = data.clean(ladder.label)
    first, last = told[0], told[-1]
    ends = ""
    if first.holds != last.holds:
        weakest, strongest = (names[each.language or ""] for each in (first, last))
        ends = f", {weakest} collapses first, and {strongest} holds up to {ladder.at(last.holds)}"
    if not found.every.holds:
        mildest = ladder.at(1)
        return f"With {label}, some language loses more than {most} already at {mildest}{ends}."
    until = f"up to {ladder.at(found.every.holds)}"
    if found.every.holds == len(ladder.rungs):
        until += ", as far as was measured"
    return f"With {label}, no language loses more than {most} {until}{ends}."


def _reach(ladder: Ladder, found: Collapse) -> tuple[float, float]:
    """What share of a ladder every language holds, then each on average."""
    known = [point.holds for point in found.points if not point.at_chance]
    rungs = len(ladder.rungs)
    return found.every.holds / rungs, sum(known) / max(1, len(known)) / rungs


def _named(ladder: Ladder) -> str:
    return f"{ladder.label}, {ladder.axis}"


def _of(report: ReportInput, axis: str) -> list[Ladder]:
    return [ladder for ladder, _ in report.collapses if ladder.axis == axis]


def _cell(ladder: Ladder, point: Point | None) -> Cell | None:
    if point is None:
        return None
    note = ladder.note(point.beyond, at_chance=point.at_chance)
    if point.at_chance:
        return Cell(data.NOTHING, "", note, scale.MIDDLE)
    left = 1 - point.holds / len(ladder.rungs)
    shade = scale.MIDDLE + round(left * (scale.CLASSES - 1 - scale.MIDDLE))
    between = ladder.between(point.low, point.high)
    return Cell(ladder.said(point.holds), between, note, shade)


# ---- charts --------------------------------------------------------------------------------


def specs(report: ReportInput, rows: Sequence[Row], labels: Sequence[str]) -> dict[str, Any]:
    """The charts by the ids of their places: losses and scores of every axis there is."""
    found = {}
    for axis in (SPARSITY, BITS):
        there = [each for each in report.collapses if each[0].axis == axis]
        if there:
            values = [v for ladder, each in there for v in _values(ladder, each, rows, labels)]
            for kind, up in KINDS.items():
                place = f"curves-{axis}" if kind == "loss" else f"curves-{axis}-{kind}"
                found[place] = _chart(values, there, up, data.metric_name(report.metric))
    return found


def _values(
    ladder: Ladder, found: Collapse, rows: Sequence[Row], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """A point of every language and rung; of sparsities the dense model too."""
    by_cell = {(row.label, row.tongue.tag): row for row in rows}
    holds = {point.language: point.holds for point in found.points}
    tongues = data.in_order([row for row in rows if row.tongue.tag in holds])
    shown = _shown([point.language or "" for point in found.first_lost()])
    values: list[dict[str, Any]] = []
    means: dict[float, list[float]] = {}
    for tongue in tongues:
        common = {
            "ladder": data.clean(ladder.label),
            "language": tongue.name,
            "line": tongue.name if tongue.tag in shown else OTHERS,
        }
        cells = [by_cell.get((labels[rung.run], tongue.tag)) for rung in ladder.rungs]
        if ladder.axis == SPARSITY and (known := [cell for cell in cells if cell]):
            dense = known[0].dense
            values.append(common | _at(0.0, 0.0, dense) | {"Change": "dense"})
        for number, (rung, cell) in enumerate(zip(ladder.rungs, cells, strict=True), 1):
            if cell:
                means.setdefault(rung.value, []).append(cell.change)
                last = number == holds[tongue.tag]
                values.append(
                    common
                    | _at(rung.value, cell.change, cell.pressed)
                    | {"Change": between(cell.change, cell.low, cell.high), "last": last}
                )
    return values + _means(ladder, means)


def _at(value: float, change: float, score: float) -> dict[str, Any]:
    """A point of a curve, as charts and tooltips have it."""
    return {
        "value": value,
        "percent": change * 100,
        "score": score,
        "Pressed": f"{value:g}",
        "Score": f"{score:.3f}",
        "last": False,
    }


def _means(ladder: Ladder, means: Mapping[float, list[float]]) -> list[dict[str, Any]]:
    """The mean loss of all languages at every rung; scores of languages have no mean."""
    whole: dict[float, list[float]] = {**({0.0: [0.0]} if ladder.axis == SPARSITY else {}), **means}
    found = []
    for value, each in whole.items():
        mean = sum(each) / len(each)
        common = {"ladder": data.clean(ladder.label), "language": MEAN, "line": MEAN}
        text = {"Change": data.percent(mean), "Score": "\u2013"}
        found.append(common | _at(value, mean, 0.0) | text)
    return found


def _shown(order: Sequence[str]) -> list[str]:
    """The languages that have a line of their own."""
    return list(order) if len(order) <= MANY else [*order[:FIRST], order[-1]]


def _chart(
    values: list[dict[str, Any]],
    there: Sequence[tuple[Ladder, Collapse]],
    up: str,
    metric: str,
) -> dict[str, Any]:
    """Lines of one axis; the signal `shown` picks a ladder where there are several."""
    axis = there[0][0].axis
    own = [v for v in values if up == "percent" or v["line"] != MEAN]
    named_so = dict.fromkeys(v["line"] for v in own if v["line"] not in (OTHERS, MEAN))
    # One order for colours and dashes, or they have a legend each.
    lines = [*named_so, *([MEAN] if up == "percent" else [])]
    base = alt.Chart(alt.Data(values=own)).transform_filter("datum.ladder === shown")
    base = base.encode(x=_across(axis, values), y=_up(up, metric, there[0][1].max_loss))
    faint = base.transform_filter(f"datum.line === '{OTHERS}'").encode(detail="language:N")
    named = base.transform_filter(f"datum.line !== '{OTHERS}'").encode(color=_colour(lines))
    dash = alt.StrokeDash(
        "line:N", scale=alt.Scale(domain=lines, range=_dashes(lines)), legend=None
    )
    layers: list[Any] = [
        faint.mark_line(strokeWidth=1, color="var(--faint)", opacity=0.55, aria=False),
        faint.mark_point(filled=True, size=18, color="var(--faint)").encode(tooltip=_tooltip(axis)),
        named.mark_line(strokeWidth=2, aria=False).encode(strokeDash=dash),
        named.mark_point(filled=True, size=44, opacity=1).encode(tooltip=_tooltip(axis)),
        base.transform_filter("datum.last").mark_point(
            size=150, filled=False, stroke="var(--ink)", strokeWidth=1.2, aria=False
        ),
    ]
    if up == "percent":
        rule = alt.Chart(alt.Data(values=[{}])).mark_rule(
            color="var(--worse)", strokeDash=[3, 3], aria=False
        )
        layers.insert(0, rule.encode(y=alt.datum(there[0][1].max_loss * 100)))
    chart = alt.layer(*layers).add_params(
        alt.param(name="shown", value=data.clean(there[0][0].label))
    )
    return compiled(chart, f"{axis} against {'loss' if up == 'percent' else 'score'}", HEIGHT)


def _across(axis: str, values: Sequence[Mapping[str, Any]]) -> alt.X:
    ticks = sorted({value["value"] for value in values})
    scales = alt.Scale(reverse=axis == BITS, zero=False, nice=False, padding=14)
    title = "sparsity (0: dense)" if axis == SPARSITY else "bits of a weight"
    ends = alt.Axis(
        title=title,
        values=ticks,
        labelExpr="format(datum.value, '~g')",  # a format alone is rounded to the axis's own step
        grid=False,
        labelOverlap="greedy",
    )
    return alt.X("value:Q", scale=scales, axis=ends)


def _up(up: str, metric: str, max_loss: float) -> alt.Y:
    if up == "score":
        title = data.clean(metric)
        return alt.Y(
            "score:Q",
            scale=alt.Scale(zero=False, padding=12),
            axis=alt.Axis(title=title, grid=True, tickCount=6, labelExpr=MINUS),
        )
    # Losses of a sweep span hundreds: linear about what is borne, then logarithmic.
    return alt.Y(
        "percent:Q",
        scale=alt.Scale(type="symlog", constant=max(max_loss * 100, 0.1), padding=12, nice=False),
        axis=alt.Axis(
            title=f"change in {data.clean(metric)}, %",
            grid=True,
            values=[-50, -20, -10, -5, 0, 5, 10, 20, 50, 100, 200, 500, 1000, 5000],
            labelExpr=MINUS,
        ),
    )


def _colour(lines: Sequence[str]) -> alt.Color:
    own = [line for line in lines if line != MEAN]
    colours = [COLOURS[place % len(COLOURS)] for place in range(len(own))]
    domain, colours = (
        ([*own, MEAN], [*colours, "var(--muted)"]) if MEAN in lines else (own, colours)
    )
    return alt.Color(
        "line:N",
        scale=alt.Scale(domain=domain, range=colours),
        legend=alt.Legend(
            orient="top",
            title=None,
            labelColor="var(--ink)",
            labelFontSize=12,
            labelLimit=300,
            columns=3,
            symbolType="stroke",
            symbolStrokeWidth=2,
        ),
    )


def _dashes(lines: Sequence[str]) -> list[tuple[int, ...]]:
    """Another dash for every round of colours; the mean of all has one of its own."""
    own = [line for line in lines if line != MEAN]
    place = {line: at // len(COLOURS) % len(DASHES) for at, line in enumerate(own)}
    return [(8, 4) if line == MEAN else DASHES[place[line]] for line in lines]


def _tooltip(axis: str) -> list[alt.Tooltip]:
    return titled(
        {
            "language": "Language",
            "Pressed": axis.capitalize(),
            "Change": "Change",
            "Score": "Score",
            "ladder": "Runs",
        }
    )
