"""The page of analyses: one offline HTML file with the report's looks and its guards.

Tested in tests/report/test_insight.py.
"""

from collections.abc import Sequence
from pathlib import Path

from babelpress.errors import BadRun
from babelpress.insight._kept import Kept
from babelpress.report import page, pictures
from babelpress.system import files

PAGE = "insight.html"


def write_page(analyses: Sequence[Kept], path: Path, *, model: str, runs: Sequence[str]) -> Path:
    """Write the page, whole or not at all, and return its path.

    Raises BadRun where there is nothing to show, or when the disk refuses.
    """
    files.write_text(path, render(analyses, model=model, runs=runs))
    return path


def render(analyses: Sequence[Kept], *, model: str, runs: Sequence[str]) -> str:
    """The whole page as text. Raises BadRun when there is nothing to show."""
    seen = [picture.seen for each in analyses for picture in each.pictures]
    if not seen:
        raise BadRun("no analysis has a picture. Name analyses with --on.")
    return page.filled(
        "insight.html.j2",
        f"{model}: what is inside, by language",
        pictures.specs(analyses),
        model=model,
        runs=list(runs),
        finding=seen[0],
        analyses=pictures.sections(analyses),
    )
