"""What the sweeps of the battery of small encoders say: every run beside its own dense model.

A recipe that presses a fine-tuned model is held against that model. One that presses first, or
while it learns, is held against the model that was fine-tuned alike, with the same seed and texts,
and not pressed. The scripts beside it run from the root of the project:

    python -m benchmarks.papers.awobade.table OUT --on ner
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from babelpress.errors import BadRun
from babelpress.judge import scores, verdicts
from babelpress.runs import manifest
from babelpress.steps._kind import StepReport
from babelpress.sweeps.found import DENSE, RUNS
from babelpress.text import languages
from benchmarks.papers.swept import percent, table

TUNED = "fine-tune"
WHILE = ("gradual", "embeddings", "adapt", "rank")  # what presses while it learns


@dataclass(frozen=True)
class Run:
    """One recipe: its steps in words, the seed of its fine-tuning, its texts, its dense model."""

    folder: Path
    dense: Path
    words: str
    seed: int
    corpus: str
    share: float
    on: str

    @cached_property
    def before(self) -> dict[str, float]:
        """The scores of the dense model by language."""
        return {tag: each.value for tag, each in scores.tallies(self.dense, self.on).items()}

    @property
    def told(self) -> list[str]:
        """The languages in which the dense model scores enough for a loss to be told."""
        return told_in(self.dense, self.on)

    @cached_property
    def losses(self) -> dict[str, float]:
        """The relative loss by language; of one at chance under the dense model none."""
        if not self.told:
            return {}
        found = verdicts.against(self.dense, self.folder, on=self.on, languages=self.told)
        return {each.language: each.change for each in found.changes if not each.at_chance}


@cache
def told_in(dense: Path, on: str) -> list[str]:
    """The languages in which a dense model scores enough: of nothing, or next to it, none."""
    found: list[str] = []
    for tag in scores.tallies(dense, on):
        try:
            verdicts.against(dense, dense, on=on, languages=[tag])
        except BadRun:  # its score is zero, or is in some resamples
            continue
        found.append(tag)
    return found


def load(folder: Path, on: str) -> list[Run]:
    """Every scored run that has a dense model, in the order of words and seeds."""
    there = [run for run in sorted((folder / RUNS).iterdir()) if _scored(run, on)]
    chains = {run: manifest.read(run).chain for run in there}
    dense, whole = _dense(folder, chains, on), _sizes(chains.values())
    found: list[Run] = []
    for run, chain in chains.items():
        tuned = _tuned(chain)
        own = dense.get(_alike(tuned)) if tuned else None
        words = _words(chain)
        if tuned is None or own is None or words == TUNED:
            continue
        share = _bytes(chain[-1]) / whole[_alike(tuned)]
        place = Path(tuned.step["corpus"]).name
        found.append(Run(run, own, words, int(tuned.step["seed"]), place, share, on))
    return _once(sorted(found, key=lambda run: (run.corpus, run.words, run.seed)))


def _once(runs: list[Run]) -> list[Run]:
    """The same; SystemExit where two are told by the same words."""
    for one, other in pairwise(runs):
        if (one.corpus, one.words, one.seed) == (other.corpus, other.words, other.seed):
            raise SystemExit(
                f"{one.folder} and {other.folder} are both {one.words} on {one.corpus} with seed "
                f"{one.seed}, and no table tells them apart. Put one of them elsewhere."
            )
    return runs


def _scored(folder: Path, on: str) -> bool:
    return manifest.is_finished(folder) and bool(scores.corpora(folder, on))


def _dense(folder: Path, chains: Mapping[Path, Sequence[StepReport]], on: str) -> dict[str, Path]:
    """The scores of every model that was fine-tuned and not pressed, by how it was fine-tuned."""
    places = (each for each in (folder / DENSE).glob("*") if scores.corpora(each, on))
    scored = {
        scores.identity_of(each, on, scores.prefer(each, on, ""))["model"]: each for each in places
    }
    found: dict[str, Path] = {}
    for run, chain in chains.items():
        tuned = _tuned(chain)
        if tuned is None or tuned is not chain[0] or tuned.step.get("gradual"):
            continue
        if len(chain) == 1:
            found.setdefault(_alike(tuned), run)
        elif chain[1].model.fingerprint in scored:
            found[_alike(tuned)] = scored[chain[1].model.fingerprint]
    return found


def _tuned(chain: Sequence[StepReport]) -> StepReport | None:
    return next((step for step in chain if step.kind == "finetune"), None)


def _alike(tuned: StepReport) -> str:
    """How a model was fine-tuned, but for what pressed it meanwhile."""
    own = {key: value for key, value in tuned.step.items() if key not in WHILE}
    return json.dumps(own, sort_keys=True)


def _sizes(chains: Iterable[Sequence[StepReport]]) -> dict[str, float]:
    """The bytes of the models that were fine-tuned first of all."""
    return {_alike(chain[0]): _bytes(chain[0]) for chain in chains if chain[0] is _tuned(chain)}


def _bytes(step: StepReport) -> float:
    """Of what a step made, as it is stored: zeros are not left out."""
    return float(step.ledger["bytes_stored"])


def _words(chain: Sequence[StepReport]) -> str:
    return ", then ".join(map(_word, chain))


def _word(step: StepReport) -> str:
    own = step.step
    if step.kind == "prune":
        return f"{own['method']} {str(own['pattern']).partition('/')[0]}"
    if step.kind == "quantize":
        return f"{own['method']} {own['bits']} bits"
    if step.kind == "distill":
        return f"distil {own['layers']} layers{' on the task' if own.get('task') else ''}"
    if step.kind == "finetune" and own.get("gradual"):
        tables = ", embeddings too" if own.get("embeddings") else ""
        return f"{TUNED} to {own['gradual'].rpartition('..')[2]}{tables}"
    return TUNED


# ---- tables --------------------------------------------------------------------------------


def short(tag: str) -> str:
    """The shortest name of a language."""
    aliases = (name for name in languages.find(tag).aliases if name.isascii())
    return min(aliases, key=lambda name: (len(name), name), default=tag)


def by_words(runs: Iterable[Run]) -> dict[tuple[str, str], list[Run]]:
    """Runs that differ in their seed alone, by texts and steps."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        found.setdefault((run.corpus, run.words), []).append(run)
    return found


def told_of(runs: Iterable[Run]) -> list[Run]:
    """Those of which a loss is told in some language."""
    return [run for run in runs if run.losses]


def shared(runs: Iterable[Run]) -> list[str]:
    """The languages in which a loss is told at all seeds at which any is."""
    some = told_of(runs)
    return [tag for tag in some[0].losses if all(tag in run.losses for run in some)] if some else []


def mean_losses(runs: Iterable[Run]) -> list[float]:
    """Of every seed of which losses are told the mean over the languages that all of them tell."""
    some = told_of(runs)
    tags = shared(some)
    return [float(np.mean([run.losses[tag] for tag in tags])) for run in some] if tags else []


def of_all(number: int, among: int) -> str:
    """How many; and of how many, where it is not all."""
    return str(number) if number == among else f"{number} of {among}"


def dense_table(runs: Sequence[Run]) -> str:
    """The scores of the fine-tuned models by language: the mean over seeds, and their range."""
    seen = {run.dense: run for run in runs}.values()
    groups: dict[str, list[Run]] = {}
    for run in seen:
        groups.setdefault(run.corpus, []).append(run)
    tags = list(dict.fromkeys(tag for run in seen for tag in run.before))
    rows: list[list[str]] = []
    for corpus, some in groups.items():
        values = [run.before for run in sorted(some, key=lambda run: run.seed)]
        rows.append([corpus, str(len(some)), *(_range([v[tag] for v in values]) for tag in tags)])
    return table(["texts", "seeds", *map(short, tags)], rows)


def _range(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


def loss_table(runs: Sequence[Run]) -> str:
    """Of every recipe its size, the mean loss with its range over seeds, and the worst language.

    Seeds and languages that tell no loss are counted, and are in no mean.
    """
    head = ["texts", "steps", "seeds", "languages", "smaller, %", "mean loss, %", "worst, %"]
    rows = [[*names, *_losses(some)] for names, some in by_words(runs).items()]
    return table([*head, "which"], rows)


def _losses(some: Sequence[Run]) -> list[str]:
    """What a row says of runs that differ in their seed alone."""
    told, tags = told_of(some), shared(some)
    every = {tag for run in some for tag in run.before}
    size = f"{round(100 * (1 - some[0].share), 1) + 0.0:.1f}"  # no minus before a zero
    counts = [of_all(len(told), len(some)), of_all(len(tags), len(every)), size]
    if not tags:
        return [*counts, "at chance", "–", "–"]
    own = [{tag: run.losses[tag] for tag in tags} for run in told]
    worst = {max(each, key=each.__getitem__) for each in own}
    most = [max(each.values()) for each in own]
    which = ", ".join(sorted(map(short, worst)))
    return [*counts, percents(mean_losses(some)), percents(most), which]


def percents(values: Sequence[float], among: int = 0) -> str:
    """The mean in per cent, and behind it the range where there are several.

    And how many they are, where that is not `among`.
    """
    if not values:
        return "–"
    mean, low, high = (percent(float(of(values))) for of in (np.mean, np.min, np.max))
    found = mean if len(values) == 1 else f"{mean} ({low} to {high})"
    return f"{found}, {len(values)} of {among}" if among > len(values) else found


def collapse_table(runs: Sequence[Run], *, max_loss: float) -> str:
    """Of every language the largest sparsity that holds, seed by seed, after and before."""
    rows: list[list[str]] = []
    every = list(dict.fromkeys(tag for run in runs for tag in run.before))
    for order, seed in dict.fromkeys((_order(run), run.seed) for run in runs if _order(run)):
        some = {_sparsity(run): run for run in runs if (_order(run), run.seed) == (order, seed)}
        ladder = sorted(some)
        tags = some[ladder[0]].told
        if not tags:
            continue
        found = verdicts.collapsed(
            some[ladder[0]].dense,
            [some[share].folder for share in ladder],
            on=some[ladder[0]].on,
            languages=tags,
            max_loss=max_loss,
        )
        cells = {
            point.language: "at chance"
            if point.at_chance
            else f"{ladder[point.holds - 1]:g}"
            if point.holds
            else f"< {ladder[0]:g}"
            for point in found.points
        }
        rows.append([order, str(seed), *(cells.get(tag, "no score") for tag in every)])
    head = ["order", "seed", *map(short, every)]
    return table(head, rows) if rows else "No ladder of sparsities yet."


def _order(run: Run) -> str:
    """When a run that is pruned by magnitude was pruned; nothing of another."""
    first, _, rest = run.words.partition(", then ")
    if first == TUNED and rest.startswith("magnitude "):
        return "after"
    if first.startswith("magnitude ") and rest == TUNED:
        return "before"
    return (
        "while, embeddings too"
        if "embeddings" in first
        else "while" * first.startswith(f"{TUNED} to ")
    )


def _sparsity(run: Run) -> float:
    """The share of zeros that was asked for."""
    numbers = [word.rstrip(",") for word in run.words.split() if word[:1].isdigit()]
    return float(numbers[0])
