"""What a report shows, read from scored folders."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from babelpress.errors import BadRun
from babelpress.insight import _kept
from babelpress.insight._kept import Kept
from babelpress.judge import costs, ladders, scores, verdicts
from babelpress.judge.collapse import Collapse
from babelpress.judge.compare import Comparison
from babelpress.judge.ladders import Ladder
from babelpress.report import again, said, told, twins
from babelpress.report.data import Pressed, ReportInput, tongue
from babelpress.runs import manifest
from babelpress.runs.manifest import Manifest
from babelpress.runs.places import beside
from babelpress.text import mixtures
from babelpress.text.languages import select

RANGE = "range"
PAGES = LANGUAGES, CURVES = "languages", "curves"  # what a page may be about
RUNGS = 3  # of a ladder, from which on a page is about curves if not told otherwise


def report_input(
    dense: Path,
    runs: Sequence[Path],
    *,
    on: str,
    corpus: str = "",
    languages: Sequence[str] = (),
    title: str = "",
    notes: Sequence[str] = (),
    ood: str = "",
    insight: Path | None = None,
    max_loss: float = 0.05,
    about: str = "",
) -> ReportInput:
    """Everything that a report of these runs shows.

    Analyses are those that lie in the runs, and those of the folder `insight`; damaged ones are
    left out and told, while damaged scores raise BadRun. Runs with equal settings go by what their
    recipes differ in, else by the names of their folders. `ood` is a second corpus. `about` is one
    of PAGES: by default a page is about curves where all runs are on ladders, one of them of three
    rungs or more. Raises BadRun where it is to be about curves and no runs are a ladder.
    """
    model, shown, path = _dense_model(dense, on)
    corpus = scores.common_corpus([dense, *runs], on, corpus)
    asked = _Asked(dense, tuple(runs), on, corpus, tuple(languages), ood)
    found = [verdicts.against(dense, run, **asked.common) for run in runs]
    manifests = [manifest.read_if_there(run) for run in runs]
    known = mixtures.distribution_of(model)
    shares = verdicts.training_shares(
        model, {c.language: c for each in found for c in each.changes}
    )
    pressed, untimed = _all_pressed(asked, manifests, found)
    which = scores.the_corpus([dense], on, corpus)[dense]
    collapses = tuple(
        (ladder, _collapsed(asked, ladder, max_loss)) for ladder in ladders.find(runs)
    )
    analyses, damaged = _analyses(runs, insight, {m.origin.fingerprint for m in manifests if m})
    return ReportInput(
        title=title or f"{shown}: what pressing costs each language",
        model=shown,
        pressed=pressed,
        metric=on,
        shares=shares,
        share_unit=mixtures.distribution(known.distribution).unit if shares else "",
        share_source=known.words,
        manifest=dict(zip(verdicts.names(runs), map(_written, manifests), strict=True)),
        notes=(*notes, *_notes(asked, which, manifests, found), *map(_sentence, untimed + damaged)),
        analyses=analyses,
        passages=said.passages(dense, runs, pressed, on, which),
        again=again.of_page(dense, runs, path, on, _scored(dense, on, which, found[0])),
        machine="; ".join(dict.fromkeys(filter(None, map(_machine, manifests)))),
        damaged=damaged,
        collapses=collapses,
        sizes=costs.of(dense),
        rising=_rising(collapses, len(runs), about),
        ood=ood,
    )


def _dense_model(dense: Path, on: str) -> tuple[str, str, str]:
    """What it began as, the same with what was done to it since, and where it is.

    Of a sweep it may be what recipes begin with, as a model that was fine-tuned first.
    """
    model = verdicts.model_name(dense, on)
    rows = scores.read_results(dense)
    called = next((row["model"] for row in rows if row["evaluation"] == on), model)
    if (begun := beside(dense, called)) is None:
        return model, model, model
    return model, f"{model}, {', '.join(told.adjectives(manifest.read(begun)))}", f"{begun}"


@dataclass(frozen=True, slots=True)
class _Asked:
    """Whose scores a page is about, and on what."""

    dense: Path
    runs: tuple[Path, ...]
    on: str
    corpus: str
    languages: tuple[str, ...]
    ood: str

    @property
    def common(self) -> dict[str, Any]:
        """What every comparison takes."""
        return {"on": self.on, "corpus": self.corpus, "languages": self.languages}


def _all_pressed(
    asked: _Asked, manifests: Sequence[Manifest | None], found: Sequence[Comparison]
) -> tuple[tuple[Pressed, ...], tuple[str, ...]]:
    """Every run as a page shows it, and what is to be said of their times."""
    folders = verdicts.names(asked.runs)
    settings = _told_apart([_settings(*each) for each in zip(folders, manifests, strict=True)])
    pressed: list[Pressed] = []
    untimed: list[str] = []
    for run, own, made, each in zip(asked.runs, settings, manifests, found, strict=True):
        timed = verdicts.timed(asked.dense, run, asked.on, asked.languages, asked.corpus)
        untimed += [timed.why] if timed.why else []
        one = _pressed(run, own, made, each, asked.on, asked.corpus, asked.languages)
        beside = verdicts.ood(asked.dense, run, asked.ood, **asked.common) if asked.ood else ()
        thirds = verdicts.thirds(asked.dense, run, **asked.common)
        pressed.append(replace(one, times=timed.found, thirds=thirds, elsewhere=beside))
    return tuple(pressed), tuple(untimed)


def _notes(
    asked: _Asked,
    which: str,
    manifests: Sequence[Manifest | None],
    found: Sequence[Comparison],
) -> list[str]:
    """What is not shown, what scores are held against, and how runs were made."""
    return [
        *_left_out(asked.dense, asked.on, which, asked.languages, found),
        *_held_against(asked.dense, asked.on, which, found[0]),
        *filter(None, map(_chain, verdicts.names(asked.runs), manifests)),
    ]


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}"


def _collapsed(asked: _Asked, ladder: Ladder, max_loss: float) -> Collapse:
    rungs = [asked.runs[rung.run] for rung in ladder.rungs]
    return verdicts.collapsed(asked.dense, rungs, max_loss=max_loss, **asked.common)


def _rising(collapses: Sequence[tuple[Ladder, Collapse]], runs: int, about: str) -> bool:
    """Whether a page is about curves."""
    if about == CURVES and not collapses:
        raise BadRun(
            "these runs are no ladder: no two of them differ in sparsity or bits alone. Leave "
            f"--page {CURVES} out."
        )
    on_some = {rung.run for ladder, _ in collapses for rung in ladder.rungs}
    longest = max((len(ladder.rungs) for ladder, _ in collapses), default=0)
    usual = len(on_some) == runs and longest >= RUNGS
    return usual if not about else about == CURVES


def _left_out(
    dense: Path, on: str, which: str, languages: Sequence[str], found: Sequence[Comparison]
) -> list[str]:
    """What no run has a change of, and why, once each."""
    told = (verdicts.left_out(dense, on, which, languages, each) for each in found)
    return list(dict.fromkeys(chain.from_iterable(chain.from_iterable(told))))


def _analyses(
    runs: Sequence[Path], folder: Path | None, models: Collection[str] = ()
) -> tuple[tuple[Kept, ...], tuple[str, ...]]:
    """What was found inside the models, that began as one of these, and what of it is damaged.

    Raises BadRun where a folder that is named has nothing, or what is of another model.
    """
    found: list[Kept] = []
    damaged: list[str] = []
    for run in runs:
        sound, lost = _kept.read_all(run / _kept.FOLDER)
        found += sound
        damaged += lost
    if folder is None:
        return tuple(found), tuple(damaged)
    there, lost = _kept.read_all(folder)
    if not there and not lost:
        raise BadRun(f"{folder} has no analyses. Make them: babelpress insight RUN --out {folder}")
    if others := [each.about for each in there if models and each.model not in models]:
        raise BadRun(f"{folder} has analyses of another model ({others[0]}). Name one of these.")
    return (*there, *found), (*lost, *damaged)


def _chain(folder: str, found: Manifest | None) -> str:
    """What was done to a run, step by step back to the model that it all began with.

    Of a single step its name and its calibration say it.
    """
    if found is None:
        return f"{folder} is from elsewhere: what was done to it is not on record."
    if len(found.chain) < 2:
        return ""
    return f"{folder}, of {found.origin.name}: {'; '.join(told.steps(found))}."


def _held_against(dense: Path, on: str, corpus: str, found: Comparison) -> list[str]:
    """What scores are held against, by language, and where the dense model is no better."""
    known = scores.baselines(dense, on, corpus)
    parts = [
        f"{tongue(tag).name} {' and '.join(f'{value:.3f}' for value in known[tag].values())}"
        for tag in (change.language for change in found.changes)
        if tag in known
    ]
    if not parts:
        return []
    names = {"chance": "chance", "majority": "the answer that is right most often"}
    keys = dict.fromkeys(key for each in known.values() for key in each)
    said_of = " and ".join(names.get(key, key) for key in keys)
    told_of = [f"{line[:1].upper()}{line[1:]}" for line in verdicts.at_chance(found)]
    return [f"Scores of {said_of}, by language: {'; '.join(parts)}.", *told_of]


def _pressed(
    run: Path,
    own: "_Settings",
    made: Manifest | None,
    found: Comparison,
    on: str,
    corpus: str,
    languages: Sequence[str],
) -> Pressed:
    looked_at = scores.prefer(run, RANGE, corpus)
    beyond = _beyond(run, languages, looked_at)
    by_site = scores.sites(run, RANGE, looked_at)
    which = scores.the_corpus([run], on, corpus)[run]
    pressed = Pressed(
        own[0],
        own[1],
        found,
        beyond=beyond,
        sites={tag: each for tag, each in by_site.items() if tag in beyond},
        documents=_documents(run, on, which),
        again=again.of_run(run, made, on, _scored(run, on, which, found)),
    )
    if made is None:
        return pressed
    return replace(
        pressed,
        kinds=told.kinds(made),
        notes=told.notes(made),
        listings=told.listings(made),
        ledger=made.ledger,
        policy=told.policies(made),
        **_cost(made),
    )


# ---- names ---------------------------------------------------------------------------------

# Method, calibration, folder, the recipes of the whole chain.
_Settings = tuple[str, str, str, tuple[dict[str, Any], ...]]


def _settings(folder: str, found: Manifest | None) -> _Settings:
    """What was done to a run and with which mixture; a model from elsewhere goes by its name."""
    if found is None:
        return "from elsewhere", folder, folder, ()
    return told.done(found), told.policies(found) or folder, folder, found.recipes


def _told_apart(settings: Sequence[_Settings]) -> list[_Settings]:
    """The same, where no two have the same method and calibration."""
    times = Counter(each[:2] for each in settings)
    words: dict[str, str] = {}
    for pair in (pair for pair, count in times.items() if count > 1):
        same = [each for each in settings if each[:2] == pair]
        apart = twins.apart([each[3] for each in same]) or [each[2] for each in same]
        words |= {each[2]: word for each, word in zip(same, apart, strict=True)}
    return [
        (method, f"{policy}, {words[folder]}" if folder in words else policy, folder, chain)
        for method, policy, folder, chain in settings
    ]


# ---- parts ---------------------------------------------------------------------------------


def _written(found: Manifest | None) -> dict[str, Any]:
    return found.written() if found else {}


def _machine(found: Manifest | None) -> str:
    return told.machine(found) if found else ""


def _cost(found: Manifest) -> dict[str, float | None]:
    """Seconds of all steps back to the dense model, and the largest peak; None if not kept."""

    def of(name: str) -> list[float]:
        return [step[name] for step in found.costs if name in step]

    seconds, memory = of("seconds"), of("peak_memory_mib")
    return {
        "seconds": math.fsum(seconds) if seconds else None,
        "memory_mib": max(memory, default=None),
    }


def _documents(run: Path, on: str, corpus: str) -> dict[str, int]:
    tallies = scores.tallies(run, on, corpus)
    return {tag: len(tally.documents) for tag, tally in tallies.items()}


def _scored(folder: Path, on: str, corpus: str, found: Comparison) -> dict[str, Any]:
    """How the scores of a folder were made, as far as a command can say it."""
    tags = [change.language for change in found.changes]
    return {**scores.identity_of(folder, on, corpus), "languages": tags}


def _beyond(run: Path, languages: Sequence[str], corpus: str) -> dict[str, float]:
    """The range scores of a run, of the languages asked for."""
    beyond = scores.values(run, RANGE, corpus)
    if not (languages and beyond):
        return beyond
    return {tag: beyond[tag] for tag in select(languages, among=beyond) if tag in beyond}
