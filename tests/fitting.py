"""A small model with a tokenizer that can be trimmed, and what a search for it is asked."""

import torch
import trimming
from transformers import LlamaConfig, LlamaForCausalLM

from babelpress.sweeps import candidates, schedule
from babelpress.sweeps.search import Search
from babelpress.sweeps.setup import Setup
from babelpress.text.settings import CalibrationSettings

TEXT = CalibrationSettings(languages=("swh_Latn", "hin_Deva"), tokens=120, length=40)


def save(folder, *, width=64, tokenizer=None):
    """A Llama of two blocks, with the byte-level BPE of `trimming`."""
    torch.manual_seed(0)
    tokenizer = tokenizer or trimming.tokenizer("byte_level_bpe")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        **{
            f"{name}_token_id": getattr(tokenizer, f"{name}_token_id")
            for name in ("bos", "eos", "pad")
        },
    )
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def asked(model, size="60%", **more):
    """A search that ends when all was tried."""
    given = {"engine": "transformers", "max_loss": 10.0, "minutes": 0.0, "documents": 6, **more}
    return candidates.Asked(str(model), size, calibration=TEXT, **given)


def search(wanted, out, plan=None):
    """A search in a folder, here."""
    setup = Setup(out, str(out / "results"), keep_models=True)
    plan = plan or candidates.prepare(wanted)
    return Search(wanted, plan, setup, schedule.Here(setup))
