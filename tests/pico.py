"""Two-block random models of every family, width 32, and a byte tokenizer to go with them."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    BloomConfig,
    BloomForCausalLM,
    DebertaV2Config,
    DebertaV2ForTokenClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    Gemma4Config,
    Gemma4ForCausalLM,
    Gemma4ForConditionalGeneration,
    Gemma4TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MBartConfig,
    MBartForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    MT5Config,
    MT5ForConditionalGeneration,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    XGLMConfig,
    XGLMForCausalLM,
    XLMRobertaConfig,
    XLMRobertaForTokenClassification,
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
            global_head_dim=16,  # type: ignore[call-arg]
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
_IMAGES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
# Models that also see images: a language model, and beside it what turns images into its inputs.
SEEING = {
    "gemma3": lambda: Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config={
                **_GROUPED,
                "sliding_window": 8,
                "layer_types": ["sliding_attention", "full_attention"],
            },
            vision_config=_IMAGES,
            mm_tokens_per_image=4,
            image_token_index=3,
        )
    ),
    "gemma4": lambda: Gemma4ForConditionalGeneration(
        Gemma4Config(
            text_config={
                **_GROUPED,
                "global_head_dim": 16,
                "layer_types": ["full_attention", "full_attention"],
                "hidden_size_per_layer_input": 16,
                "vocab_size_per_layer_input": VOCABULARY,
                "num_kv_shared_layers": 1,
            },
            vision_config={**_IMAGES, "head_dim": 8, "num_key_value_heads": 2},
            audio_config=None,
        )
    ),
    "mistral3": lambda: Mistral3ForConditionalGeneration(
        Mistral3Config(
            text_config={**_GROUPED, "model_type": "mistral"},
            vision_config={**_IMAGES, "model_type": "pixtral"},
        )
    ),
    "qwen2_vl": lambda: Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            text_config={
                **_SHAPE,
                "num_key_value_heads": 2,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10000.0,
                    "mrope_section": [1, 1, 2],
                },
            },
            vision_config={"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2},
        )
    ),
}
_ENCODER: dict[str, Any] = {**_SHAPE, "type_vocab_size": 2}
# The positions of a RoBERTa begin after that of its padding.
_ROBERTA: dict[str, Any] = {**_ENCODER, "max_position_embeddings": 131}
ENCODERS = {
    "bert": lambda: BertForMaskedLM(BertConfig(**_ENCODER)),
    "xlm_roberta": lambda: XLMRobertaForTokenClassification(XLMRobertaConfig(**_ROBERTA)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=VOCABULARY,
            dim=32,
            hidden_dim=48,
            n_layers=2,
            n_heads=4,
            max_position_embeddings=128,
            pad_token_id=2,
        )
    ),
    "modernbert": lambda: ModernBertForMaskedLM(
        ModernBertConfig(
            **_SHAPE,
            cls_token_id=0,
            sep_token_id=1,
            layer_types=["full_attention", "sliding_attention"],
            local_attention=8,
        )
    ),
    # Two blocks that a pass runs twice each.
    "albert": lambda: AlbertForMaskedLM(
        AlbertConfig(**{**_ENCODER, "num_hidden_layers": 4}, embedding_size=16, num_hidden_groups=2)
    ),
    # As multilingual DeBERTa v3: queries and keys of relative positions from the text's linears.
    "deberta_v2": lambda: DebertaV2ForTokenClassification(
        DebertaV2Config(
            **{**_ENCODER, "type_vocab_size": 0},
            relative_attention=True,
            position_buckets=4,  # type: ignore[call-arg]
            share_att_key=True,  # type: ignore[call-arg]
            pos_att_type=["p2c", "c2p"],
            norm_rel_ebd="layer_norm",  # type: ignore[call-arg]
            position_biased_input=False,
        )
    ),
}
_T5: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "pad_token_id": 2,
    "eos_token_id": 1,
    "decoder_start_token_id": 2,
}
_BART: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
    "decoder_start_token_id": 1,
    **_IDS,
}
# Two blocks in each half. The head of T5 is tied to its embedding, that of mT5 a table of its own.
ENCODER_DECODERS = {
    "t5": lambda: T5ForConditionalGeneration(T5Config(**_T5)),
    "mt5": lambda: MT5ForConditionalGeneration(
        MT5Config(**_T5, tie_word_embeddings=False)  # type: ignore[call-arg]
    ),
    "m2m_100": lambda: M2M100ForConditionalGeneration(M2M100Config(**_BART, scale_embedding=True)),
    "marian": lambda: MarianMTModel(MarianConfig(**_BART, scale_embedding=True)),
    "mbart": lambda: MBartForConditionalGeneration(MBartConfig(**_BART)),
}
EVERY = {**FAMILIES, **ENCODERS, **ENCODER_DECODERS}
TWICE = ("albert",)  # whose blocks a pass runs two times each
EXPERTS = ("qwen3_moe", "mixtral")  # the families that are mixtures of experts
DENSE = tuple(family for family in EVERY if family not in EXPERTS)
# Those that are like another one that is tried: laws that take long try them among the slow tests.
LIKE_OTHERS = ("mt5", "marian", "mbart")


def model(family: str = "llama", *, seed: int = 0, dtype: torch.dtype = torch.float32):
    """A random model of a family, in evaluation mode."""
    torch.manual_seed(seed)
    built: PreTrainedModel = EVERY[family]()
    return built.to(dtype).eval()  # type: ignore[arg-type]


def laws(families: Iterable[str] = tuple(EVERY)) -> list[Any]:
    """Families for a law that takes long, as parameters of a test."""
    return [
        pytest.param(each, marks=pytest.mark.slow) if each in LIKE_OTHERS else each
        for each in families
    ]


def passed(model: PreTrainedModel, ids_BT: torch.Tensor) -> Any:
    """A model's own pass over text; the decoder of a pair reads the text but for its last token."""
    sides = {"decoder_input_ids": ids_BT[:, :-1]} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(ids_BT, use_cache=False, **sides)


def seeing(family: str, *, seed: int = 0) -> PreTrainedModel:
    """A random model that also sees images, in evaluation mode."""
    torch.manual_seed(seed)
    built: PreTrainedModel = SEEING[family]()
    return built.eval()


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
