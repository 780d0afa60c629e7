"""Small models of the families of GGUF, with a byte-level BPE, and one of Gemma's kind."""

import pico
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from babelpress.models.open import Opened
from babelpress.text.corpus import Document

SHAPE = {
    "vocab_size": 270,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 100,
    "rms_norm_eps": 3e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 7000.0},
}
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig),
    "mistral": (MistralForCausalLM, MistralConfig),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig),
}
# Of Gemma 3, whose blocks turn positions in two ways: bases and windows as no other model has them.
GEMMA = {
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "rope_theta": 7000.0, "factor": 2.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
    },
    "layer_types": ["full_attention", "sliding_attention"],
    "sliding_window": 9,
    "query_pre_attn_scalar": 16,
}


def tokenizer():
    """A byte-level BPE with two merges, cut as GPT-2 cuts."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*pico.SPECIAL, *alphabet, "ju", "juu"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("j", "u"), ("ju", "u")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )


TEXTS = {
    "eng_Latn": ["hello, world", "the rain in Spain stays in the plain", "no", "aaaaaaaa"],
    "tha_Thai": ["สวัสดี"],
}


def documents(texts=TEXTS):
    """Texts as test documents, by language."""
    return {
        tag: [Document(f"src/{i}", tag, "src", "test", text) for i, text in enumerate(given)]
        for tag, given in texts.items()
    }


def opened(family="llama", **options):
    """A small random model; biases and norms are random too."""
    kind, config = FAMILIES[family]
    torch.manual_seed(0)
    own = GEMMA if family == "gemma3" else {}
    model = kind(config(**{**SHAPE, **own, **options})).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return Opened("small", model, tokenizer(), torch.float32)
