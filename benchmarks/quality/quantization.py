"""Quantization by method, bits, calibration mixture and seed, and of a pruned model; 31 languages.

    python benchmarks/quality/quantization.py --data TEXT_FOLDER --out FOLDER [--model babel-mini]
    python benchmarks/quality/quantization.py --data TEXT_FOLDER --out FOLDER --table

Text, scores and table are those of calibrations.py. A configuration is `gptq-3` (bits; group 64),
with `+mse` (clipping) or `+diagonal` (order of columns), or `sparsegpt-0.5>gptq-4`: prune, gather
moments of the pruned model, then quantize, `keep` with and `free` without kept zeros; what one
configuration prunes and gathers serves both. RTN reads no calibration and is run once.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from calibrations import DOCUMENTS, LENGTH, MIXED, SEEDS, TOKENS, cell, load, row
from torch import Tensor

from babelpress.evals import bits_per_byte
from babelpress.evals._windows import prepare
from babelpress.judge.verdicts import training_shares
from babelpress.models.open import Opened, open_model
from babelpress.models.walk import Walk
from babelpress.moments.damage import mean_damage
from babelpress.moments.gather import gather_dense
from babelpress.moments.store import BlockMoments
from babelpress.numerics.grids import Grid
from babelpress.press.blocks import find_all_folds, predicted_damage, press_dense
from babelpress.press.method import Method, Pruner, Quantizer
from babelpress.press.mixture_search import best, minimax
from babelpress.system.files import read_json, write_json
from babelpress.text import calibration, mixtures
from babelpress.text.corpus import open_corpus
from babelpress.text.token_blocks import TokenBlocks

GROUP = 64
BITS = (4, 3, 2)
CHAIN = "sparsegpt-0.5>gptq-4"
ZEROS = ("keep", "free")
NAMES = {"mean": "mean", "worst": "worst language", "low_resource": "low-resource"}
Found = Mapping[int, BlockMoments]


def configurations(seed: int) -> Iterator[tuple[str, str]]:
    """(what, mixture), the quickest answers first."""
    if seed == SEEDS[0]:
        yield from ((f"rtn-{bits}{extra}", "none") for bits in BITS for extra in ("", "+mse"))
    yield from ((f"{m}-{b}", mixed) for b in (3, 2, 4) for mixed in MIXED for m in ("gptq", "awq"))
    yield from ((f"{CHAIN}-{zeros}", mixed) for mixed in MIXED for zeros in ZEROS)
    yield from ((f"gptq-{b}{extra}", "uniform") for b in BITS for extra in ("+mse", "+diagonal"))


def quantizer(words: str, *, keep_zeros: bool = True) -> Quantizer:
    """The method of `gptq-3+mse`."""
    name, _, rest = words.partition("-")
    bits, *extras = rest.split("+")
    grid = Grid(int(bits), GROUP, clip="mse" if "mse" in extras else "none")
    order = "diagonal" if "diagonal" in extras else "none"
    options = {"order": order} if name == "gptq" else {}
    return Quantizer.of(name, grid, options, keep_zeros=keep_zeros)


def folder_of(out: Path, what: str, mixed: str, seed: int) -> Path:
    """Folder of a configuration."""
    return out / f"{what}-{mixed.replace(':', '_')}-{seed}".replace(">", "_")


def blocks(model: str, data: str, seed: int) -> dict[str, TokenBlocks]:
    """Calibration blocks of the train text of all languages."""
    corpus = open_corpus(data)
    tags = [tag for tag in corpus.languages() if corpus.documents(tag, "train")]
    tokenizer = open_model(model).tokenizer
    return calibration.build(
        corpus, tokenizer, tags, tokens=TOKENS, length=LENGTH, seed=seed
    ).blocks


class Bench:
    """The model, its dense weights, and the moments of a seed."""

    def __init__(self, data: str, model: str):
        self.data = data
        self.opened: Opened = open_model(model)
        self.walk = Walk(self.opened.model)
        self.dense = self.weights()
        self.seed = -1
        self.blocks: dict[str, TokenBlocks] = {}
        self.found: Found = {}
        self.pruned: tuple[tuple[str, int], dict[str, Tensor], Found, dict] | None = None

    def weights(self) -> dict[str, Tensor]:
        """A copy of all weights."""
        return {key: value.clone() for key, value in self.opened.model.state_dict().items()}

    def moments(self, seed: int) -> Found:
        """Those of the dense model."""
        if seed != self.seed:
            # All the text of 31 languages takes gigabytes: a process of its own gives them back.
            with ProcessPoolExecutor(1, get_context("spawn")) as reader:
                self.blocks = reader.submit(blocks, self.opened.name, self.data, seed).result()
            self.found, self.seed = self._gather(), seed
        return self.found

    def _gather(self) -> Found:
        return dict(gather_dense(self.walk, self.blocks, gram=True))

    def shares(self, found: Found, method: Method, mixed: str) -> tuple[dict[str, float], list]:
        """The shares of a mixture, and the trace of the loop that found them."""
        tags = list(next(iter(found[0].values())))
        if mixed != "minimax":
            policy = "uniform" if mixed == "none" else mixed
            return dict(mixtures.mixture(policy, tags).shares), []
        folds = find_all_folds(self.walk, method)
        trace = minimax(
            lambda p: predicted_damage(self.walk, found.__getitem__, method, p, folds), tags
        )
        return best(trace).shares, [{"worst": r.worst, "mean": r.mean} for r in trace]

    def press(self, what: str, mixed: str, seed: int) -> dict:
        """Press in place, from the dense model; the manifest of the configuration."""
        self.opened.model.load_state_dict(self.dense)
        if what.startswith(CHAIN):
            return self._chain(what, mixed, seed)
        found, method = self.moments(seed), quantizer(what)
        shares, trace = self.shares(found, method, mixed)
        reports = press_dense(self.walk, found.__getitem__, method, shares)
        harm = mean_damage([r.damage for r in reports])
        return {"shares": shares, "trace": trace, "steps": [{"damage": harm}]}

    def _chain(self, what: str, mixed: str, seed: int) -> dict:
        if self.pruned is None or self.pruned[0] != (mixed, seed):
            pruner = Pruner.of("sparsegpt", "0.5")
            shares, trace = self.shares(self.moments(seed), pruner, mixed)
            reports = press_dense(self.walk, self.moments(seed).__getitem__, pruner, shares)
            first = {
                "shares": shares,
                "trace": trace,
                "damage": mean_damage([r.damage for r in reports]),
            }
            self.pruned = ((mixed, seed), self.weights(), self._gather(), first)
        _, weights, found, first = self.pruned
        self.opened.model.load_state_dict(weights)
        method = quantizer("gptq-4", keep_zeros=what.endswith("keep"))
        reports = press_dense(self.walk, found.__getitem__, method, first["shares"])
        harm = mean_damage([r.damage for r in reports])
        return {
            "shares": first["shares"],
            "trace": first["trace"],
            "steps": [{"damage": first["damage"]}, {"damage": harm}],
            "zeros": sum(r.zeros for r in reports) / sum(r.weights for r in reports),
        }


def sweep(data: str, out: Path, model: str, seeds: list[int], backwards: bool) -> None:
    bench = Bench(data, model)
    flores = open_corpus(f"{data}?src=flores")
    texts = {tag: flores.documents(tag, "test")[:DOCUMENTS] for tag in flores.languages()}
    prepared = prepare(bench.opened.tokenizer, texts, window=LENGTH)

    def score(folder: Path, manifest: dict) -> None:
        start = time.monotonic()
        for tag, tally in bits_per_byte.score(bench.opened.model, prepared).items():
            tally.save(folder / "tallies" / f"bits_per_byte.{tag}.parquet")
        manifest["seconds_eval"] = round(time.monotonic() - start, 1)
        write_json(folder / "manifest.json", manifest)  # last: its presence means done
        print(f"{time.strftime('%H:%M:%S')} {folder.name} {manifest['seconds_eval']} s", flush=True)

    if not (out / "dense" / "manifest.json").exists():
        score(out / "dense", {"model": model})
    for seed in seeds:
        for what, mixed in list(configurations(seed))[:: -1 if backwards else 1]:
            folder = folder_of(out, what, mixed, seed)
            if not (folder / "manifest.json").exists():
                score(folder, bench.press(what, mixed, seed))


def table(out: Path, model: str) -> None:
    """One line a configuration: every seed, then the hull of their intervals; all of it as JSON."""
    dense = load(out / "dense")
    shares = training_shares(model, dense)
    value = sum(tally.value for tally in dense.values()) / len(dense)
    print(f"dense: mean {value:.4f} bits per byte over {len(dense)} languages; {TOKENS:,} tokens")
    print(f"a language; group {GROUP}\n")
    print(f"| what | calibration | {' | '.join(NAMES.values())} | zeros | ρ |")
    print("|---|---|" + "---|" * (len(NAMES) + 2))
    rows = []
    for what, mixed in configurations(SEEDS[0]):
        folders = [folder_of(out, what, mixed, seed) for seed in SEEDS]
        there = [folder for folder in folders if (folder / "manifest.json").exists()]
        found = [row(folder, dense, shares) for folder in there]
        if not found:
            continue
        rows += [{"what": what, "mixture": mixed, **r} for r in found]
        cells = [cell([r[key] for r in found]) for key in NAMES]
        zeros = [read_json(folder / "manifest.json").get("zeros") for folder in there]
        shown = "–" if zeros[0] is None else f"{100 * sum(zeros) / len(zeros):.1f} %"
        rho = " / ".join("–" if r["spearman"] is None else f"{r['spearman']:.2f}" for r in found)
        print(f"| {what} | {mixed} | {' | '.join(cells)} | {shown} | {rho} |")
    write_json(out / "table.json", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="corpus folder with all languages")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="babel-mini")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--backwards", action="store_true", help="so that two processes meet")
    parser.add_argument("--table", action="store_true", help="print what is there")
    given = parser.parse_args()
    if given.table:
        table(given.out, given.model)
        return
    with torch.no_grad():
        sweep(given.data, given.out, given.model, given.seeds, given.backwards)


if __name__ == "__main__":
    main()
