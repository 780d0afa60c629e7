"""A model out of a GGUF file: its blocks unpacked, its rows in the order of transformers.

Every tensor of the file has to have a place in the model, and every weight of the model a tensor.
transformers reads GGUF too, but leaves out what it does not know, and what it has read so it takes
for quantized and does not save; that its weights are these is a test.

Tested in tests/models/test_gguf_open.py.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from babelpress.errors import BadModel
from babelpress.models import gguf_config, gguf_header
from babelpress.models import gguf_package as ggufs
from babelpress.models.gguf_header import Header, Stored
from babelpress.models.gguf_names import layout, parameters
from babelpress.system.processor import attention


def config_of(header: Header) -> PreTrainedConfig:
    """The config of a file. Raises BadModel as gguf_config does."""
    found = gguf_config.config(header)
    return AutoConfig.for_model(found.pop("model_type"), **found)


def model_of(path: Path, *, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a file, with all its weights.

    Raises BadModel where tensors are missing, of another shape, or have no place, MissingPackage
    without the gguf package.
    """
    header = gguf_header.read(path)
    config = config_of(header)
    with torch.device("meta"):
        shapes = AutoModelForCausalLM.from_config(config)
    return type(shapes).from_pretrained(
        None,
        config=config,
        state_dict=_weights(header, shapes, dtype),
        dtype=dtype,
        attn_implementation=attention(device),
    )


def _weights(header: Header, shapes: PreTrainedModel, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights of a file by the names of a model that has none."""
    found, ours = layout(shapes), parameters(shapes)
    names = {found.name(parameter): parameter for parameter in ours}
    _check(header, names, {name: tuple(ours[names[name]].shape) for name in names})
    data = np.memmap(header.path, mode="r")
    made: dict[str, Tensor] = {}
    for name, parameter in names.items():
        tensor = _unpacked(data, header.tensors[name]) - found.raised(parameter)
        back = found.back(parameter)
        made[parameter] = (tensor if back is None else tensor[back]).to(dtype)
    return made


def _unpacked(data: np.ndarray, stored: Stored) -> Tensor:
    """A tensor in float32."""
    gguf, kind = ggufs.package(), stored.kind
    *rows, width = stored.shape
    size = width // kind.block * kind.bytes
    blocks = data[stored.start : stored.start + math.prod(rows) * size].reshape(*rows, size)
    made: Any = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind.name])
    return torch.from_numpy(np.array(made, dtype=np.float32))


def _check(header: Header, names: dict[str, str], shapes: dict[str, tuple[int, ...]]) -> None:
    there = header.tensors
    if missing := sorted(set(names) - set(there)):
        raise BadModel(
            f"{header.path} lacks {len(missing)} of the tensors of a {header.architecture}, "
            f"{missing[0]} first. Get a whole copy of the file."
        )
    if unknown := sorted(set(there) - set(names) - {gguf_config.FACTORS}):
        raise BadModel(
            f"{header.path} has {len(unknown)} tensors for which a {header.architecture} has no "
            f"place here, {unknown[0]} first: it would be another model without them. Give its "
            "safetensors folder."
        )
    for name, shape in shapes.items():
        if there[name].shape != shape:
            raise BadModel(
                f"{header.path}: {name} is {there[name].shape}, and by the metadata it has to be "
                f"{shape}. Get the file again."
            )
