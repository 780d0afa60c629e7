"""Scored folders side by side: comparisons, their rows, and what a report is made of."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from babelpress import evals, mixtures, scores
from babelpress.card import done
from babelpress.compare import Comparison, compare
from babelpress.errors import BadRun
from babelpress.files import read_json, write_sealed
from babelpress.languages import select
from babelpress.report.data import Pressed, ReportInput
from babelpress.tally import Tally

MANIFEST = "manifest.json"
RANGE = "range"
DRAWS = 2000
DRAWS_PER_LANGUAGE = 40  # so that Holm's correction leaves room for a difference


def against(
    dense: Path,
    run: Path,
    *,
    on: str = "bits_per_byte",
    languages: Sequence[str] = (),
    draws: int = 0,
    seed: int = 0,
) -> Comparison:
    """A scored run against the scored dense model, in these languages (groups allowed) or in all.

    `draws` 0 means 2,000, and more for more than 50 languages. Raises BadRun where one has no such
    scores, or not of the same languages and documents.
    """
    first, second = scores.tallies(dense, on), scores.tallies(run, on)
    if languages:
        tags = select(languages, among=first)
        first, second = _only(first, tags), _only(second, tags)
    return compare(
        first,
        second,
        lower_is_better=evals.get(on).LOWER_IS_BETTER,
        shares=training_shares(model_name(dense, on), first),
        draws=draws or max(DRAWS, DRAWS_PER_LANGUAGE * len(first)),
        seed=seed,
    )


def _only(tallies: Mapping[str, Tally], tags: Sequence[str]) -> dict[str, Tally]:
    return {tag: tallies[tag] for tag in tags if tag in tallies}


def model_name(folder: Path, on: str) -> str:
    """The dense model that a scored folder is about; of a run, the one that it began with.

    Raises BadRun where the folder is no run and has no such scores.
    """
    if (folder / MANIFEST).exists():
        return str(read_json(folder / MANIFEST)["steps"][0]["model"]["name"])
    for row in scores.read_results(folder):
        if row["evaluation"] == on:
            return str(row["model"])
    raise BadRun(f"{folder} has no {on} scores. Make them: babelpress eval {folder} --on {on}")


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


def names(runs: Sequence[Path]) -> list[str]:
    """What to call each run: its folder's name, or its whole path where two share a name.

    Raises BadRun for a run that is given twice.
    """
    given = Counter(run.resolve() for run in runs)
    for run, times in given.items():
        if times > 1:
            raise BadRun(f"{run} is given {times} times. Name each run once.")
    short = Counter(run.resolve().name for run in runs)
    return [str(run) if short[run.resolve().name] > 1 else run.resolve().name for run in runs]


def rows(name: str, found: Comparison) -> list[dict[str, Any]]:
    """One row for each summary, then one for each language, worst first; all with the same keys."""
    changes = [
        {"run": name, "kind": "language", "name": c.language, **asdict(c), "verdict": c.verdict}
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


def note_prediction(run: Path, on: str, found: Comparison) -> dict[str, Any] | None:
    """Write into the run's manifest how predicted damage ranks the languages beside the truth."""
    path = run / MANIFEST
    if not path.exists():
        return None
    manifest = read_json(path)
    noted = scores.prediction(manifest, {c.language: c.change for c in found.changes})
    if noted is not None and manifest.get("prediction", {}).get(on) != noted:
        manifest.setdefault("prediction", {})[on] = noted
        write_sealed(path, manifest)
    return noted


def report_input(
    dense: Path,
    runs: Sequence[Path],
    *,
    on: str,
    languages: Sequence[str] = (),
    title: str = "",
) -> ReportInput:
    """Everything that a report of these runs shows. Runs with equal settings go by their names."""
    model = model_name(dense, on)
    labels = names(runs)
    found = [against(dense, run, on=on, languages=languages) for run in runs]
    manifests = [read_json(r / MANIFEST) if (r / MANIFEST).exists() else {} for r in runs]
    known = mixtures.distribution_of(model)
    shares = training_shares(model, {c.language: c for each in found for c in each.changes})
    unit = mixtures.distribution(known.distribution).unit if shares else ""
    settings = [_settings(*each) for each in zip(labels, manifests, strict=True)]
    twice = {each for each, times in Counter(settings).items() if times > 1}
    pressed = [
        Pressed(
            method,
            f"{policy}, {label}" if (method, policy) in twice else policy,
            comparison,
            **_facts(run, manifest, languages),
        )
        for (method, policy), label, comparison, run, manifest in zip(
            settings, labels, found, runs, manifests, strict=True
        )
    ]
    return ReportInput(
        title=title or f"{model}: what pressing costs each language",
        model=model,
        pressed=tuple(pressed),
        metric=on,
        shares=shares,
        share_unit=unit,
        share_source=known.words,
        manifest=dict(zip(labels, manifests, strict=True)),
    )


def _settings(label: str, manifest: Mapping[str, Any]) -> tuple[str, str]:
    """What was done to a run and with which mixture; a model from elsewhere goes by its name."""
    if not manifest:
        return "from elsewhere", label
    return done(manifest), manifest["steps"][-1]["mixture"]["policy"]


def _facts(run: Path, manifest: Mapping[str, Any], languages: Sequence[str]) -> dict[str, Any]:
    """What a report shows of a run besides its scores: kinds of steps, ledger, range check."""
    beyond, sites = scores.values(run, RANGE), scores.sites(run, RANGE)
    if languages and beyond:
        tags = select(languages, among=beyond)
        beyond = {tag: beyond[tag] for tag in tags if tag in beyond}
    return {
        "kinds": tuple(step.get("kind", "prune") for step in manifest.get("steps", ())),
        "ledger": manifest.get("ledger"),
        "beyond": beyond,
        "sites": {tag: each for tag, each in sites.items() if tag in beyond},
    }
