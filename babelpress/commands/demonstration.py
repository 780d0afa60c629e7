"""The main job on the embedded model and text: three calibrations of one method, side by side; and
a search for a model of half the size.

Tested in tests/commands/test_demo.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from babelpress.judge import predicted, scores, verdicts
from babelpress.judge.compare import Summary
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
from babelpress.sweeps import candidates
from babelpress.sweeps.schedule import Here
from babelpress.sweeps.search import Fitted, Search
from babelpress.sweeps.setup import Setup
from babelpress.system.progress import Progress
from babelpress.text.languages import find
from babelpress.text.settings import CalibrationSettings

METHOD, PATTERN = "wanda", "0.6"
POLICIES = {
    "english": "English only",
    "proportional": "as trained",
    "uniform": "all alike (uniform)",
}
SHOWN = {"mean": "mean", "worst": "worst language", "low_resource": "low-resource"}
TOKENS = 1536
FITTED = ("swh_Latn", "yor_Latn")  # languages of the search
SIZE, MAX_LOSS, MINUTES = "50%", 0.05, 0.2
ON = "bits_per_byte"


@dataclass(frozen=True, slots=True)
class Shown:
    """What the demo found: a row for each calibration and summary, sentences, the report."""

    rows: list[dict[str, Any]]
    about: str
    finding: str
    page: Path
    fitted: Fitted


def do(out: Path, progress: Progress) -> Shown:
    """Moments once, one run for each policy, scores, comparison, report; then the search.

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
    said = finding(given.pressed, report_rows(given))
    return Shown(rows, about, said, page, _fit(out / "fitted", progress))


def _fit(out: Path, progress: Progress) -> Fitted:
    """The best of some chains that come to half of the model, for two languages."""
    text = CalibrationSettings(languages=FITTED, tokens=TOKENS, length=256)
    asked = candidates.Asked(EMBEDDED, SIZE, "transformers", MAX_LOSS, MINUTES, 0, text)
    setup = Setup(out.absolute(), str(out.absolute() / "results"), keep_models=True)
    plan = candidates.prepare(asked, progress)
    return Search(asked, plan, setup, Here(setup, progress), progress).do()


def side_by_side(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each calibration: its name in words, and its row for each summary."""
    found = []
    for policy, words in POLICIES.items():
        own = {row["summary"]: row for row in rows if row["calibration"] == policy}
        found.append({"words": words, **own})
    return found


def searched(found: Fitted) -> list[dict[str, Any]]:
    """What the searched model loses on text that chose nothing, a row for each summary."""
    return [_summary("fit", each) for each in found.proof.summaries if each.name in SHOWN]


def served() -> str:
    """The languages of the search in words."""
    return " and ".join(find(tag).name for tag in FITTED)


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
    return [_summary(policy, each) for each in found.summaries if each.name in SHOWN]


def _summary(calibration: str, summary: Summary) -> dict[str, Any]:
    return {
        "calibration": calibration,
        "summary": summary.name,
        "change": summary.value,
        "low": summary.low,
        "high": summary.high,
        "language": summary.language,
    }
