"""What `press --dry-run` predicts beside what then happens: seconds, memory and disk.

    python benchmarks/scale/predicted.py [--sizes 256x4 512x6 768x8] [--recipes prune chain ...]

Makes Llama-shaped models of random weights (hidden size x blocks, vocabulary of babel-mini's
tokenizer, bfloat16) and does every recipe with each, two processes a time: one that predicts, one
that presses. Prints predicted, actual and their ratio. Memory is what the system cannot take back,
at the peak of the whole run; disk is the run folder at its largest, files without a name included.
"""

import argparse
import multiprocessing
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from babelpress.models.open import open_model
from babelpress.runs import recipe, run
from babelpress.runs.estimate import estimate
from babelpress.system.memory import peak

TEXT = {"languages": ["swh_Latn", "eng_Latn", "hin_Deva"], "tokens": 8192, "length": 512}
PRUNE = {"method": "sparsegpt", "pattern": "0.5"}
QUANTIZE = {"method": "gptq", "bits": 4, "group": 64}
RECIPES: dict[str, list[dict[str, Any]]] = {
    "prune": [{"prune": {**PRUNE, "propagate": "dense"}}],
    "quantize": [{"quantize": QUANTIZE}],
    "minimax": [
        {"prune": {**PRUNE, "propagate": "dense", "mixture": "minimax", "minimax": {"rounds": 5}}}
    ],
    "chain": [{"prune": {"method": "wanda"}}, {"quantize": {**QUANTIZE, "method": "awq"}}],
    "offload": [{"quantize": QUANTIZE}],
}
EVERY = 0.02  # seconds


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run takes, or is thought to take."""

    seconds: float
    memory: int
    disk: int


def make(folder: Path, hidden: int, blocks: int) -> None:
    """A model of random weights."""
    tokenizer = open_model("babel-mini").tokenizer
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4 // 64 * 64,
        num_hidden_layers=blocks,
        num_attention_heads=hidden // 64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    LlamaForCausalLM(config).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)
    tokenizer.save_pretrained(folder)


def predicted(data: dict[str, Any], near: Path, offload: bool) -> Cost:
    """What a dry run says."""
    steps = estimate(recipe.of(data), offload=offload, near=near)
    return Cost(
        sum(step.seconds for step in steps),
        max(step.memory_bytes for step in steps),
        max(step.disk_bytes for step in steps),
    )


def actual(data: dict[str, Any], out: Path, offload: bool) -> Cost:
    """What a run takes."""
    largest = [0]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(EVERY):
            largest.append(size(out) + held(out))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.monotonic()
    with peak() as most:
        run.do(recipe.of(data), out, offload=offload)
    seconds = time.monotonic() - start
    stop.set()
    watcher.join()
    return Cost(seconds, most.bytes, max(*largest, size(out)))


def size(folder: Path) -> int:
    """Bytes of the files of a folder, whatever comes and goes meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def held(folder: Path) -> int:
    """Bytes of the files of a folder that have no name any more and are still mapped."""
    rows = [row.split(maxsplit=5) for row in Path("/proc/self/maps").read_text().splitlines()]
    spans = [
        [int(end, 16) for end in row[0].split("-")]
        for row in rows
        if len(row) == 6 and row[5].startswith(f"{folder}/") and row[5].endswith("(deleted)")
    ]
    return sum(end - start for start, end in spans)


def alone(work: Any, *given: Any) -> Cost:
    """Do work in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *given).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["256x4", "512x6", "768x8"])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    given = parser.parse_args()
    print("| model | recipe | seconds | memory, MiB | disk, MiB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        for shape in given.sizes:
            if shape != "babel-mini":
                make(folder / shape, *map(int, shape.split("x")))
            model = shape if shape == "babel-mini" else str(folder / shape)
            for kind in given.recipes:
                data = {"model": model, "calibration": TEXT, "steps": RECIPES[kind]}
                offload = kind == "offload"
                told = alone(predicted, data, folder, offload)
                took = alone(actual, data, folder / f"{shape}-{kind}", offload)
                cells = [
                    row(told.seconds, took.seconds, 1),
                    row(told.memory, took.memory, 1 << 20),
                    row(told.disk, took.disk, 1 << 20),
                ]
                print(f"| {shape} | {kind} | {' | '.join(cells)} |", flush=True)


def row(told: float, took: float, unit: float) -> str:
    return f"{told / unit:.1f} of {took / unit:.1f} ({told / took:.2f})"


if __name__ == "__main__":
    main()
