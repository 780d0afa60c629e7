"""The page: one HTML file with its styles, scripts, charts and numbers inside.

Nothing is fetched and nothing is evaluated: the content-security policy allows exactly the two
scripts and the one style sheet below, by their hashes, and Vega reads its expressions with an
interpreter. Strings from outside meet the page in two places only, and both are guarded here:
Jinja (autoescape, `clean`) and the JSON of the charts.

Tested in tests/report/test_report.py.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from babelpress.report import (
    charts,
    costs,
    curves,
    data,
    extras,
    harder,
    pictures,
    scale,
    tables,
    words,
)
from babelpress.report.data import ReportInput, Row, clean, metric_name, percent, size, took
from babelpress.report.finding import WIDTH, cards, finding
from babelpress.report.matrix import FEW, groups, matrices
from babelpress.report.overview import CARDS, overview

JSON_ESCAPES = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&\u2028\u2029"}


def render(report: ReportInput) -> str:
    """The whole page as text. Raises BadRun when there is nothing to show."""
    labels = data.labels(report.pressed)
    rows = data.rows(report)
    found = cards(report.pressed, rows)
    by_size = costs.chart(report, labels)
    specs = {**curves.specs(report, rows, labels), **({"sizes": by_size} if by_size else {})}
    own = {} if report.rising else _by_language(report, rows, labels, specs)
    return filled(
        "curves.html.j2" if report.rising else "template.html.j2",
        report.title,
        {**specs, **pictures.specs(report.analyses)},
        report=report,
        finding=curves.finding(report) if report.rising else finding(report.pressed, rows),
        cards=found if len(found) <= CARDS else [],
        overview=overview(report, found),
        bar_width=WIDTH,
        labels=labels,
        rows=rows,
        held=curves.held(report),
        metric=metric_name(report.metric),
        tongues=data.tongues(report),
        narrow=len(labels) <= FEW,
        done="; ".join(dict.fromkeys(model.name for model in report.pressed)),
        told=dict.fromkeys(note for model in report.pressed for note in model.notes),
        means=_means(report),
        ledgers=extras.ledgers(report.pressed),
        listings=extras.listings(report.pressed),
        takes=costs.lines(report),
        times=costs.times(report),
        thirds=harder.thirds(report),
        elsewhere=harder.elsewhere(report),
        beyond=extras.beyond(report.pressed),
        analyses=pictures.sections(report.analyses),
        by_size=by_size is not None,
        csv=_tables(report, rows, labels),
        again=[(n, m.again) for n, m in zip(labels, report.pressed, strict=True) if m.again],
        notes=[*report.notes, *_gaps(report, rows, labels)],
        manifest=json.dumps(report.manifest or {}, indent=2, ensure_ascii=False, default=str),
        **own,
    )


def _by_language(
    report: ReportInput, rows: list[Row], labels: list[str], specs: dict[str, Any]
) -> dict[str, Any]:
    """What only a page about languages has: the matrices, and its charts, which go to `specs`."""
    shared = any(row.tongue.share for row in rows)
    specs["dumbbell"] = charts.dumbbell(rows)
    if shared:
        specs["scatter"] = charts.scatter(rows, metric_name(report.metric))
    limits = scale.edges(rows)
    return {
        "shared": shared,
        "matrices": matrices(report, rows, limits),
        "legend": scale.legend(rows, limits),
        "choices": [
            (title, [labels[place] for place in at]) for title, at in groups(report.pressed)
        ],
    }


def filled(template: str, title: str, specs: Mapping[str, Any], **values: Any) -> str:
    """A page of a template, with these charts by the ids of their places."""
    bundle, script, style = _bundle(), _part("script.js"), _part("style.css")
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            policy=_policy([bundle, script], style),
            bundle=Markup(bundle),
            script=Markup(script),
            style=Markup(style),
            specs=Markup(_json(specs)),
            **values,
        )
    )


def _means(report: ReportInput) -> dict[str, dict[str, str]]:
    """The words of this page that need explaining, and what they mean."""
    kinds = {word: means for model in report.pressed for word, means in model.kinds.items()}
    policies = {model.policy: words.policy(model.policy) for model in report.pressed}
    return {
        "metric": {"": words.metric(report.metric)},
        "kinds": {word: means for word, means in kinds.items() if means},
        "policies": {name: means for name, means in policies.items() if means},
    }


def _tables(report: ReportInput, rows: list[Row], labels: list[str]) -> dict[str, str]:
    """The tables to download, as addresses that hold them."""
    methods = {label: model.name for label, model in zip(labels, report.pressed, strict=True)}
    found = {
        "summaries": tables.summaries(report.pressed, labels),
        "numbers": tables.numbers(rows, methods),
    }
    if report.collapses:
        found["collapse"] = tables.collapse(report.collapses)
    if any(model.beyond for model in report.pressed):
        found["beyond"] = tables.beyond(report.pressed, labels)
    if any(model.ledger for model in report.pressed):
        found["ledger"] = tables.ledger(report.pressed, labels)
    if any(model.thirds for model in report.pressed):
        found["thirds"] = tables.link(harder.numbers(report))
    if any(model.elsewhere for model in report.pressed):
        found["elsewhere"] = tables.link(harder.numbers_elsewhere(report))
    if costs.lines(report):
        found["takes"] = tables.link(costs.numbers(report))
    return found


def _environment() -> Environment:
    def visible(value: Any) -> Any:
        return value if isinstance(value, Markup) or not isinstance(value, str) else clean(value)

    environment = Environment(
        loader=PackageLoader("babelpress.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["points"] = lambda value: percent(value).removesuffix("\u202f%")
    environment.filters["share"] = charts.share_text
    environment.filters["part"] = extras.part_text
    environment.filters["size"] = size
    environment.filters["capitalize_first"] = lambda text: f"{text[:1].upper()}{text[1:]}"
    environment.globals |= {"took": took, "tongue_of": data.tongue}
    return environment


@cache
def _bundle() -> str:
    """Vega and its embedder with the expression interpreter; they become one global function."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    assert "</script" not in bundle
    assert "<!--" not in bundle
    return bundle.replace("\r", "")


def _part(name: str) -> str:
    return files("babelpress.report").joinpath(name).read_text(encoding="utf-8")


def _policy(scripts: list[str], style: str) -> str:
    allowed = " ".join(_source_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_source_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source_hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _json(value: Any) -> str:
    """JSON that can end neither the element it stands in nor a line of script."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(JSON_ESCAPES)


def _gaps(report: ReportInput, rows: list[Row], labels: list[str]) -> list[str]:
    """What is missing, by name: nothing is left out in silence."""
    found = []
    everyone = {tongue.tag: tongue.name for tongue in data.tongues(report)}
    for label in labels:
        measured = {row.tongue.tag for row in rows if row.label == label}
        if missing := [name for tag, name in everyone.items() if tag not in measured]:
            found.append(f"{label} was not measured in {', '.join(missing)}.")
    unsized = [n for n, m in zip(labels, report.pressed, strict=True) if not m.bytes_stored]
    if 0 < len(unsized) < len(labels):
        found.append(f"The size of {', '.join(unsized)} is not known: nothing says it.")
    unknown = [tongue.name for tongue in data.tongues(report) if not tongue.share]
    if report.shares and unknown:
        found.append(
            f"No training share is known, or it is zero, for {', '.join(unknown)}: they are not in "
            "the chart of loss against training share."
        )
    return found
