"""Press a model that is larger than the memory it is given. Linux, as root (memory cgroup).

    python benchmarks/scale/limited.py --folder FOLDER [--blocks 100] [--limit-mb 850]

Makes a Llama-shaped model of random weights (hidden 1,024; 26 MB a block in bfloat16), then runs
`babelpress` in a memory cgroup of the given size, page cache included: calibrate, prune, quantize,
each with --offload. Prints seconds, the group's peak and how much larger the model is.
"""

import argparse
import os
import subprocess
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from babelpress.opening import open_model

GROUP = Path("/sys/fs/cgroup/memory/babelpress")  # version 1
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


def enter(limit_mb: int) -> None:
    """Put this process into a group of its own."""
    GROUP.mkdir(exist_ok=True)
    (GROUP / "memory.limit_in_bytes").write_text(str(limit_mb << 20))
    (GROUP / "memory.max_usage_in_bytes").write_text("0")
    (GROUP / "cgroup.procs").write_text(str(os.getpid()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--blocks", type=int, default=100)
    parser.add_argument("--limit-mb", type=int, default=850)
    given = parser.parse_args()
    size = make(given.folder / "model", given.blocks)
    print(f"model {size >> 20} MiB, {size / (given.limit_mb << 20):.2f} times {given.limit_mb} MiB")
    for command, words in STEPS.items():
        line = ["babelpress", command, str(given.folder / "model"), *TEXT, *words]
        out = given.folder / command
        start = time.monotonic()
        done = subprocess.run(
            [*line, "--offload", "--out", str(out)],
            check=False,
            preexec_fn=lambda: enter(given.limit_mb),
        )
        peak = int((GROUP / "memory.max_usage_in_bytes").read_text()) >> 20
        seconds = time.monotonic() - start
        print(f"{command}: exit {done.returncode}, {seconds:.0f} s, at most {peak} MiB", flush=True)


if __name__ == "__main__":
    main()
