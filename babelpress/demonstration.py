"""The main job on the embedded model and text: three calibrations of one method, side by side."""

from pathlib import Path
from typing import Any

from babelpress import gathering, recipe, run, scores, verdicts
from babelpress.corpus import open_corpus
from babelpress.models import EMBEDDED, open_model
from babelpress.press import Progress
from babelpress.report import write_report

METHOD, PATTERN = "wanda", "0.6"
POLICIES = ("english", "proportional", "minimax")
TOKENS = 2048


def do(out: Path, progress: Progress) -> tuple[list[dict[str, Any]], Path]:
    """Moments once, one run for each policy, scores, comparison, report; rows and the page."""
    asked = recipe.Calibration(tokens=TOKENS)
    gathering.calibrate(open_model(EMBEDDED), asked, out / "moments", gram=False, progress=progress)
    text = open_corpus(asked.corpus)
    folders = [out / policy for policy in POLICIES]
    for policy, folder in zip(POLICIES, folders, strict=True):
        step = {
            "method": METHOD,
            "pattern": PATTERN,
            "mixture": policy,
            "propagate": "dense",
            "moments": str(out / "moments"),
        }
        plan = recipe.of(
            {
                "model": EMBEDDED,
                "calibration": asked.model_dump(),
                "steps": [{"prune": step}],
            }
        )
        run.do(plan, folder, progress=progress)
    dense = out / "dense"
    for folder, model in [(dense, EMBEDDED), *((f, str(f)) for f in folders)]:
        scores.evaluate(
            open_model(model), folder, text, on=["bits_per_byte"], languages=[], progress=progress
        )
    rows = [_row(policy, dense, out / policy) for policy in POLICIES]
    given = verdicts.report_input(
        dense, folders, on="bits_per_byte", title=f"{EMBEDDED}, {METHOD} {PATTERN}"
    )
    return rows, write_report(given, out / "report.html")


def _row(policy: str, dense: Path, folder: Path) -> dict[str, Any]:
    found = verdicts.against(dense, folder)
    verdicts.note_prediction(folder, "bits_per_byte", found)
    by_name = {s.name: s for s in found.summaries}
    shown: dict[str, Any] = {"calibration": policy}
    for summary in by_name.values():
        shown[summary.name] = f"{summary.value:+.1%} [{summary.low:+.1%}, {summary.high:+.1%}]"
        if summary.language:
            shown[summary.name] += f" {summary.language}"
    return shown
