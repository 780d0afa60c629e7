"""The published wanda or sparsegpt code on one job; speed.py starts this with our interpreter.

`setting` is `wanda code` or `sparsegpt code`, `code` its folder. The code runs as it is; what it
expects of CUDA and of an old transformers is stood in for at run time: `torch.cuda.synchronize` and
`empty_cache` do nothing, blocks are handed `position_embeddings`, the loader hands out the tokens
of the job, `hf_device_map` is empty. It holds 128 samples at most.
"""

import importlib
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from clock import Clock
from jobs import Job, save_linears, window

CLOCK = Clock()
DEFAULTS = {
    "percdamp": 0.01,
    "blocksize": 128,
    "wbits": 16,
    "true_sequential": False,
    "minlayer": -1,
    "maxlayer": 1000,
    "prune_only": "",
    "invert": False,
    "use_variant": False,
    "seed": 0,
}

with CLOCK.phase("import"):
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

CPU = torch.device("cpu")


def asked(job: Job, samples: int) -> Namespace:
    """Their command line."""
    structured = (2, 4) if job.method.endswith("2of4") else (0, 0)
    given = {**DEFAULTS, "nsamples": samples, "sparsity": 0.5, "sparsity_ratio": 0.5}
    if job.method.startswith("gptq"):  # theirs: 4 bits a channel, no group
        given |= {"wbits": 4, "sparsity": 0.0}
    return Namespace(**given, prunen=structured[0], prunem=structured[1])


def as_they_expect(model: Any, length: int) -> None:
    """The old transformers and the CUDA that the published codes were written for."""
    rotary = model.model.rotary_emb(
        torch.zeros(1, 1, dtype=model.dtype), torch.arange(length)[None]
    )

    def hand(_: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "position_embeddings": rotary}

    for block in model.model.layers:
        block.register_forward_pre_hook(hand, with_kwargs=True)
    model.seqlen, model.hf_device_map = length, {}
    torch.cuda.synchronize = torch.cuda.empty_cache = lambda: None


def press(job: Job, model: Any, loader: list[tuple[Any]]) -> None:
    """Run their code."""
    sys.path.insert(0, job.code)
    given = asked(job, len(loader))
    CLOCK.wrap(LlamaDecoderLayer, "forward", "forward")
    code: Any
    if job.setting == "sparsegpt code":
        code = importlib.import_module("llama")
        code.args = given
        time_solver(importlib.import_module("sparsegpt").SparseGPT)
        code.llama_sequential(model, loader, CPU)
        return
    code = importlib.import_module("lib.prune")
    code.get_loaders = lambda *_, **__: (loader, None)
    time_solver(code.SparseGPT)
    CLOCK.wrap(code.WrappedGPT, "add_batch", "gram")
    prune = code.prune_wanda if job.method.startswith("wanda") else code.prune_sparsegpt
    with CLOCK.phase("solve"):  # what is left of Wanda's is its sort
        prune(given, model, None, CPU, prune_n=given.prunen, prune_m=given.prunem)


def time_solver(solver: type) -> None:
    """Put timed functions in the place of theirs."""
    CLOCK.wrap(solver, "add_batch", "gram")
    CLOCK.wrap(solver, "fasterprune", "solve")


def main(path: Path) -> None:
    """Load, press, save."""
    job = Job.read(path)
    with CLOCK.phase("load"):
        model: Any = AutoModelForCausalLM.from_pretrained(job.model, dtype="auto")
        ids_NT = window(job)
    as_they_expect(model, ids_NT.shape[1])
    press(job, model, [(ids_T[None],) for ids_T in ids_NT])
    if job.linears:
        save_linears(model, Path(job.linears))
    with CLOCK.phase("save"):
        model.save_pretrained(job.out)
    CLOCK.write(Path(job.result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
