"""Which models GGUF export knows, how llama.cpp calls their tensors, and the order of their rows.

llama.cpp's `llama` architecture turns neighbouring outputs 2i and 2i + 1 of a head by one angle,
where transformers turns i and i + d/2 (d outputs of a head). So rows of the query and key
projections change places: row i of a head goes to 2i, row i + d/2 to 2i + 1. Scores of attention
are sums over a head and stay what they were.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from babelpress.errors import BadModel
from babelpress.models import gguf_package as ggufs
from babelpress.models.walk import Walk

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
TURNED = ("llama",)  # architectures whose queries and keys change rows
QKV = frozenset({"q_proj", "k_proj", "v_proj"})
# Linears whose bias llama.cpp reads.
BIASED = {
    "llama": QKV | {"o_proj", "gate_proj", "up_proj", "down_proj"},
    "qwen2": QKV,
    "qwen3": QKV,
}


@dataclass(frozen=True, slots=True)
class Layout:
    """A model as llama.cpp sees it: architecture, number of blocks, and what rotates its heads."""

    architecture: str
    blocks: int
    heads: int
    key_heads: int
    head: int  # outputs of one head
    rows: int  # embeddings
    names: Any  # the gguf package's own map

    def name(self, parameter: str) -> str:
        """The GGUF name of a parameter of the transformers model. Raises BadModel without one."""
        found = self.names.get_name(parameter, try_suffixes=(".weight", ".bias"))
        if found is None or not self._reads(parameter):
            raise BadModel(
                f"llama.cpp's {self.architecture} has no place for the weight {parameter}, so this "
                "model cannot be written as GGUF."
            )
        return found

    def order(self, parameter: str) -> Tensor | None:
        """Which row of ours is each of llama.cpp's; None where they are the same."""
        module = parameter.rpartition(".")[0].rpartition(".")[2]
        heads = {"q_proj": self.heads, "k_proj": self.key_heads}.get(module)
        if self.architecture not in TURNED or heads is None:
            return None
        rows = torch.arange(heads * self.head).view(heads, 2, self.head // 2)
        return rows.transpose(1, 2).reshape(-1)

    def _reads(self, parameter: str) -> bool:
        module, _, kind = parameter.rpartition(".")
        return kind == "weight" or module.rpartition(".")[2] in BIASED[self.architecture]


def layout(model: PreTrainedModel) -> Layout:
    """The layout of a model. Raises BadModel for a family that this export does not know."""
    gguf = ggufs.package()
    config = model.config.get_text_config()
    architecture = ARCHITECTURES.get(model.config.model_type)
    if architecture is None:
        raise BadModel(
            f"{model.config.model_type} cannot be written for llama.cpp. "
            f"Supported: {', '.join(ARCHITECTURES)}."
        )
    if config.hidden_act != "silu":
        raise BadModel(
            f"this {model.config.model_type} uses {config.hidden_act} where llama.cpp computes "
            "silu, so it cannot be written as GGUF."
        )
    head, blocks = head_size(config), len(Walk(model).blocks)
    if architecture == "qwen2" and head * config.num_attention_heads != config.hidden_size:
        raise BadModel(
            f"this qwen2 has {config.num_attention_heads} heads of {head}, which do not make its "
            f"{config.hidden_size} hidden numbers as llama.cpp has it."
        )
    known = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    return Layout(
        architecture,
        blocks,
        config.num_attention_heads,
        config.num_key_value_heads,
        head,
        cast(nn.Embedding, model.get_input_embeddings()).weight.shape[0],
        gguf.get_tensor_name_map(known[architecture], blocks),
    )


def head_size(config: Any) -> int:
    """Outputs of one head: the config's own number, or what the hidden size makes it."""
    given = getattr(config, "head_dim", None)  # a config of Qwen2 may lack it
    return given or config.hidden_size // config.num_attention_heads


def parameters(model: PreTrainedModel) -> Mapping[str, Tensor]:
    """Every parameter by name, tied ones once."""
    return dict(model.named_parameters())
