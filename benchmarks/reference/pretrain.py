"""Pretrain babel-mini on two CPU cores, checkpointed; the same command resumes.

    python benchmarks/reference/pretrain.py BLOCKS_FOLDER TOKENIZER.json WORK_FOLDER --out MODEL

BLOCKS_FOLDER is what blocks.py wrote. `--from MODEL` continues a finished training with fresh
optimizer state and `--steps` of it.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from babelpress.train.loop import Schedule, train

SHAPE: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "tie_word_embeddings": True,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}


def fresh(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(**{**SHAPE, "attn_implementation": "eager"})
    return LlamaForCausalLM(config).to(torch.bfloat16)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("blocks", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--from", dest="start", type=Path)
    parser.add_argument("--steps", type=int, help="default: the whole order once")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--muon-rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    ids_NT = np.load(given.blocks / "ids.npy", mmap_mode="r")
    order = np.load(given.blocks / "order.npy")
    steps = given.steps or len(order) // given.batch
    schedule = Schedule(
        steps=steps, batch=given.batch, muon_rate=given.muon_rate, adam_rate=given.adam_rate
    )
    if given.start:
        model = AutoModelForCausalLM.from_pretrained(
            given.start, dtype=torch.bfloat16, attn_implementation="eager"
        )
    else:
        model = fresh(given.seed)
    model = train(model, ids_NT, order, given.work, schedule=schedule, seed=given.seed)
    model.save_pretrained(given.out)
    PreTrainedTokenizerFast(
        tokenizer_file=str(given.tokenizer),
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        pad_token="<|pad|>",
    ).save_pretrained(given.out)


if __name__ == "__main__":
    main()
