"""Models that GGUF is read and written of: llama.cpp's names for tensors, the order of their rows.

llama.cpp's `llama` architecture turns neighbouring outputs 2i and 2i + 1 of a head by one angle,
where transformers turns i and i + d/2 (d outputs of a head). So rows of the query and key
projections change places: row i of a head goes to 2i, row i + d/2 to 2i + 1. Scores of attention
are sums over a head and stay what they were. Gemma 3 multiplies by one more than the weight of a
norm, and its files hold the sum.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from babelpress.errors import BadModel
from babelpress.models import gguf_config
from babelpress.models import gguf_package as ggufs

ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3_text": "gemma3",
}
TURNED = ("llama",)  # architectures whose queries and keys change rows
# What computes between the linears of a feed-forward, and how a config calls it.
ACTIVATION = {"gemma3": ("hidden_activation", "gelu_pytorch_tanh")}
SILU = ("hidden_act", "silu")
QKV = frozenset({"q_proj", "k_proj", "v_proj"})
# Linears whose bias llama.cpp reads.
BIASED = {
    "llama": QKV | {"o_proj", "gate_proj", "up_proj", "down_proj"},
    "qwen2": QKV,
    "qwen3": QKV,
    "gemma3": frozenset(),
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

    def back(self, parameter: str) -> Tensor | None:
        """Which row of llama.cpp's is each of ours."""
        order = self.order(parameter)
        return None if order is None else order.argsort()

    def raised(self, parameter: str) -> float:
        """What is added to a weight in the file."""
        return float(gguf_config.raised(self.architecture, parameter))

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
    where, computed = ACTIVATION.get(architecture, SILU)
    if (found := getattr(config, where)) != computed:
        raise BadModel(
            f"this {model.config.model_type} uses {found} where llama.cpp computes {computed}, so "
            "it cannot be written as GGUF."
        )
    if architecture == "gemma3":
        _check_gemma(config)
    head, blocks = head_size(config), config.num_hidden_layers
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


def _check_gemma(config: Any) -> None:
    """Raise BadModel for what llama.cpp's gemma3 does in one way only."""
    by = gguf_config.scores_by(config.to_dict())
    local = config.rope_parameters["sliding_attention"]
    for what, wrong in {
        f"divides scores of attention by the root of {config.query_pre_attn_scalar}, not of {by}": (
            config.query_pre_attn_scalar != by
        ),
        "bends scores of attention (attn_logit_softcapping)": config.attn_logit_softcapping,
        "sees text on both sides": config.use_bidirectional_attention,
        "scales positions of blocks with a window": local["rope_type"] != "default",
    }.items():
        if wrong:
            raise BadModel(
                f"this gemma3 {what}, which llama.cpp's does not, so it cannot be written as GGUF."
            )


def head_size(config: Any) -> int:
    """Outputs of one head: the config's own number, or what the hidden size makes it."""
    given = getattr(config, "head_dim", None)  # a config of Qwen2 may lack it
    return given or config.hidden_size // config.num_attention_heads


def parameters(model: PreTrainedModel) -> Mapping[str, Tensor]:
    """Every parameter by name, tied ones once."""
    return dict(model.named_parameters())
