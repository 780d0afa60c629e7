"""Results to one HTML file that opens anywhere, needs no network and runs no foreign code.

`data` is what a report is made of, `finding` its sentence, `charts` its pictures, `page` the file.
"""

from pathlib import Path

from babelpress.report.data import Pressed, ReportInput
from babelpress.system import files

__all__ = ["Pressed", "ReportInput", "write_report"]


def write_report(report: ReportInput, path: Path) -> Path:
    """Write the report as one HTML file, whole or not at all, and return its path.

    Raises BadRun when there is nothing to report, when two pressed models have the same name and
    calibration, or when the disk refuses.
    """
    # Late, because altair and jinja2 cost a third of a second and most commands need neither.
    from babelpress.report import page

    files.write_text(path, page.render(report))
    return path
