"""What a sweep left on disk: the scored dense models and the scored runs, in its own order."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babelpress.errors import BadRun
from babelpress.judge import scores
from babelpress.runs import manifest
from babelpress.system.claims import PARTIAL
from babelpress.text.languages import select

RESULTS = "results.jsonl"  # of all recipes together, in the order of the sweep
DENSE, RUNS = "dense", "runs"  # folders of scores and of runs, one in each for every key


@dataclass(frozen=True, slots=True)
class Found:
    """The scores of the dense model of a sweep, its runs, and folders of runs without scores.

    Where recipes have languages of their own, `languages` are those that all `runs` have, and
    `others` are runs that lack one that was asked for; else both are empty. `headed` are runs whose
    last step gave the head: no dense model is scored as they are.
    """

    dense: Path
    runs: tuple[Path, ...]
    unscored: tuple[Path, ...]
    languages: tuple[str, ...] = ()
    others: tuple[Path, ...] = ()
    headed: tuple[Path, ...] = ()

    def notes(self, on: str) -> list[str]:
        """What a report of it does not show, a sentence or two each."""
        found: list[str] = []
        if self.unscored:
            found.append(f"These runs of the sweep have no {on} scores: {_named(self.unscored)}.")
        if self.languages:
            found.append(
                "The runs of the sweep were scored in different languages. Here are those in "
                f"{', '.join(self.languages)} only; --languages names others."
            )
        if self.others:
            found.append(
                f"These runs of the sweep are not scored in all of them: {_named(self.others)}."
            )
        if self.headed:
            found.append(
                "These runs of the sweep are held against no dense model, as their last step gave "
                f"them their head: {_named(self.headed)}."
            )
        return found


def find(folder: Path, on: str, languages: Sequence[str] = (), corpus: str = "") -> Found:
    """The scores of a sweep, of runs in these languages (groups allowed) or in those that all have.

    With a `corpus` only scores on it count. Raises BadRun where there are none, no such language,
    or scores of several dense models.
    """
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
    scored = [run for run in there if _languages(run, on, corpus)]
    if not scored:
        of = f" on {corpus}" if corpus else ""
        raise BadRun(
            f"{folder} has no run with {on} scores{of}. Finish the sweep, with these in its "
            "evaluate, or name another evaluation with --on."
        )
    known = {run: manifest.read(run).dense for run in scored}
    origins = {model.fingerprint for model in known.values() if model}
    runs = [run for run in scored if known[run]]
    headed = tuple(run for run in scored if not known[run])
    if not runs:
        raise BadRun(
            f"{folder} has no run that is held against a dense model: the last step of all of them "
            f"gave them their head. Compare two runs: babelpress compare {place}/ONE {place}/OTHER"
        )
    tags = {run: _languages(run, on, corpus) for run in runs}
    every = set().union(*tags.values())
    dense = _scored(folder / DENSE, on, corpus)
    dense = [each for each in dense if _model_of(each, on, corpus) in origins]
    # One with fewer languages is of before the sweep had them all.
    dense = [each for each in dense if every <= _languages(each, on, corpus)] or dense
    if len(origins) > 1 or len(dense) != 1:
        raise BadRun(
            f"{folder} has runs of {len(origins)} dense models, {len(dense)} of them scored. A "
            f"report is about one: babelpress report {folder / DENSE}/KEY {place}/FINGERPRINT"
        )
    unscored = tuple(run for run in there if run not in scored)
    if all(each == every for each in tags.values()):
        return Found(dense[0], tuple(runs), unscored, headed=headed)
    common = _common(folder, tags, languages)
    others = tuple(run for run in runs if not common <= tags[run])
    shown = tuple(run for run in runs if run not in others)
    return Found(dense[0], shown, unscored, tuple(sorted(common)), others, headed)


def _named(runs: Sequence[Path]) -> str:
    return ", ".join(run.name for run in runs)


def _languages(folder: Path, on: str, corpus: str) -> set[str]:
    """The languages that an evaluation was done in, on this corpus or, without a name, on any."""
    return {
        row["language"]
        for row in scores.read_results(folder)
        if row["evaluation"] == on and corpus in ("", row.get("corpus", ""))
    }


def _common(folder: Path, tags: Mapping[Path, set[str]], wanted: Sequence[str]) -> set[str]:
    """The languages asked for that any run has, or those that all have.

    Raises BadRun where there are none, or no run has all that are asked for.
    """
    every = set().union(*tags.values())
    asked = {tag for tag in select(wanted, among=sorted(every)) if tag in every}
    common = asked if wanted else set.intersection(*tags.values())
    if not common or not any(common <= each for each in tags.values()):
        none = f"none in all of {', '.join(wanted)}" if wanted else "no language is in all"
        raise BadRun(
            f"the runs of {folder} were scored in different languages, and {none}. Name one of "
            f"{', '.join(sorted(every))} with --languages."
        )
    return common


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


def _scored(place: Path, on: str, corpus: str) -> list[Path]:
    there = sorted(place.iterdir()) if place.is_dir() else []
    there = [each for each in there if not each.match(PARTIAL)]
    return [each for each in there if _languages(each, on, corpus)]


def _model_of(folder: Path, on: str, corpus: str) -> str:
    """The fingerprint of the weights that were scored."""
    return str(scores.identity_of(folder, on, scores.prefer(folder, on, corpus)).get("model", ""))
