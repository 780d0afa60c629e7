"""What is inside after calibrating in one language or in all: SNR, subspaces, neurons, masks.

    python -m benchmarks.papers.kurz.inside MODEL --corpus text --out OUT

For every seed moments of seven languages are taken once, SparseGPT takes half of the weights for
each language alone and for all of them, and `babelpress insight` looks at dense and pressed, with
other text of the same corpus. What it found stays in OUT/inside-SEED, and a seed that is there is
not done again; the pruned models go.
"""

import argparse
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import babelpress as bp
from babelpress.insight.damage import OUTPUT
from babelpress.insight.neurons import DENSE
from babelpress.insight.subspace import AGNOSTIC, SPECIFIC
from babelpress.text import languages
from benchmarks.papers.kurz.table import LANGUAGES
from benchmarks.papers.swept import table

ALL = "uniform"
FRESH = 100  # is added to the seed of what insight reads: no text that was calibrated on
EVERY, FEW = "damage,overlap", "subspace,neurons"  # cheap analyses, and those that run all models

Row = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--corpus", default="embedded")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=2048, help="of every language")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--inside", nargs="+", default=["en", "sw", ALL], help="calibrations whose models are run"
    )
    args = parser.parse_args()
    for seed in args.seeds:
        look(args.model, args.corpus, args.out, args.tokens, seed, args.inside)
    found = {seed: read(args.out, seed) for seed in args.seeds}
    print(f"{signal(found)}\n\n{parts(found, args.inside)}\n\n{fates(found, args.inside)}")
    print(f"\n{masks(found)}")


def look(model: str, corpus: str, out: Path, tokens: int, seed: int, inside: Sequence[str]) -> None:
    """One seed: moments, eight pruned models, what is inside; then the models go."""
    kept = place(out, seed)
    if all((kept / f"{name}.jsonl").is_file() for name in f"{EVERY},{FEW}".split(",")):
        return
    text: dict[str, Any] = {
        "corpus": corpus,
        "languages": LANGUAGES,
        "tokens": tokens,
        "length": 512,
    }
    moments, fresh = out / f"moments-{seed}", out / f"fresh-{seed}"
    bp.calibrate(model, **text, seed=seed, gram=True, out=moments)
    bp.calibrate(model, **text, seed=seed + FRESH, gram=True, out=fresh)
    runs = out / f"runs-{seed}"
    for name in (*LANGUAGES, ALL):
        mixture = name if name == ALL else f"only:{name}"
        bp.prune(
            model,
            moments=moments,
            method="sparsegpt",
            pattern="0.5",
            mixture=mixture,
            out=runs / name,
        )
    every = [runs / name for name in (*LANGUAGES, ALL)]
    bp.insight(every, on=EVERY, moments=fresh, out=kept)
    few = [runs / name for name in inside]
    bp.insight(few, on=FEW, **text, seed=seed + FRESH, out=kept)
    for folder in (runs, moments, fresh):
        shutil.rmtree(folder)


def place(out: Path, seed: int) -> Path:
    """The folder of what was found for a seed."""
    return out / f"inside-{seed}"


def read(out: Path, seed: int) -> list[Row]:
    """All rows of a seed, each with the analysis that it is of."""
    return [
        {"on": name, **json.loads(line)}
        for name in f"{EVERY},{FEW}".split(",")
        for line in (place(out, seed) / f"{name}.jsonl").read_text("utf-8").splitlines()
    ]


# ---- tables --------------------------------------------------------------------------------


def signal(found: Mapping[int, Sequence[Row]]) -> str:
    """Output SNR in dB by language, calibrated in it, in the best other, in English, in all."""
    rows: list[list[str]] = []
    wins = 0
    for short in LANGUAGES:
        tag = languages.find(short).tag
        by_seed = [_snr(some, tag) for some in found.values()]
        other = [max(v for n, v in one.items() if n not in (short, ALL)) for one in by_seed]
        own = [one[short] for one in by_seed]
        wins += sum(mine > best for mine, best in zip(own, other, strict=True))
        english = [one["en"] for one in by_seed]
        rows.append([short, *map(told, (own, other, english, [one[ALL] for one in by_seed]))])
    head = ["output SNR, dB", "own language", "best other", "English", "all 7"]
    cells = len(LANGUAGES) * len(found)
    return f"{table(head, rows)}\n\nhighest with its own language: {wins} of {cells}"


def _snr(rows: Iterable[Row], tag: str) -> dict[str, float]:
    """The mean over sites and blocks for a language, by calibration."""
    some = [r for r in rows if r["on"] == "damage" and r.get("metric") == OUTPUT]
    some = [row for row in some if row["language"] == tag and row["value"] is not None]
    return {run: fmean(r["value"] for r in some if r["run"] == run) for run in _names(some)}


def parts(found: Mapping[int, Sequence[Row]], inside: Sequence[str]) -> str:
    """The relative error of what languages have apart and of what they share, means over blocks."""
    rows: list[list[str]] = []
    for run in inside:
        cells: list[list[float]] = []
        for part in (SPECIFIC, AGNOSTIC):
            for own in (True, False):
                cells.append([_error(some, run, part, own=own) for some in found.values()])
        rows.append([run, *map(told3, cells)])
    head = ["calibration", "apart, calibrated", "apart, others", "shared, calibrated"]
    return table([*head, "shared, others"], rows)


def _error(rows: Iterable[Row], run: str, part: str, *, own: bool) -> float:
    """The mean over blocks and languages that were calibrated, or that were not; NaN for none."""
    mine = [languages.find(tag).tag for tag in (LANGUAGES if run == ALL else [run])]
    values = [
        row["value"]
        for row in rows
        if row["on"] == "subspace"
        and row.get("kind") == "part"
        and row["run"] == run
        and row["part"] == part
        and (row["language"] in mine) == own
        and row["value"] is not None
    ]
    return fmean(values) if values else float("nan")


def fates(found: Mapping[int, Sequence[Row]], inside: Sequence[str]) -> str:
    """How many of the dense model's language-specific neurons are specific after pressing too."""
    rows: list[list[str]] = []
    for run in inside:
        cells: list[tuple[float, float, float]] = []
        for some in found.values():
            dense, pressed = _neurons(some, DENSE), _neurons(some, run)
            cells.append((len(dense), len(dense & pressed), len(pressed - dense)))
        rows.append([run, *(told(list(column), 0) for column in zip(*cells, strict=True))])
    return table(["calibration", "specific before", "still", "new"], rows)


def _neurons(rows: Iterable[Row], model: str) -> set[tuple[int, int]]:
    return {
        (row["block"], row["neuron"])
        for row in rows
        if row["on"] == "neurons" and row.get("kind") == "neuron" and row["model"] == model
    }


def masks(found: Mapping[int, Sequence[Row]]) -> str:
    """What two calibrations prune alike: intersection over union, by pairs of languages."""
    values = [
        fmean(row["value"] for row in some if row["on"] == "overlap" and row["value"] is not None)
        for some in found.values()
    ]
    return f"overlap of what two calibrations prune: {told(values, 3)} (by chance 0.333)"


def _names(rows: Iterable[Row]) -> Iterator[str]:
    return iter(dict.fromkeys(row["run"] for row in rows))


def told(values: Sequence[float], digits: int = 1) -> str:
    """The mean over seeds and their range."""
    mean, low, high = (f"{v:.{digits}f}" for v in (fmean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def told3(values: Sequence[float]) -> str:
    """With three digits; a dash where there is nothing."""
    return "–" if any(value != value for value in values) else told(values, 3)


if __name__ == "__main__":
    main()
