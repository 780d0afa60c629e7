"""Comparisons as rows of plain values, all with the same keys: what `compare` gives.

Tested in tests/judge/test_verdicts.py.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from babelpress.judge.collapse import Collapse
from babelpress.judge.compare import Comparison
from babelpress.judge.ladders import Ladder


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
