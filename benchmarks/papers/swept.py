"""What a scored sweep says, for the pages of docs/papers: every run, and tables over seeds.

The scripts beside it run from the root of the project:

    python -m benchmarks.papers.kurz.table OUT
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from babelpress.judge import scores, verdicts
from babelpress.judge.compare import Comparison, compare
from babelpress.moments.store import Store
from babelpress.runs import manifest
from babelpress.runs.recipe import Recipe, Step
from babelpress.sweeps.found import Found, find
from babelpress.text import languages

ON = "bits_per_byte"
APART = "each its own"  # calibration of languages that were pressed apart and put together
SHARED = ("propagate", "moments", "options")  # settings that are no part of a method's name


@dataclass(frozen=True, slots=True)
class Run:
    """One recipe of a sweep: method with its setting, calibration in words, seed, what it cost.

    `tokens` are those of all languages that the calibration looks at. `folder` is one of several
    where each language was pressed apart.
    """

    folder: Path
    method: str
    calibration: str
    tokens: int
    seed: int
    found: Comparison

    def loss(self, tag: str) -> float:
        """The relative change of a language; positive is worse."""
        return next(change.change for change in self.found.changes if change.language == tag)

    @property
    def losses(self) -> dict[str, float]:
        """By language."""
        return {change.language: change.change for change in self.found.changes}

    def summary(self, name: str) -> tuple[float, float, float, str]:
        """Value, 95 % interval and, of `worst`, the language."""
        row = next(each for each in self.found.summaries if each.name == name)
        return row.value, row.low, row.high, row.language or ""


def load(
    folder: Path,
    on: str = ON,
    known: Sequence[Path] = (),
    languages: Sequence[str] = (),
    corpus: str = "",
) -> list[Run]:
    """Every scored run of a sweep, and of further folders of it, in the sweep's order.

    Of scores on several corpora those on `corpus`. With `languages` only those scored in all of
    them; runs that were calibrated and scored in one of them alone stand behind, those of one
    method and seed as one.
    """
    runs: list[Run] = []
    for place in (folder, *known):
        there = find(place, on, languages, corpus)
        for run in there.runs:
            plan = Recipe.model_validate(manifest.read(run).recipe)
            found = verdicts.against(there.dense, run, on=on, corpus=corpus, languages=languages)
            seed = plan.calibration.seed
            calibration = _calibration(plan)
            tokens = _tokens(plan, len(found.changes))
            runs.append(Run(run, method_of(plan), calibration, tokens, seed, found))
        runs += _apart(there, on, corpus)
    return runs


def _apart(there: Found, on: str, corpus: str) -> list[Run]:
    """The languages that were each pressed apart, put together; unfinished ones are named."""
    dense = scores.tallies(there.dense, on, corpus or None)
    wanted = {tag: dense[tag] for tag in dense if tag in there.languages}
    plans = {run: Recipe.model_validate(manifest.read(run).recipe) for run in there.others}
    runs: list[Run] = []
    for method, seed in dict.fromkeys((method_of(p), p.calibration.seed) for p in plans.values()):
        some = {
            run: plan
            for run, plan in plans.items()
            if (method_of(plan), plan.calibration.seed) == (method, seed)
        }
        pressed = {
            tag: tally
            for run in some
            for tag, tally in scores.tallies(run, on, corpus or None).items()
        }
        if wanted.keys() - pressed.keys():
            print(f"{method}, seed {seed}: {len(pressed)} of {len(wanted)} languages are done.\n")
            continue
        found = compare(wanted, {tag: pressed[tag] for tag in wanted})
        tokens = max(plan.calibration.tokens for plan in some.values())
        runs.append(Run(next(iter(some)), method, APART, tokens, seed, found))
    return runs


def short(tag: str) -> str:
    """The shortest name of a language: `sw` for swh_Latn."""
    aliases = (name for name in languages.find(tag).aliases if name.isascii())
    return min(aliases, key=lambda name: (len(name), name), default=tag)


def method_of(plan: Recipe) -> str:
    """The steps of a recipe with their settings, in words."""
    return " > ".join(map(_step, plan.steps))


def _step(step: Step) -> str:
    """Method and pattern or bits; of other kinds all settings that are not the defaults."""
    work = step.work
    if pattern := getattr(work, "pattern", None):
        setting = pattern
    elif bits := getattr(work, "bits", None):
        setting = f"{bits} bit"
    else:
        own = work.model_dump(mode="json", exclude_defaults=True, exclude=set(SHARED))
        setting = " ".join(f"{key} {value}" for key, value in own.items())
    options = "".join(f", {key} {value}" for key, value in getattr(work, "options", {}).items())
    return f"{getattr(work, 'method', step.kind)} {setting}{options}".strip()


def _calibration(plan: Recipe) -> str:
    mixture = str(getattr(plan.steps[0].work, "mixture", ""))
    tags = plan.calibration.languages
    if mixture == "uniform" and 0 < len(tags) <= 2:
        return "+".join(tags)
    corpus, colon, _ = plan.calibration.corpus.partition(":")
    where = f"{corpus} " if colon and corpus not in ("hub",) else ""
    return where + mixture.removeprefix("only:")


def _tokens(plan: Recipe, scored: int) -> int:
    """Of all languages that have a share: those that are scored, where none are named."""
    mixture = str(getattr(plan.steps[0].work, "mixture", ""))
    alone = mixture == "english" or mixture.startswith("only:")
    return plan.calibration.tokens * (1 if alone else len(plan.calibration.languages) or scored)


def languages_of(moments: Path) -> int:
    """How many languages a folder of moments has."""
    return len(Store.open(moments).identity["languages"])


# ---- tables --------------------------------------------------------------------------------


def percent(value: float) -> str:
    """A change in per cent, as `+12.3`."""
    return f"{100 * value:+.1f}"


def cell(runs: Iterable[Run], name: str) -> str:
    """The mean loss, or that of the worst language, a number a seed, and the widest interval."""
    found = [run.summary(name) for run in runs]
    values = " / ".join(percent(value) for value, *_ in found)
    low, high = min(low for _, low, *_ in found), max(high for _, _, high, _ in found)
    return f"{values} % [{percent(low)}, {percent(high)}]"


def seeds(runs: Iterable[Run], value: Callable[[Run], float]) -> str:
    """The mean over seeds, and their range behind it where there are several."""
    found = [value(run) for run in runs]
    if not found:
        return "–"
    mean = percent(float(np.mean(found)))
    return mean if len(found) == 1 else f"{mean} ({percent(min(found))} to {percent(max(found))})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown: the first column of words, all others of numbers."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cells(runs: Sequence[Run]) -> Iterator[tuple[str, str, int, list[Run]]]:
    """Every method, calibration and number of tokens, most first, with its runs by seed."""
    for method in methods(runs):
        for calibration in calibrations(runs):
            some = of(runs, method, calibration)
            for tokens in sorted({run.tokens for run in some}, reverse=True):
                yield method, calibration, tokens, [run for run in some if run.tokens == tokens]


def of(runs: Iterable[Run], method: str, calibration: str) -> list[Run]:
    """The runs of one cell, by seed."""
    found = [run for run in runs if (run.method, run.calibration) == (method, calibration)]
    return sorted(found, key=lambda run: run.seed)


def methods(runs: Iterable[Run]) -> list[str]:
    """Every method with its setting, in order."""
    return list(dict.fromkeys(run.method for run in runs))


def calibrations(runs: Iterable[Run]) -> list[str]:
    """Every calibration, in order."""
    return list(dict.fromkeys(run.calibration for run in runs))


# ---- correlations --------------------------------------------------------------------------


def ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks of values, ties at their mean."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(values))


def partial(x: Sequence[float], y: Sequence[float], given: Sequence[Sequence[float]] = ()) -> float:
    """Spearman's correlation of x and y; what the ranks of `given` explain is taken out first."""
    columns = np.column_stack([np.ones(len(x)), *map(ranks, given)])

    def rest(values: Sequence[float]) -> np.ndarray:
        own = ranks(values)
        return own - columns @ np.linalg.lstsq(columns, own, rcond=None)[0]

    a, b = rest(x), rest(y)
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size else np.nan


def interval(
    rows: Sequence[Mapping[str, float]],
    value: Callable[[Sequence[Mapping[str, float]]], float],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval over rows, a row a language."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(rows), size=(draws, len(rows)))
    found = [value([rows[i] for i in pick]) for pick in picks if len(set(pick.tolist())) > 3]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)
