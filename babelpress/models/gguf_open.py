"""A model out of a GGUF file: its blocks unpacked by transformers, its config and tokenizer by us.

Every tensor of the file has to have a place in the model, and every weight of the model a tensor:
transformers leaves out what it does not know.

Tested in tests/models/test_gguf_open.py.
"""

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from babelpress.errors import BadModel
from babelpress.models import gguf_config, gguf_header
from babelpress.models import gguf_package as ggufs
from babelpress.models.gguf_header import Header
from babelpress.system.processor import attention


def config_of(header: Header) -> PreTrainedConfig:
    """The config of a file. Raises BadModel as gguf_config does."""
    found = gguf_config.config(header)
    return AutoConfig.for_model(found.pop("model_type"), **found)


def model_of(path: Path, *, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a file, with all its weights.

    Raises BadModel where tensors are missing or have no place, MissingPackage without the gguf
    package.
    """
    ggufs.package()
    header = gguf_header.read(path)
    config = config_of(header)
    with redirect_stderr(StringIO()):  # a bar of another kind than those that can be told off
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(path.parent),
            gguf_file=path.name,
            config=config,
            dtype=dtype,
            attn_implementation=attention(device),
            output_loading_info=True,
            local_files_only=True,
        )
    model, loading = loaded
    if missing := sorted(loading["missing_keys"]):
        raise BadModel(
            f"{path} lacks {len(missing)} of the weights of {type(model).__name__}, {missing[0]} "
            "first. Get a whole copy of the file."
        )
    if unknown := _without_place(header, model):
        raise BadModel(
            f"{path} has {len(unknown)} tensors for which {type(model).__name__} has no place, "
            f"{unknown[0]} first: it would be another model without them. Give its safetensors "
            "folder."
        )
    return model


def _without_place(header: Header, model: PreTrainedModel) -> list[str]:
    gguf = ggufs.package()
    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    blocks = model.config.get_text_config().num_hidden_layers
    names = gguf.get_tensor_name_map(numbers[header.architecture], blocks)
    known = {names.get_name(each, try_suffixes=(".weight", ".bias")) for each in model.state_dict()}
    return sorted(set(header.tensors) - known - {gguf_config.FACTORS})
