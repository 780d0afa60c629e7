"""The main job on the embedded model and text: three calibrations of one method, side by side.

Tested in tests/commands/test_demo.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from babelpress.judge import predicted, scores, verdicts
from babelpress.judge.evaluate import evaluate
from babelpress.judge.settings import EvaluationSettings
from babelpress.models.names import EMBEDDED
from babelpress.moments.calibrate import calibrate
from babelpress.report import write_report
from babelpress.report.data import rows as report_rows
from babelpress.report.finding import finding
from babelpress.report.gather import report_input
from babelpress.runs import recipe, run
from babelpress.runs.open import open_any
from babelpress.system.progress import Progress
from babelpress.text.settings import CalibrationSettings

METHOD, PATTERN = "wanda", "0.6"
POLICIES = {
    "english": "English only",
    "proportional": "as trained",
    "uniform": "all alike (uniform)",
}
SHOWN = {"mean": "mean", "worst": "worst language", "low_resource": "low-resource"}
TOKENS = 1536
ON = "bits_per_byte"


@dataclass(frozen=True, slots=True)
class Shown:
    """What the demo found: a row for each calibration and summary, sentences, the report."""

    rows: list[dict[str, Any]]
    about: str
    finding: str
    page: Path


def do(out: Path, progress: Progress) -> Shown:
    """Moments once, one run for each policy, scores, comparison, report.

    What is there already is not done again.
    """
    asked = CalibrationSettings(tokens=TOKENS)
    moments = out / "moments"
    calibrate(open_any(EMBEDDED), asked, moments, gram=False, progress=progress)
    folders = [out / policy for policy in POLICIES]
    for policy, folder in zip(POLICIES, folders, strict=True):
        run.do(_plan(asked, policy, moments), folder, progress=progress)
    dense = out / "dense"
    scored = EvaluationSettings(corpus=asked.corpus, on=(ON,))
    for folder, model in [(dense, EMBEDDED), *((each, str(each)) for each in folders)]:
        evaluate(open_any(model), folder, scored, progress=progress)
    rows = [row for policy in POLICIES for row in _rows(policy, dense, out / policy)]
    given = report_input(dense, folders, on=ON, title=f"{EMBEDDED}, {METHOD} {PATTERN}")
    page = write_report(given, out / "report.html")
    tallies = scores.tallies(dense, ON)
    mean = fmean(tally.value for tally in tallies.values())
    about = (
        f"The dense {EMBEDDED} needs {mean:.2f} bits per byte, mean of {len(tallies)} languages.\n"
        f"{METHOD.capitalize()} takes away {100 * float(PATTERN):.0f} % of the weights in its "
        "blocks; what that costs depends on the calibration:"
    )
    return Shown(rows, about, finding(given.pressed, report_rows(given)), page)


def side_by_side(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each calibration: its name in words, and its row for each summary."""
    found = []
    for policy, words in POLICIES.items():
        own = {row["summary"]: row for row in rows if row["calibration"] == policy}
        found.append({"words": words, **own})
    return found


def _plan(asked: CalibrationSettings, policy: str, moments: Path) -> recipe.Recipe:
    step = {
        "method": METHOD,
        "pattern": PATTERN,
        "mixture": policy,
        "propagate": "dense",
        "moments": str(moments),
    }
    data = {"model": EMBEDDED, "calibration": asked.model_dump(), "steps": [{"prune": step}]}
    return recipe.of(data)


def _rows(policy: str, dense: Path, folder: Path) -> list[dict[str, Any]]:
    found = verdicts.against(dense, folder, on=ON)
    predicted.note_prediction(folder, ON, scores.the_corpus([dense, folder], ON)[folder], found)
    return [
        {
            "calibration": policy,
            "summary": summary.name,
            "change": summary.value,
            "low": summary.low,
            "high": summary.high,
            "language": summary.language,
        }
        for summary in found.summaries
        if summary.name in SHOWN
    ]
