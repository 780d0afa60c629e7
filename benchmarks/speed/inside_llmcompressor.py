"""llm-compressor on one job, in its own environment; speed.py starts this.

The job is a JSON file (see `Job` in jobs.py). `setting` is `default` (batch 1), `batch 8`, or
`one pass`: blocks are fed what dense blocks give (`propagate_error=False`), in one forward pass.
Phases: `gram` sums inputs, `solve` chooses and adapts weights, `forward` is the rest of a pass.
"""

# pyright: reportMissingImports=false
# llm-compressor is in no environment that has babelpress.

import sys
from pathlib import Path

from clock import Clock
from jobs import Job, save_linears, window

CLOCK = Clock()
HEAD = ["re:.*lm_head"]  # plain 'lm_head' does not protect the head in the two pruning modifiers
SETTINGS = {
    "default": {},
    "batch 8": {"batch_size": 8},
    "one pass": {"propagate_error": False},
}

with CLOCK.phase("import"):
    import torch
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.gptq import base as gptq
    from llmcompressor.modifiers.pruning.sparsegpt import SparseGPTModifier
    from llmcompressor.modifiers.pruning.sparsegpt import base as sparsegpt
    from llmcompressor.modifiers.pruning.wanda import WandaPruningModifier
    from llmcompressor.modifiers.pruning.wanda import base as wanda
    from llmcompressor.pipelines.sequential.helpers import Subgraph
    from transformers import AutoModelForCausalLM, AutoTokenizer


def recipe(method: str) -> GPTQModifier | SparseGPTModifier | WandaPruningModifier:
    """The modifier of a method, all else at its defaults."""
    match method:
        case "wanda 0.5":
            return WandaPruningModifier(sparsity=0.5, targets=["Linear"], ignore=HEAD)
        case "sparsegpt 0.5":
            return SparseGPTModifier(sparsity=0.5, targets=["Linear"], ignore=HEAD)
        case "sparsegpt 2of4":
            return SparseGPTModifier(
                sparsity=0.5, mask_structure="2:4", targets=["Linear"], ignore=HEAD
            )
        case "gptq 4/128":
            return GPTQModifier(targets="Linear", scheme="W4A16", ignore=HEAD)
    raise ValueError(method)


def time_phases() -> None:
    """Put timed functions in the place of theirs."""
    CLOCK.wrap(Subgraph, "forward", "forward")
    CLOCK.wrap(gptq, "accumulate_hessian", "gram")
    CLOCK.wrap(sparsegpt, "accumulate_hessian", "gram")
    CLOCK.wrap(wanda, "accumulate_row_scalars", "gram")
    for modifier in (GPTQModifier, SparseGPTModifier, WandaPruningModifier):
        CLOCK.wrap(modifier, "compress_modules", "solve")


def main(path: Path) -> None:
    """Load, press, save."""
    job = Job.read(path)
    time_phases()
    with CLOCK.phase("load"):
        model = AutoModelForCausalLM.from_pretrained(job.model, dtype="auto")
        tokenizer = AutoTokenizer.from_pretrained(job.model)
        ids_NT = window(job)
    data = {"input_ids": ids_NT.tolist(), "attention_mask": torch.ones_like(ids_NT).tolist()}
    oneshot(
        model=model,
        tokenizer=tokenizer,
        dataset=Dataset.from_dict(data),
        recipe=recipe(job.method),
        num_calibration_samples=len(ids_NT),
        max_seq_length=ids_NT.shape[1],
        **SETTINGS[job.setting],
    )
    if job.linears:
        save_linears(model, Path(job.linears))
    with CLOCK.phase("save"):
        model.save_pretrained(job.out)
        tokenizer.save_pretrained(job.out)
    CLOCK.write(Path(job.result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
