"""What can be known of languages before a model is opened: those of moments, those of scores.

Nothing heavy is imported.

Tested in tests/insight/test_doing.py.
"""

from collections.abc import Sequence
from pathlib import Path

from babelpress.errors import BadMoments, BadRun
from babelpress.insight._settings import InsightSettings
from babelpress.judge import scores
from babelpress.text.languages import select

RANGE = "range"  # the evaluation whose shares are read


def languages(moments: Path, there: Sequence[str], asked: InsightSettings) -> list[str]:
    """The languages of a moments folder that are asked for, or all that are `there`.

    Raises BadMoments where one is not there.
    """
    wanted = select(asked.languages, among=there) if asked.languages else there
    if missing := [tag for tag in wanted if tag not in there]:
        raise BadMoments(
            f"{moments} has no moments of {', '.join(missing)}; it has {', '.join(there)}. "
            "Calibrate with them, or leave them out of --languages."
        )
    return list(wanted)


def beyond(run: Path, asked: InsightSettings) -> dict[str, dict[str, float]]:
    """The shares beyond the calibration range that a run keeps, by language and site.

    Raises BadRun where it keeps none, or none of a language that is asked for.
    """
    corpus = scores.prefer(run, RANGE, asked.corpus)
    found = scores.sites(run, RANGE, corpus)
    wanted = select(asked.languages, among=found) if asked.languages else list(found)
    if missing := [tag for tag in wanted if tag not in found]:
        raise BadRun(
            f"{run} has no {RANGE} scores of {', '.join(missing)}. "
            f"Make them: babelpress eval {run} --on {RANGE}"
        )
    if not found:
        raise BadRun(f"{run} has no {RANGE} scores. Make them: babelpress eval {run} --on {RANGE}")
    return {tag: found[tag] for tag in wanted}
