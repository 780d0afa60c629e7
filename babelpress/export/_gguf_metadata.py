"""What llama.cpp has to know of a model besides its weights: sizes, and how positions turn.

Tested in tests/export/test_gguf.py.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from babelpress.errors import BadModel
from babelpress.export._source import Source
from babelpress.models import gguf_config
from babelpress.models import gguf_package as ggufs
from babelpress.models.gguf_names import Layout, head_size

FACTORS = gguf_config.FACTORS
ROTATIONS = ("default", "linear", "llama3")  # ways to scale rotary positions that GGUF has in full
QUANTIZATION_VERSION = 2


def write(writer: Any, source: Source, found: Layout, file_type: int) -> None:
    """Hand all of it to a GGUFWriter."""
    config = source.opened.model.config.get_text_config()
    head, rotation = head_size(config), rotation_of(config)
    writer.add_type("model")
    writer.add_name(Path(source.name).name)
    writer.add_file_type(file_type)
    writer.add_quantization_version(QUANTIZATION_VERSION)
    writer.add_vocab_size(found.rows)
    writer.add_context_length(context(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(found.blocks)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(found.heads)
    writer.add_head_count_kv(found.key_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rotation["rope_theta"])
    writer.add_rope_dimension_count(head)
    if rotation["rope_type"] == "linear":
        writer.add_rope_scaling_type(ggufs.package().RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rotation["factor"])
    if found.architecture == "gemma3":
        _gemma(writer, config, found)


def _gemma(writer: Any, config: Any, found: Layout) -> None:
    """Windows; what they usually are is not said, for older llama.cpp knows nothing else."""
    windowed = [each == "sliding_attention" for each in config.layer_types]
    writer.add_sliding_window(config.sliding_window)
    if windowed != gguf_config.windows(gguf_config.PATTERN, found.blocks):
        writer.add_sliding_window_pattern(windowed)
    base = config.rope_parameters["sliding_attention"]["rope_theta"]
    if base != gguf_config.LOCAL_BASE:
        writer.add_rope_freq_base_swa(base)
    if config.final_logit_softcapping is not None:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def context(config: Any) -> int:
    """Positions that llama.cpp computes as transformers does: only of Gemma 3 it knows a window."""
    window = getattr(config, "sliding_window", None)  # Llama's config has none
    positions = config.max_position_embeddings
    return positions if window is None or by_block(config) else min(window, positions)


def by_block(config: Any) -> bool:
    """Whether blocks turn positions in two ways, as Gemma 3's do."""
    return "full_attention" in config.rope_parameters


def rotation_of(config: Any) -> dict[str, Any]:
    """How positions turn, of Gemma 3 in blocks that see all of a text. Raises BadModel."""
    given = config.rope_parameters
    rotation = dict(given["full_attention"] if by_block(config) else given)
    way = rotation.setdefault("rope_type", "default")
    if way not in ROTATIONS or rotation.get("partial_rotary_factor", 1) != 1:
        raise BadModel(
            f"this model scales its rotary positions by '{way}'; GGUF export writes "
            f"{', '.join(ROTATIONS)}, turning whole heads. Convert the safetensors export with "
            "llama.cpp's convert_hf_to_gguf.py."
        )
    return rotation


def factors(model: Any) -> np.ndarray | None:
    """What llama.cpp is to divide rotary frequencies by; None where it needs no such numbers."""
    config = model.config.get_text_config()
    rotation = rotation_of(config)
    if rotation["rope_type"] != "llama3":
        return None
    head = head_size(config)
    plain = rotation["rope_theta"] ** -(torch.arange(0, head, 2, dtype=torch.float64) / head)
    used = model.base_model.rotary_emb.inv_freq.detach().cpu().double()
    return (plain / used).float().numpy()
