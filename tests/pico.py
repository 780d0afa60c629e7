"""Two-block random models of every family, width 32, and a byte tokenizer to go with them."""

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    XGLMConfig,
    XGLMForCausalLM,
)

SPECIAL = ["<bos>", "<eos>", "<pad>"]
VOCABULARY = 256 + len(SPECIAL)
_IDS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    **_IDS,
}
_GROUPED: dict[str, Any] = {**_SHAPE, "num_key_value_heads": 2, "head_dim": 8}

FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_GROUPED)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**_GROUPED)),
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            **_GROUPED,
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention"],
        )
    ),
    "gemma4": lambda: Gemma4ForCausalLM(
        Gemma4TextConfig(
            **_GROUPED,
            global_head_dim=16,
            layer_types=["full_attention", "full_attention"],
            hidden_size_per_layer_input=16,
            vocab_size_per_layer_input=VOCABULARY,
            num_kv_shared_layers=1,  # the second block reads keys and values of the first
        )
    ),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**_GROUPED, sliding_window=8)),
    "bloom": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, **_IDS)
    ),
    "xglm": lambda: XGLMForCausalLM(
        XGLMConfig(
            vocab_size=VOCABULARY,
            d_model=32,
            ffn_dim=48,
            num_layers=2,
            attention_heads=4,
            max_position_embeddings=128,
            decoder_start_token_id=0,
            **_IDS,
        )
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128, **_IDS)
    ),
    "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**_SHAPE)),
    "opt": lambda: OPTForCausalLM(
        OPTConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            ffn_dim=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=128,
            word_embed_proj_dim=32,
            **_IDS,
        )
    ),
    "qwen3_moe": lambda: Qwen3MoeForCausalLM(
        Qwen3MoeConfig(**_GROUPED, moe_intermediate_size=16, num_experts=4, num_experts_per_tok=2)
    ),
    "mixtral": lambda: MixtralForCausalLM(
        MixtralConfig(**_GROUPED, num_local_experts=3, num_experts_per_tok=2)
    ),
}
EXPERTS = ("qwen3_moe", "mixtral")  # the families that are mixtures of experts
DENSE = tuple(family for family in FAMILIES if family not in EXPERTS)


def model(family: str = "llama", *, seed: int = 0, dtype: torch.dtype = torch.float32):
    """A random model of a family, in evaluation mode."""
    torch.manual_seed(seed)
    built: PreTrainedModel = FAMILIES[family]()
    return built.to(dtype).eval()  # type: ignore[arg-type]


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, after the three special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
