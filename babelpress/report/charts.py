"""The charts as Vega specifications, built with altair and compiled without a browser.

Every colour is the name of a CSS variable, so the charts follow the page into dark mode and onto
paper without being drawn again.

Tested in tests/report/test_report.py.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

from babelpress.judge.compare import NO_DIFFERENCE
from babelpress.report import data
from babelpress.report.data import Row, percent

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
COLOURS = ("var(--accent)", "var(--worse)", "var(--ink)", "var(--faint)")  # of lines, in turn
DASHES = ((1, 0), (6, 3), (2, 3), (8, 3, 2, 3))  # colour is never all that tells lines apart
STEP = 23  # pixels a language, as a line of the matrix beside it has
CONFIG: dict[str, Any] = {
    "font": FONT,
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--muted)",
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "gridColor": "var(--line)",
        "domain": False,
        "ticks": False,
    },
    "rule": {"color": "var(--faint)"},
    "text": {"color": "var(--ink)", "fontSize": 11},
}


def dumbbell(rows: Sequence[Row]) -> dict[str, Any]:
    """From the dense to the pressed score in every language; the signal `shown` picks a label."""
    values = [_point(row) | {"shown": percent(row.change)} for row in rows]
    extent = [score for row in rows for score in (row.dense, row.pressed)]
    margin = 0.34 * ((max(extent) - min(extent)) or 1.0)
    scale = alt.Scale(
        domain=[min(extent) - margin / 6, max(extent) + margin], zero=False, nice=False
    )
    axis = alt.Axis(orient="top", tickCount=5, title=None)
    base = alt.Chart(alt.Data(values=values)).transform_filter("datum.label === shown")
    base = base.encode(y=_down(rows, grid=True), tooltip=_tooltip())
    span = base.mark_rule(strokeWidth=3, strokeCap="round", aria=False).encode(
        x=alt.X("dense:Q", scale=scale, axis=axis), x2="pressed:Q"
    )
    dense = base.mark_point(
        filled=True, size=64, fill="var(--paper)", stroke="var(--ink)", strokeWidth=1.5, opacity=1
    ).encode(x="dense:Q")
    pressed = base.mark_point(filled=True, size=84, opacity=1).encode(
        x="pressed:Q", color=_verdict()
    )
    number = base.mark_text(
        align=alt.ExprRef("datum.pressed < datum.dense ? 'right' : 'left'"),
        dx=alt.ExprRef("datum.pressed < datum.dense ? -9 : 9"),
        aria=False,
        color="var(--muted)",
    ).encode(x="pressed:Q", text="shown:N")
    chart = alt.layer(span, dense, pressed, number).add_params(_shown(rows))
    lines = len({row.tongue.tag for row in rows})
    return compiled(chart, "Dense and pressed score of every language", lines * STEP)


def scatter(rows: Sequence[Row], metric: str) -> dict[str, Any]:
    """Loss against training share; labels go where they fit. Languages without a share are out."""
    placed = [(row, row.tongue.share) for row in rows if row.tongue.share]
    values = [_point(row) | {"share": share} for row, share in placed]
    across = alt.X(
        "share:Q",
        scale=alt.Scale(type="log", nice=False, padding=22),
        axis=alt.Axis(
            title="share of the training text (logarithmic)",
            grid=False,
            values=_ticks([share for _, share in placed]),
            labelOverlap="greedy",
            labelSeparation=8,
            labelExpr="format(datum.value * 100, '~g') + ' %'",
        ),
    )
    up = alt.Y(
        "percent:Q",
        scale=alt.Scale(padding=12),
        axis=alt.Axis(title=f"change in {metric}, %", grid=True, tickCount=6, labelExpr=MINUS),
    )
    base = alt.Chart(alt.Data(values=values)).encode(x=across, y=up)
    chosen = base.transform_filter("datum.label === shown")
    zero = alt.Chart(alt.Data(values=[{}])).mark_rule(color="var(--muted)", aria=False)
    others = base.transform_filter("datum.label !== shown").mark_point(
        filled=True, size=26, color="var(--faint)", opacity=0.55, aria=False
    )
    behind = [others] if len(_labels(rows)) > 1 else []  # a scale of nothing is warned of
    interval = (
        chosen.mark_rule(strokeWidth=1.5, aria=False)
        .encode(y=alt.Y("low:Q"), y2="high:Q", color=_verdict())
        .properties(name="intervals")
    )
    points = (
        chosen.mark_point(filled=True, size=72, opacity=1)
        .encode(color=_verdict(), tooltip=_tooltip())
        .properties(name="points")
    )
    chart = alt.layer(zero.encode(y=alt.datum(0)), *behind, interval, points)
    return with_labels(compiled(chart.add_params(_shown(rows)), "Loss against training share", 440))


def between(value: float, low: float, high: float) -> str:
    """A change with its interval."""
    return f"{percent(value)} ({percent(low)} to {percent(high)})"


MINUS = "replace(datum.label, '-', '\u2212')"


def with_labels(spec: dict[str, Any]) -> dict[str, Any]:
    """Add names that avoid the points and one another, which Vega can do and Vega-Lite cannot."""
    label = {
        "type": "text",
        "from": {"data": "points_marks"},
        "interactive": False,
        "aria": False,
        "encode": {
            "enter": {
                "text": {"field": "datum.language"},
                "fill": {"value": "var(--ink)"},
                "font": {"value": FONT},
                "fontSize": {"value": 12},
            }
        },
        "transform": [
            {
                "type": "label",
                "size": {"signal": "[width, height]"},
                "anchor": ["right", "top", "bottom", "left", "top-right", "bottom-right"],
                "offset": [3],
                "avoidMarks": ["intervals_marks"],
                "padding": 2,
            }
        ],
    }
    return spec | {"marks": [*spec["marks"], label]}


def compiled(chart: alt.LayerChart | alt.FacetChart, title: str, height: int) -> dict[str, Any]:
    """Vega that fills the width it is given."""
    # The widths are those of the page, so nothing here may depend on a guess of them.
    sized = chart.properties(
        width="container",
        height=height,
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        padding={"left": 0, "top": 4, "right": 2, "bottom": 6},
        description=f"{title}. The table below has every number.",
    )
    return vl_convert.vegalite_to_vega(sized.to_dict() | {"config": CONFIG})


def _point(row: Row) -> dict[str, Any]:
    """What every chart and its tooltips need of a row."""
    share = row.tongue.share
    return {
        "label": row.label,
        "language": row.tongue.name,
        "dense": row.dense,
        "pressed": row.pressed,
        "percent": row.change * 100,
        "low": row.low * 100,
        "high": row.high * 100,
        "verdict": row.verdict,
        "told": row.verdict if row.significant else NO_DIFFERENCE,
        "Change": between(row.change, row.low, row.high),
        "Scores": f"{row.dense:.3f} → {row.pressed:.3f}",
        "Share": "not known" if share is None else share_text(share),
    }


def share_text(share: float) -> str:
    """A share with three significant digits, in per cent."""
    return f"{share * 100:.3g}\u202f%"


def _tooltip() -> list[alt.Tooltip]:
    titles = {
        "language": "Language",
        "label": "Calibration",
        "Change": "Change",
        "Scores": "Dense → pressed",
        "verdict": "Finding",
        "Share": "Training share",
    }
    return titled(titles)


def titled(titles: Mapping[str, str]) -> list[alt.Tooltip]:
    """Lines of a tooltip: fields, and what they are called."""
    return [alt.Tooltip(field, type="nominal", title=title) for field, title in titles.items()]


def _verdict() -> alt.Color:
    scale = alt.Scale(
        domain=["worse", "better", NO_DIFFERENCE],
        range=["var(--worse)", "var(--better)", "var(--faint)"],
    )
    return alt.Color("told:N", scale=scale, legend=None)


def _down(rows: Sequence[Row], *, grid: bool) -> alt.Y:
    names = [tongue.name for tongue in data.in_order(rows)]
    return alt.Y(
        "language:N",
        sort=None,
        title=None,
        axis=alt.Axis(labelLimit=150, labelPadding=8, grid=grid, labelOverlap=False),
        scale=alt.Scale(domain=names, paddingInner=0.06, paddingOuter=0),
    )


def _ticks(shares: Sequence[float]) -> list[float]:
    """1 and 3 of every power of ten that the shares span."""
    powers = range(math.floor(math.log10(min(shares))), math.ceil(math.log10(max(shares))) + 1)
    marks = [round(first * 10.0**power, 12) for power in powers for first in (1, 3)]
    return [mark for mark in marks if min(shares) <= mark <= max(shares)]


def _shown(rows: Sequence[Row]) -> alt.Parameter:
    return alt.param(name="shown", value=_labels(rows)[0])


def _labels(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.label for row in rows))
