"""Scored folders side by side: comparisons, their rows, and what a report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from babelpress import evals, mixtures, scores
from babelpress.compare import Comparison, compare
from babelpress.files import read_json, write_json
from babelpress.report.data import Pressed, ReportInput

MANIFEST = "manifest.json"


def against(
    dense: Path, run: Path, *, on: str = "bits_per_byte", draws: int = 2000, seed: int = 0
) -> Comparison:
    """A scored run against the scored dense model, in the languages that both have.

    Raises BadRun where one has no such scores, or not of the same documents.
    """
    first, second = scores.tallies(dense, on), scores.tallies(run, on)
    return compare(
        first,
        second,
        lower_is_better=evals.get(on).LOWER_IS_BETTER,
        shares=training_shares(model_name(dense, on), first),
        draws=draws,
        seed=seed,
    )


def model_name(folder: Path, on: str) -> str:
    """The dense model that a scored folder is about."""
    manifest = folder / MANIFEST
    if manifest.exists():
        return str(read_json(manifest)["steps"][0]["model"]["name"])
    return next(row["model"] for row in scores.read_results(folder) if row["evaluation"] == on)


def training_shares(model: str, languages: Mapping[str, object]) -> dict[str, float] | None:
    """Training shares of these languages; None where they are not disclosed or not complete."""
    known = mixtures.distribution_of(model)
    if not known.disclosed:
        return None
    values = mixtures.distribution(known.distribution).values
    if not set(languages) <= set(values):
        return None
    total = sum(values.values())
    return {tag: values[tag] / total for tag in languages}


def rows(name: str, found: Comparison) -> list[dict[str, Any]]:
    """One row for each language, then one for each summary."""
    changes = [
        {"run": name, "kind": "language", "name": c.language, "verdict": c.verdict, **asdict(c)}
        for c in found.changes
    ]
    summaries = [
        {
            "run": name,
            "kind": "summary",
            "name": s.name,
            "change": s.value,
            "low": s.low,
            "high": s.high,
            "language": s.language,
            "verdict": s.language,
        }
        for s in found.summaries
    ]
    return changes + summaries


def note_prediction(run: Path, on: str, found: Comparison) -> dict[str, Any] | None:
    """Write into the run's manifest how predicted damage ranks the languages beside the truth."""
    path = run / MANIFEST
    if not path.exists():
        return None
    manifest = read_json(path)
    noted = scores.prediction(manifest, {c.language: c.change for c in found.changes})
    if noted is not None:
        manifest.setdefault("prediction", {})[on] = noted
        write_json(path, manifest)
    return noted


def report_input(dense: Path, runs: Sequence[Path], *, on: str, title: str = "") -> ReportInput:
    """Everything that a report of these runs shows."""
    model = model_name(dense, on)
    shares = training_shares(model, scores.tallies(dense, on))
    known = mixtures.distribution_of(model)
    unit = mixtures.distribution(known.distribution).unit if shares else ""
    manifests = {run.name: read_json(run / MANIFEST) for run in runs}
    return ReportInput(
        title=title or f"{model}: what pressing costs each language",
        model=model,
        pressed=tuple(
            _pressed(manifests[run.name], run, against(dense, run, on=on)) for run in runs
        ),
        metric=on,
        shares=shares,
        share_unit=unit,
        share_source=known.words,
        manifest=manifests,
    )


def _pressed(manifest: Mapping[str, Any], run: Path, found: Comparison) -> Pressed:
    last = manifest["steps"][-1]
    name = f"{last['step']['method']} {last['step']['pattern']}"
    policy = last["mixture"]["policy"]
    return Pressed(name, policy if policy else run.name, found)
