"""What a sweep left on disk: the scored dense models and the scored runs, in its own order."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babelpress.errors import BadRun
from babelpress.judge import scores
from babelpress.runs import manifest
from babelpress.system.claims import PARTIAL

RESULTS = "results.jsonl"  # of all recipes together, in the order of the sweep
DENSE, RUNS = "dense", "runs"  # folders of scores and of runs, one in each for every key


@dataclass(frozen=True, slots=True)
class Found:
    """The scores of the dense model of a sweep, its runs, and folders of runs without scores."""

    dense: Path
    runs: tuple[Path, ...]
    unscored: tuple[Path, ...]


def find(folder: Path, on: str) -> Found:
    """The scores of a sweep. Raises BadRun where there are none, or of several dense models."""
    place = folder / RUNS
    if not place.is_dir():
        raise BadRun(
            f"{folder} is no folder of a sweep: it has no {RUNS}/. Name the scored dense model and "
            "then its runs: babelpress report DENSE RUN"
        )
    order = {name: number for number, name in enumerate(_order(folder))}
    there = sorted(
        (run for run in place.iterdir() if manifest.is_finished(run) and not run.match(PARTIAL)),
        key=lambda run: (order.get(run.name, len(order)), run.name),
    )
    runs = [run for run in there if scores.corpora(run, on)]
    if not runs:
        raise BadRun(
            f"{folder} has no run with {on} scores. Finish the sweep, with {on} in its evaluate, "
            "or name another evaluation with --on."
        )
    origins = {manifest.read(run).origin.fingerprint: run for run in runs}
    dense = [each for each in _scored(folder / DENSE, on) if _model_of(each, on) in origins]
    if len(origins) > 1 or len(dense) != 1:
        raise BadRun(
            f"{folder} has runs of {len(origins)} dense models, {len(dense)} of them scored. A "
            f"report is about one: babelpress report {folder / DENSE}/KEY {place}/FINGERPRINT"
        )
    return Found(dense[0], tuple(runs), tuple(run for run in there if run not in runs))


def _order(folder: Path) -> list[str]:
    """The fingerprints of its recipes in order; none while a sweep is at work."""
    path = folder / RESULTS
    if not path.exists():
        return []
    found: dict[str, None] = {}
    try:
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            row: Any = json.loads(line)
            found[str(row["fingerprint"])] = None
    except (ValueError, KeyError, TypeError) as error:
        raise BadRun(f"{path} is no table of a sweep: give the sweep's command again.") from error
    return list(found)


def _scored(place: Path, on: str) -> list[Path]:
    there = sorted(place.iterdir()) if place.is_dir() else []
    there = [each for each in there if not each.match(PARTIAL)]
    return [each for each in there if scores.corpora(each, on)]


def _model_of(folder: Path, on: str) -> str:
    """The fingerprint of the weights that were scored."""
    return str(scores.identity_of(folder, on, scores.prefer(folder, on, "")).get("model", ""))
