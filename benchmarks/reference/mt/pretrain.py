"""Train babel-mini-mt, a small M2M-100, checkpointed; the same command resumes.

    python -m benchmarks.reference.mt.tokenizer TEXT_FOLDER TOKENIZER
    python -m benchmarks.reference.mt.blocks TEXT_FOLDER TOKENIZER BLOCKS 12000
    python -m benchmarks.reference.mt.pretrain BLOCKS TOKENIZER WORK --out MODEL

For benchmarks only: it is trained for hours on a hundred thousand pairs, and translates badly. What
counts is that it is hurt by pressing, direction by direction.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, M2M100Config, M2M100ForConditionalGeneration

from babelpress.models.reading import decoder_ids
from babelpress.text.translations import IGNORED
from babelpress.train.fit import fit
from babelpress.train.loop import Schedule, optimizer
from benchmarks.reference.mt.blocks import Batch, Batches
from benchmarks.reference.mt.tokenizer import POSITIONS

TOLD = 50  # steps between two lines
SHAPE: dict[str, Any] = {
    "d_model": 256,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 1024,
    "decoder_ffn_dim": 1024,
    "max_position_embeddings": POSITIONS,
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}


def fresh(vocabulary: int, seed: int, **instead: Any) -> M2M100ForConditionalGeneration:
    """A random model; `instead` are other sizes."""
    torch.manual_seed(seed)
    config = M2M100Config(**{**SHAPE, **instead, "vocab_size": vocabulary})
    return M2M100ForConditionalGeneration(config)


def loss_of(model: M2M100ForConditionalGeneration, batch: Batch) -> Tensor:
    """Mean loss in nats of the tokens that are to be written.

    Logits are made of these alone: half of what is padded is none.
    """
    hidden_BTH = model.model(
        input_ids=batch.source_BS,
        attention_mask=batch.there_BS.long(),
        decoder_input_ids=decoder_ids(model, batch.label_BT),
        use_cache=False,
    ).last_hidden_state
    written_BT = batch.label_BT != IGNORED
    return cross_entropy(model.lm_head(hidden_BTH[written_BT]), batch.label_BT[written_BT])


def train(
    model: M2M100ForConditionalGeneration,
    batches: Batches,
    work: Path,
    *,
    schedule: Schedule,
    seed: int = 0,
) -> None:
    """Train a model on batches in their order; resume from the last checkpoint under `work`.

    Every TOLD steps one line tells the loss of the last, on standard error.
    """
    pad = model.config.pad_token_id
    assert pad is not None  # SHAPE has it

    def tell(done: int, loss: float) -> None:
        if done % TOLD == 0 or done == schedule.steps:
            print(f"step {done} of {schedule.steps}: loss {loss:.3f}", file=sys.stderr, flush=True)

    fit(
        model,
        lambda step: loss_of(model, batches.of(step, pad)),
        work,
        steps=schedule.steps,
        optimizer=optimizer(model, schedule),
        factor=schedule.factor,
        checkpoint=schedule.checkpoint,
        seed=seed,
        after=tell,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("blocks", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="default: all that the blocks have")
    parser.add_argument("--muon-rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    batches = Batches.load(given.blocks)
    tokenizer = AutoTokenizer.from_pretrained(given.tokenizer)
    model = fresh(len(tokenizer), given.seed)
    schedule = Schedule(
        steps=given.steps or len(batches),
        muon_rate=given.muon_rate,
        adam_rate=given.adam_rate,
    )
    train(model, batches, given.work, schedule=schedule, seed=given.seed)
    model.save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)


if __name__ == "__main__":
    main()
