"""Scored folders side by side: comparisons, and the rows that they come to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from babelpress import evals
from babelpress.errors import BadRun
from babelpress.judge import scores
from babelpress.judge.buckets import Bucket, buckets
from babelpress.judge.collapse import Collapse, collapse
from babelpress.judge.compare import Comparison, compare
from babelpress.judge.ood import Apart, Scores, apart
from babelpress.numerics.tally import Tally
from babelpress.runs import manifest
from babelpress.runs.places import beside, origin_of
from babelpress.text import languages, mixtures
from babelpress.text.languages import select
from babelpress.text.readers import listed

LATENCY = "latency"
ROUNDS = "alone: rounds apart"  # the part of its scores that tells how quiet the machine was
QUIET = 0.1  # more than that is said


def against(
    dense: Path,
    run: Path,
    *,
    on: str = "bits_per_byte",
    corpus: str = "",
    languages: Sequence[str] = (),
    draws: int = 0,
    seed: int = 0,
) -> Comparison:
    """A scored run against the scored dense model, in these languages (groups allowed) or in all.

    `draws` 0 are as many as the languages need. Raises BadRun as `scored` does.
    """
    found = scored(dense, run, on=on, corpus=corpus, languages=languages)
    return compare(
        found.dense,
        found.pressed,
        lower_is_better=found.lower_is_better,
        binary=evals.is_binary(on),
        floors=found.floors,
        shares=training_shares(model_name(dense, on), found.dense),
        draws=draws,
        seed=seed,
    )


def collapsed(
    dense: Path,
    runs: Sequence[Path],
    *,
    on: str = "bits_per_byte",
    corpus: str = "",
    languages: Sequence[str] = (),
    max_loss: float,
    draws: int = 0,
    seed: int = 0,
) -> Collapse:
    """How far each language can be pressed: `runs` are a ladder, the least pressed first.

    Raises BadRun as `scored` does.
    """
    found = [scored(dense, run, on=on, corpus=corpus, languages=languages) for run in runs]
    return collapse(
        found[0].dense,
        [each.pressed for each in found],
        max_loss=max_loss,
        lower_is_better=found[0].lower_is_better,
        floors=found[0].floors,
        draws=draws,
        seed=seed,
    )


class Scored(NamedTuple):
    """The tallies of a dense model and of a run in the same languages, and how they are read."""

    dense: dict[str, Tally]
    pressed: dict[str, Tally]
    lower_is_better: bool
    floors: dict[str, float]


def scored(
    dense: Path, run: Path, *, on: str, corpus: str = "", languages: Sequence[str] = ()
) -> Scored:
    """What is compared of two folders.

    Of scores on several corpora those on `corpus` are compared, else those that both have.
    Languages asked for that neither has a score in are left out (`left_out` tells them). Raises
    BadRun where one has no such scores, or not of the same options, or where no language is left.
    """
    which = scores.the_corpus([dense, run], on, corpus)
    _check_alike(which, on)
    first, second = (scores.tallies(folder, on, which[folder]) for folder in (dense, run))
    if languages:
        there, pivot = [*first], compared_with(dense, on, which[dense])
        tags = select(languages, among=[*there, *([pivot] if pivot else [])])
        first, second = _only(first, tags), _only(second, tags)
        if not first and not second:
            raise BadRun(" ".join(_why(on, tag, pivot) for tag in tags) + _others(dense, there))
    lower = evals.facts(on).lower_is_better
    return Scored(first, second, lower, floors(dense, on, which[dense]))


def ood(
    dense: Path,
    run: Path,
    other: str,
    *,
    on: str,
    corpus: str = "",
    languages: Sequence[str] = (),
    draws: int = 0,
    seed: int = 0,
) -> tuple[Apart, ...]:
    """What a run loses on another corpus beside what it loses on this one.

    Raises BadRun, also where the other is the same.
    """
    which = scores.the_corpus([dense, run], on, corpus)
    if scores.the_corpus([dense, run], on, other) == which:
        raise BadRun(
            f"{other} is the corpus that is compared already: no text is another there. Score both "
            "models on another corpus too, or name the first with --corpus."
        )
    first, second = (
        scored(dense, run, on=on, corpus=each, languages=languages) for each in (corpus, other)
    )
    return apart(
        Scores(first.dense, first.pressed, first.floors),
        Scores(second.dense, second.pressed, second.floors),
        lower_is_better=first.lower_is_better,
        draws=draws,
        seed=seed,
    )


def thirds(
    dense: Path,
    run: Path,
    *,
    on: str,
    corpus: str = "",
    languages: Sequence[str] = (),
    draws: int = 0,
    seed: int = 0,
) -> tuple[Bucket, ...]:
    """What a run loses on easy and on hard documents; none where they have no order."""
    if evals.is_first_order(on):
        return ()
    found = scored(dense, run, on=on, corpus=corpus, languages=languages)
    return buckets(
        found.dense,
        found.pressed,
        lower_is_better=found.lower_is_better,
        draws=draws,
        seed=seed,
    )


class Timed(NamedTuple):
    """How much longer a run takes to read than the dense model; and what is to be said of that:
    why it cannot be told, or that the machine was not quiet.
    """

    found: Comparison | None
    why: str = ""


def timed(
    dense: Path, run: Path, on: str, languages: Sequence[str] = (), corpus: str = ""
) -> Timed:
    """The times of two folders, beside scores of another evaluation.

    Of times on several corpora those on `corpus` are compared where both have them. Nothing where
    one has none; times of two machines, say, are not compared, and it is told.
    """
    there = [scores.corpora(each, LATENCY) for each in (dense, run)]
    if on == LATENCY or not all(there):
        return Timed(None)
    same = corpus if all(corpus in each for each in there) else ""
    try:
        found = against(dense, run, on=LATENCY, corpus=same, languages=languages)
    except BadRun as error:
        return Timed(None, f"{run.name}: times are not compared: {error}")
    which = scores.the_corpus([dense, run], LATENCY, same)
    tags = [change.language for change in found.changes]
    apart = max(_unrest(each, which[each], tags) for each in (dense, run))
    if apart <= QUIET:
        return Timed(found)
    return Timed(
        found,
        f"{run.name}: the same texts took up to {100 * apart:.0f} % longer in one round of timing "
        "than in another, so the machine did other things too: a change of time that is no larger "
        "says nothing. Time both again on a quiet machine.",
    )


def _unrest(folder: Path, corpus: str, tags: Sequence[str]) -> float:
    """How far rounds of timing lie apart in the most restless language; 0 where it is not kept."""
    parts = scores.sites(folder, LATENCY, corpus)
    return max(parts.get(tag, {}).get(ROUNDS, 0.0) for tag in tags)


class LeftOut(NamedTuple):
    """Why languages that were asked for are in no comparison, a sentence each.

    `apart` are those that an evaluation compares others with, `unscored` those that it was not
    done in.
    """

    apart: list[str]
    unscored: list[str]


def left_out(
    dense: Path, on: str, corpus: str, wanted: Sequence[str], found: Comparison
) -> LeftOut:
    """What was asked for and is not in a comparison with the dense model on this corpus."""
    there = [change.language for change in found.changes]
    pivot = compared_with(dense, on, corpus)
    asked = select(wanted, among=[*there, *([pivot] if pivot else [])]) if wanted else []
    why = {tag: _why(on, tag, pivot) for tag in asked if tag not in there}
    return LeftOut(
        [line for tag, line in why.items() if tag == pivot],
        [line for tag, line in why.items() if tag != pivot],
    )


def compared_with(folder: Path, on: str, corpus: str) -> str:
    """The tag of the language that scores in a folder compare all others with; empty for none."""
    return evals.compared_with(on, scores.identity_of(folder, on, corpus).get("options", {}))


def _why(on: str, tag: str, pivot: str) -> str:
    if tag == pivot:
        return evals.no_score(on, tag)
    return f"{languages.find(tag).name} has no {on} score."


def _others(dense: Path, there: Sequence[str]) -> str:
    return f" {dense} has scores in {listed(there)}. Name some of these with --languages."


def _check_alike(which: Mapping[Path, str], on: str) -> None:
    """Raise BadRun for scores with other options, or made with other libraries: of another metric,
    say. Where it was not kept how they were made, nobody can tell.
    """
    found = {folder: scores.identity_of(folder, on, corpus) for folder, corpus in which.items()}
    for key in ("options", "made_with"):
        made = {
            folder: {**(evals.options(on) if key == "options" else {}), **each.get(key, {})}
            for folder, each in found.items()
            if each
        }
        if any(each != next(iter(made.values())) for each in made.values()):
            said = "; ".join(f"{folder}: {_pairs(each)}" for folder, each in made.items())
            raise BadRun(
                f"these {on} scores were not made alike ({said}). Evaluate both with the same "
                "options and packages."
            )


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items()) or "nothing said"


def floors(dense: Path, on: str, corpus: str) -> dict[str, float]:
    """The score of those who know nothing, by language: the best of guessing and one answer always.

    None where an evaluation has no such thing.
    """
    known = scores.baselines(dense, on, corpus)
    return {tag: max(each.values()) for tag, each in known.items()}


def _only(tallies: Mapping[str, Tally], tags: Sequence[str]) -> dict[str, Tally]:
    return {tag: tallies[tag] for tag in tags if tag in tallies}


def model_name(folder: Path, on: str) -> str:
    """The dense model that a scored folder is about; of a run, the one that it began with.

    Raises BadRun where the folder is no run and has no such scores.
    """
    if found := manifest.read_if_there(folder):
        return found.origin.name
    for row in scores.read_results(folder):
        if row["evaluation"] == on:
            begun = beside(folder, row["model"])
            return origin_of(str(begun)) if begun else str(row["model"])
    raise scores.without(folder, on)


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


def at_chance(found: Comparison, run: str = "") -> list[str]:
    """A line about languages in which the dense model does no better than guessing, if there are.

    `run` is who was compared, where there may be several.
    """
    tags = [change.language for change in found.changes if change.at_chance]
    if not tags:
        return []
    known = map(languages.known, tags)
    names = [row.name if row else tag for row, tag in zip(known, tags, strict=True)]
    return [
        f"{f'{run}: ' if run else ''}the dense model does no better than chance, or one answer "
        f"always, in {len(names)} of {len(found.changes)} languages ({', '.join(names)}): a change "
        "there is neither loss nor gain."
    ]
