"""Pictures of analyses: heat maps and lines as Vega, and the same numbers as tables.

Colours are the classes of the report's scale: to the orange end where one end of the values is a
loss, to the blue end where none is.

Tested in tests/report/test_insight.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import altair as alt

from babelpress.insight._kept import Kept
from babelpress.insight._pictures import Picture, Point
from babelpress.report import scale, tables
from babelpress.report.charts import COLOURS, DASHES, STEP, compiled
from babelpress.system.escaping import clean as cleaned

WRITTEN = 24  # columns up to which a cell has room for its number
LINES = 300  # pixels
DATA = "points"  # what Vega calls the numbers


clean = lru_cache(maxsize=4096)(cleaned)  # the same few names come thousands of times


@dataclass(frozen=True, slots=True)
class Panel:
    """The numbers of one panel: headings, and lines of a heading and cells."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as a page shows it; `legend` are classes of colour with their lower limits."""

    id: str
    picture: Picture
    panels: tuple[Panel, ...]
    legend: tuple[tuple[int, str], ...]
    csv: str


@dataclass(frozen=True, slots=True)
class Section:
    """The pictures of one analysis."""

    id: str
    title: str
    about: str
    pictures: tuple[Shown, ...]


def sections(analyses: Sequence[Kept]) -> list[Section]:
    """What a page shows of analyses, in their order."""
    return [
        Section(f"insight-{number}", each.spoken, clean(each.about), tuple(_shown(number, each)))
        for number, each in enumerate(analyses)
    ]


def specs(analyses: Sequence[Kept]) -> dict[str, Any]:
    """The charts by the ids of their places."""
    return {
        _id(number, picture): _heat(picture) if picture.kind == "heat" else _lines(picture)
        for number, each in enumerate(analyses)
        for picture in map(_clean, each.pictures)
    }


def _clean(picture: Picture) -> Picture:
    """The same with every word as it may be shown: results may come from elsewhere."""
    known = {field.name: getattr(picture, field.name) for field in fields(picture)}
    words = {name: clean(each) for name, each in known.items() if isinstance(each, str)}
    points = tuple(
        Point(clean(p.panel), clean(p.across), clean(p.down), p.value) for p in picture.points
    )
    return replace(picture, **words, points=points)


def _id(number: int, picture: Picture) -> str:
    return f"insight-{number}-{picture.name}"


def _shown(number: int, kept: Kept) -> list[Shown]:
    return [
        Shown(
            _id(number, picture),
            picture,
            tuple(_panel(picture, title) for title in _panels(picture)),
            tuple(_legend(picture)) if picture.kind == "heat" else (),
            _csv(picture),
        )
        for picture in map(_clean, kept.pictures)
    ]


# ---- numbers -------------------------------------------------------------------------------


def _panels(picture: Picture) -> list[str]:
    return list(dict.fromkeys(point.panel for point in picture.points))


def _across(picture: Picture) -> list[str]:
    return list(dict.fromkeys(point.across for point in picture.points))


def _down(picture: Picture) -> list[str]:
    return list(dict.fromkeys(point.down for point in picture.points))


def _text(picture: Picture, value: float | None) -> str:
    if value is None:
        return picture.none
    return f"{value:.{picture.digits}f}".replace("-", "\u2212")


def _panel(picture: Picture, title: str) -> Panel:
    there = {(p.down, p.across): p.value for p in picture.points if p.panel == title}
    columns = [each for each in _across(picture) if any(at == each for _, at in there)]
    names = [each for each in _down(picture) if any(at == each for at, _ in there)]
    lines = [
        (
            name,
            tuple(_text(picture, there[name, at]) if (name, at) in there else "" for at in columns),
        )
        for name in names
    ]
    return Panel(title, tuple(columns), tuple(lines))


def _csv(picture: Picture) -> str:
    titles = {"panel": picture.panel, "down": picture.down, "across": picture.across}
    down, across = titles["down"], titles["across"]
    if down == across:
        down, across = f"{down} down", f"{across} across"

    def line(point: Point) -> dict[str, Any]:
        panel = {picture.panel: point.panel} if picture.panel else {}
        return {**panel, down: point.down, across: point.across, picture.value: point.value}

    return tables.link(map(line, picture.points))


# ---- colours -------------------------------------------------------------------------------


def _limits(picture: Picture) -> list[float]:
    """Limits of equal steps between the classes: as many as there are classes on one side."""
    known = [point.value for point in picture.points if point.value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    steps = scale.CLASSES - scale.MIDDLE
    found = [low + (high - low) * step / steps for step in range(1, steps)]
    rounded = {round(limit, picture.digits) for limit in found}
    return sorted(limit for limit in rounded if limit > low)  # below the lowest there is nothing


def _shades(picture: Picture, limits: Sequence[float]) -> list[int]:
    """The class of colour between every two limits, from the lowest values on."""
    count, most = len(limits) + 1, scale.CLASSES - 1 - scale.MIDDLE
    away = [round(most * place / max(count - 1, 1)) for place in range(count)]
    if picture.bad == "low":
        away.reverse()
    return [scale.MIDDLE + step if picture.bad else scale.MIDDLE - step for step in away]


def _legend(picture: Picture) -> list[tuple[int, str]]:
    limits = _limits(picture)
    words = ["", *(_text(picture, limit) for limit in limits)]
    return list(zip(_shades(picture, limits), words, strict=True))


# ---- charts --------------------------------------------------------------------------------


def _values(picture: Picture) -> list[dict[str, Any]]:
    limits = _limits(picture)
    shades = _shades(picture, limits)
    found = []
    for point in picture.points:
        row: dict[str, Any] = {
            "panel": point.panel,
            "across": point.across,
            "down": point.down,
            "shown": _text(picture, point.value),
            "value": point.value,
        }
        if point.value is not None:
            shade = shades[sum(point.value >= limit for limit in limits)]
            row |= {"shade": f"var(--class-{shade})", "on": f"var(--on-class-{shade})"}
        found.append(row)
    return found


def _base(picture: Picture) -> alt.Chart:
    base = alt.Chart(alt.NamedData(name=DATA))
    if len(_panels(picture)) > 1:
        base = base.transform_filter("datum.panel === shown")
    return base


def _compiled(
    picture: Picture, chart: alt.LayerChart | alt.FacetChart, height: int
) -> dict[str, Any]:
    panels = _panels(picture)
    if len(panels) > 1:
        chart = chart.add_params(alt.param(name="shown", value=picture.first or panels[0]))
    spec = compiled(chart, picture.question, height)
    # Put in afterwards, for altair takes a second to check a thousand points.
    (source,) = (each for each in spec["data"] if each["name"] == DATA)
    source["values"] = _values(picture)
    return spec


def _tooltip(picture: Picture) -> list[alt.Tooltip]:
    """Titles are told apart, for a line of the tooltip goes by its title."""
    down, across = picture.down, picture.across
    if down == across:
        across = f"other {across}"
    titles = {"down": down, "across": across, "shown": picture.value}
    return [alt.Tooltip(f"{key}:N", title=title) for key, title in titles.items()]


def _heat(picture: Picture) -> dict[str, Any]:
    """A square for every number, with the number in it where there is room."""
    across, down = _across(picture), _down(picture)
    long = max(map(len, across), default=0) > 4 and len(across) > 8
    # Languages by languages: which are down is not seen from their names.
    both = set(across) == set(down) and picture.across != picture.down
    x = alt.X(
        "across:N",
        sort=None,
        title=None if picture.across == picture.down else picture.across,
        scale=alt.Scale(domain=across, paddingInner=0.04, paddingOuter=0),
        axis=alt.Axis(
            labelAngle=-60 if long else 0, labelLimit=130, orient="bottom", labelOverlap=False
        ),
    )
    y = alt.Y(
        "down:N",
        sort=None,
        title=picture.down if both else None,
        scale=alt.Scale(domain=down, paddingInner=0.08, paddingOuter=0),
        axis=alt.Axis(labelLimit=210, labelPadding=8, labelOverlap=False),
    )
    base = _base(picture).transform_filter("datum.value !== null").encode(x=x, y=y)
    layers = [
        base.mark_rect(aria=False).encode(
            fill=alt.Fill("shade:N", scale=None, legend=None), tooltip=_tooltip(picture)
        )
    ]
    if len(across) <= WRITTEN:
        layers.append(
            base.mark_text(aria=False, fontSize=10.5).encode(
                text="shown:N", color=alt.Color("on:N", scale=None, legend=None)
            )
        )
    return _compiled(picture, alt.layer(*layers), len(down) * STEP)


def _lines(picture: Picture) -> dict[str, Any]:
    """A line for every `down`, with a point at every number."""
    across, down = _across(picture), _down(picture)
    known = [point.value for point in picture.points if point.value is not None]
    ends = [min(known, default=0.0), max(known, default=1.0)]  # one scale for all panels
    base = (
        _base(picture)
        .transform_filter("datum.value !== null")
        .encode(
            x=alt.X(
                "across:N",
                sort=None,
                title=picture.across,
                scale=alt.Scale(type="point", domain=across, padding=0.3),
                axis=alt.Axis(labelAngle=0),
            ),
            y=alt.Y(
                "value:Q",
                title=picture.value,
                scale=alt.Scale(domain=ends, zero=False, nice=False, padding=10),
                axis=alt.Axis(grid=True, tickCount=6),
            ),
            color=alt.Color(
                "down:N",
                scale=alt.Scale(domain=down, range=_in_turn(COLOURS, len(down))),
                legend=alt.Legend(
                    orient="top",
                    title=None,
                    labelColor="var(--ink)",
                    labelFontSize=12,
                    labelLimit=400,
                    symbolType="stroke",
                    symbolStrokeWidth=2,
                ),
            ),
        )
    )
    dash = alt.StrokeDash(
        "down:N", scale=alt.Scale(domain=down, range=_in_turn(DASHES, len(down))), legend=None
    )
    line = base.mark_line(strokeWidth=2, aria=False).encode(strokeDash=dash)
    point = base.mark_point(filled=True, size=48, opacity=1).encode(tooltip=_tooltip(picture))
    return _compiled(picture, alt.layer(line, point), LINES)


def _in_turn(each: Sequence[Any], count: int) -> list[Any]:
    return [each[place % len(each)] for place in range(count)]
