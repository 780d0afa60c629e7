"""Comparisons as rows of plain values, all with the same keys: what `compare` gives.

Tested in tests/judge/test_verdicts.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from babelpress.judge.buckets import Bucket
from babelpress.judge.collapse import Collapse
from babelpress.judge.compare import Comparison
from babelpress.judge.costs import SIZES
from babelpress.judge.ladders import Ladder
from babelpress.judge.ood import Apart


def of_comparison(name: str, found: Comparison) -> list[dict[str, Any]]:
    """One row for each summary, then one for each language, worst first; all with the same keys."""
    changes = [
        {
            "run": name,
            "kind": "language",
            "name": c.language,
            **asdict(c),
            "verdict": c.verdict,
            "point": None,
        }
        for c in sorted(found.changes, key=lambda c: (-c.change, c.language))
    ]
    nothing = dict.fromkeys(changes[0])
    summaries = [
        {
            **nothing,
            "run": name,
            "kind": "summary",
            "name": s.name,
            "language": s.language,
            "change": s.value,
            "low": s.low,
            "high": s.high,
        }
        for s in found.summaries
    ]
    return summaries + changes


def of_buckets(name: str, found: Sequence[Bucket], like: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each third of documents and language, the means first; the keys of `like`."""
    return [
        {
            **dict.fromkeys(like),
            "run": name,
            "kind": "bucket",
            "name": each.name,
            "language": each.language,
            "change": each.change,
            "low": each.low,
            "high": each.high,
            "documents": each.documents,
        }
        for each in sorted(found, key=lambda each: each.language is not None)
    ]


def of_ood(name: str, found: Sequence[Apart], like: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Two rows for each language and the mean: its loss elsewhere, and how much more that is."""
    rows = []
    for each in sorted(found, key=lambda each: each.language is not None):
        common = {**dict.fromkeys(like), "run": name, "language": each.language}
        beyond = {"change": each.change, "low": each.low, "high": each.high}
        rows += [
            common | {"kind": "ood", "name": "elsewhere", "change": each.outside},
            common | {"kind": "ood", "name": "more", **beyond},
        ]
    return rows


def of_sizes(
    name: str, dense: Mapping[str, Any], pressed: Mapping[str, Any], like: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """One row for each size of a run that is known (costs.SIZES); with the keys of `like`."""
    return [
        {
            **dict.fromkeys(like),
            "run": name,
            "kind": "size",
            "name": key,
            "dense": dense.get(key),
            "pressed": pressed[key],
            "change": pressed[key] / dense[key] - 1 if dense.get(key) else None,
        }
        for key in SIZES
        if key in pressed
    ]


def of_times(name: str, found: Comparison, like: Mapping[str, Any]) -> dict[str, Any]:
    """One row for the time of a text, the mean over languages; with the keys of `like`."""
    mean = next(each for each in found.summaries if each.name == "mean")
    size = len(found.changes)
    return {
        **dict.fromkeys(like),
        "run": name,
        "kind": "time",
        "name": "latency",
        "dense": sum(each.dense for each in found.changes) / size,
        "pressed": sum(each.pressed for each in found.changes) / size,
        "change": mean.value,
        "low": mean.low,
        "high": mean.high,
    }


def of_collapse(ladder: Ladder, found: Collapse, like: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for all languages together, then one for each; with the keys of `like`.

    The language that collapses first comes first.
    """
    return [
        {
            **dict.fromkeys(like),
            "run": ladder.label,
            "kind": "collapse",
            "name": ladder.axis,
            "language": each.language,
            "point": None if each.at_chance else ladder.value(each.holds),
            "low": None if each.at_chance else ladder.value(each.low),
            "high": None if each.at_chance else ladder.value(each.high),
            "at_chance": each.at_chance,
            "verdict": ladder.note(each.beyond, at_chance=each.at_chance) or None,
        }
        for each in (found.every, *found.first_lost())
    ]
