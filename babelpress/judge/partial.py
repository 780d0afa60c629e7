"""Scores of the first documents only: what is said of them, and where they will not do.

Tested in tests/judge/test_until.py.
"""

from pathlib import Path

from babelpress.errors import BadRun
from babelpress.judge import scores


def whole_only(dense: Path, on: str, corpus: str) -> None:
    """Raise BadRun where what others are held against was scored in part only."""
    if some := scores.until(dense, on, corpus):
        raise BadRun(
            f"{dense} has the scores of some documents only, in {len(some)} languages, as they "
            "were enough for something. What others are held against is scored whole: "
            f"babelpress eval MODEL --on {on} --out {dense}, of the same model, goes on there."
        )


def said(run: Path, name: str, on: str, corpus: str) -> list[str]:
    """A line about a run of which some languages were scored on the first documents only."""
    rows = [
        row
        for row in scores.read_results(run)
        if row["evaluation"] == on and row.get("corpus", "") == corpus and row.get(scores.UNTIL)
    ]
    if not rows:
        return []
    sizes, why = [row["documents"] for row in rows], rows[0][scores.UNTIL]
    most = max(row[scores.UNTIL]["documents"] for row in rows)
    return [
        f"{name}: in {len(rows)} languages only the first {between(sizes)} of {most} documents are "
        f"scored, for a promise of {100 * why['max_loss']:g} % (--until-known). Their intervals "
        "and p-values hold whenever that stopped. Large documents come first, and intervals of "
        "summaries do not count that it stopped: for these score all."
    ]


def between(sizes: list[int]) -> str:
    """A number, or the least and the largest of some."""
    low, high = min(sizes), max(sizes)
    return f"{low}" if low == high else f"{low} to {high}"
