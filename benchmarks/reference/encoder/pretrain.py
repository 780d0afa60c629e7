"""Pretrain babel-mini-encoder on hidden words, checkpointed; the same command resumes.

    python -m benchmarks.reference.encoder.tokenizer TEXT_FOLDER TOKENIZER
    python benchmarks/reference/blocks.py TEXT_FOLDER TOKENIZER/tokenizer.json BLOCKS 220000 \
        am,ha,ig,om,so,sw,yo,zu
    python -m benchmarks.reference.encoder.pretrain BLOCKS TOKENIZER WORK --out MODEL

Three tokens in ten are hidden, anew at every reading: small data is read many times, and more
hidden tokens teach more in one reading (Wettig et al. 2023, arXiv:2202.08005).
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from babelpress.train.loop import Schedule, train
from benchmarks.reference.encoder.tokenizer import POSITIONS

HIDDEN = 0.3  # share of tokens
SHAPE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS + 2,  # XLM-R counts from behind the padding token's number
    "type_vocab_size": 1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "layer_norm_eps": 1e-5,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}


def fresh(vocabulary: int, seed: int) -> XLMRobertaForMaskedLM:
    """A random model in bfloat16, of which the optimizer keeps float32 copies."""
    torch.manual_seed(seed)
    config = XLMRobertaConfig(**{**SHAPE, "vocab_size": vocabulary}, attn_implementation="eager")
    return XLMRobertaForMaskedLM(config).to(torch.bfloat16)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("blocks", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="default: the whole order once")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--muon-rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    ids_NT = np.load(given.blocks / "ids.npy", mmap_mode="r")
    order = np.load(given.blocks / "order.npy")
    tokenizer = AutoTokenizer.from_pretrained(given.tokenizer)
    schedule = Schedule(
        steps=given.steps or len(order) // given.batch,
        batch=given.batch,
        muon_rate=given.muon_rate,
        adam_rate=given.adam_rate,
    )
    model = train(
        fresh(len(tokenizer), given.seed),
        ids_NT,
        order,
        given.work,
        schedule=schedule,
        seed=given.seed,
        hide=DataCollatorForLanguageModeling(tokenizer, mlm_probability=HIDDEN),
    )
    model.save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)


if __name__ == "__main__":
    main()
