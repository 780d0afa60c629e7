"""What a report shows, read from scored folders."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from babelpress.judge import scores, verdicts
from babelpress.report.data import Pressed, ReportInput
from babelpress.report.told import adjectives, done, notes, policies, steps
from babelpress.runs import manifest
from babelpress.runs.manifest import Manifest
from babelpress.text import mixtures
from babelpress.text.languages import select

RANGE = "range"


def report_input(
    dense: Path,
    runs: Sequence[Path],
    *,
    on: str,
    corpus: str = "",
    languages: Sequence[str] = (),
    title: str = "",
) -> ReportInput:
    """Everything that a report of these runs shows. Runs with equal settings go by their names."""
    model = verdicts.model_name(dense, on)
    labels = verdicts.names(runs)
    corpus = scores.common_corpus([dense, *runs], on, corpus)
    found = [
        verdicts.against(dense, run, on=on, corpus=corpus, languages=languages) for run in runs
    ]
    manifests = [manifest.read_if_there(run) for run in runs]
    known = mixtures.distribution_of(model)
    shares = verdicts.training_shares(
        model, {c.language: c for each in found for c in each.changes}
    )
    unit = mixtures.distribution(known.distribution).unit if shares else ""
    settings = [_settings(*each) for each in zip(labels, manifests, strict=True)]
    twice = {each for each, times in Counter(settings).items() if times > 1}
    pressed = []
    for place, (method, policy) in enumerate(settings):
        calibration = f"{policy}, {labels[place]}" if (method, policy) in twice else policy
        made, run = manifests[place], runs[place]
        looked_at = scores.prefer(run, RANGE, corpus)
        beyond = _beyond(run, languages, looked_at)
        by_site = scores.sites(run, RANGE, looked_at)
        pressed.append(
            Pressed(
                method,
                calibration,
                found[place],
                kinds=adjectives(made) if made else (),
                notes=notes(made) if made else (),
                ledger=made.ledger if made else None,
                beyond=beyond,
                sites={tag: each for tag, each in by_site.items() if tag in beyond},
            )
        )
    return ReportInput(
        title=title or f"{model}: what pressing costs each language",
        model=model,
        pressed=tuple(pressed),
        metric=on,
        shares=shares,
        share_unit=unit,
        share_source=known.words,
        manifest=dict(zip(labels, map(_written, manifests), strict=True)),
        notes=tuple(map(_chain, labels, manifests)),
    )


def _chain(label: str, found: Manifest | None) -> str:
    """What was done to a run, step by step back to the model that it all began with."""
    if found is None:
        return f"{label} is from elsewhere: what was done to it is not on record."
    return f"{label}, of {found.origin.name}: {'; '.join(steps(found))}."


def _written(found: Manifest | None) -> dict[str, Any]:
    return found.written() if found else {}


def _settings(label: str, found: Manifest | None) -> tuple[str, str]:
    """What was done to a run and with which mixture; a model from elsewhere goes by its name."""
    if found is None:
        return "from elsewhere", label
    return done(found), policies(found) or label


def _beyond(run: Path, languages: Sequence[str], corpus: str) -> dict[str, float]:
    """The range scores of a run, of the languages asked for."""
    beyond = scores.values(run, RANGE, corpus)
    if not (languages and beyond):
        return beyond
    return {tag: beyond[tag] for tag in select(languages, among=beyond) if tag in beyond}
