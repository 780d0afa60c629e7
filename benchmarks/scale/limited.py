"""Press a model that is larger than the memory it is given. Linux, as root (memory cgroup).

    python benchmarks/scale/limited.py --folder FOLDER [--blocks 100] [--limit-mb 800]

Makes a Llama-shaped model of random weights (hidden 1,024; 26 MB a block in bfloat16), then runs
`babelpress` in a memory cgroup of the given size, page cache included: calibrate, prune, quantize,
each with --offload. Nothing of the model lies in the page cache when a command begins. Prints how
much larger the model is, seconds, the group's peak, and the peak without the page cache.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from babelpress.models.open import open_model

GROUP = Path("/sys/fs/cgroup/memory/babelpress")  # version 1
EVERY = 0.02  # seconds
ENTER = "in-group"  # the first word of a call of this file by itself
TEXT = ["--languages", "sw,en", "--tokens", "1024", "--length", "256"]
STEPS = {
    "calibrate": ["--gram"],
    "prune": ["--method", "sparsegpt", "--propagate", "dense"],
    "quantize": ["--method", "gptq", "--bits", "4", "--group", "128"],
}


def make(folder: Path, blocks: int) -> int:
    """The model; its bytes."""
    if not folder.exists():
        config = LlamaConfig(
            vocab_size=8192,
            hidden_size=1024,
            intermediate_size=2816,
            num_hidden_layers=blocks,
            num_attention_heads=16,
            tie_word_embeddings=True,
        )
        torch.manual_seed(0)
        torch.set_default_dtype(torch.bfloat16)
        LlamaForCausalLM(config).save_pretrained(folder)
        torch.set_default_dtype(torch.float32)
        open_model("babel-mini").tokenizer.save_pretrained(folder)
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def forget(folder: Path) -> None:
    """Put the pages of all files of a folder out of the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            number = os.open(path, os.O_RDONLY)
            os.fsync(number)
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(number)


def enter(limit_mb: int, line: list[str]) -> None:
    """Put this process into a group of its own, and let it become another command."""
    (GROUP / "memory.limit_in_bytes").write_text(str(limit_mb << 20))
    (GROUP / "memory.max_usage_in_bytes").write_text("0")
    (GROUP / "cgroup.procs").write_text(str(os.getpid()))
    os.execvp(line[0], line)


def run(line: list[str], limit_mb: int) -> tuple[int, int]:
    """Run a command in the group: its exit code, and bytes without page cache at the peak."""
    most = 0
    with subprocess.Popen([sys.executable, __file__, ENTER, str(limit_mb), *line]) as process:
        while process.poll() is None:
            rows = dict(row.split() for row in (GROUP / "memory.stat").read_text().splitlines())
            most = max(most, int(rows["rss"]))
            time.sleep(EVERY)
    return process.returncode, most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--blocks", type=int, default=100)
    parser.add_argument("--limit-mb", type=int, default=800)
    given = parser.parse_args()
    size = make(given.folder / "model", given.blocks)
    print(f"model {size >> 20} MiB, {size / (given.limit_mb << 20):.2f} times {given.limit_mb} MiB")
    for command, words in STEPS.items():
        GROUP.mkdir(exist_ok=True)
        forget(given.folder)
        line = ["babelpress", command, str(given.folder / "model"), *TEXT, *words]
        start = time.monotonic()
        out = str(given.folder / command)
        code, alone = run([*line, "--offload", "--out", out], given.limit_mb)
        seconds = time.monotonic() - start
        peak = int((GROUP / "memory.max_usage_in_bytes").read_text())
        print(
            f"{command}: exit {code}, {seconds:.0f} s, at most {peak >> 20} MiB, "
            f"{alone >> 20} of them not page cache",
            flush=True,
        )
        GROUP.rmdir()


if __name__ == "__main__":
    if sys.argv[1:2] == [ENTER]:
        enter(int(sys.argv[2]), sys.argv[3:])
    main()
