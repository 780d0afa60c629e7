"""A model of the same class with other shapes: fewer blocks, neurons or heads, as its config says.

The config decides: what is made is what transformers makes of it, so that a saved folder loads in
whatever reads such configs. Tensors are given by name, and have to be those that the config asks
for.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from babelpress.models.quiet import quiet
from babelpress.models.wide import widen

META = "meta"  # torch's word for tensors that have a shape and no numbers


def bare(model: PreTrainedModel, config: Any = None) -> PreTrainedModel:
    """A model as `config` says, without weights: shapes alone. By default that of the model."""
    with torch.device(META):
        return blank(model, model.config if config is None else config)


def blank(model: PreTrainedModel, config: Any) -> PreTrainedModel:
    """A model of this class as `config` says, its weights at random, in evaluation mode.

    One of a model without weights has none either.
    """
    place = torch.device(META) if model.device.type == META else nullcontext()
    with quiet(), place, torch.random.fork_rng(devices=[]):
        made: PreTrainedModel = type(model)._from_config(deepcopy(config), dtype=model.dtype)
    if getattr(model, "pooler", False) is None:  # sentence encoders pool by themselves
        made.pooler = None  # type: ignore[assignment]
    if (generation := getattr(model, "generation_config", None)) is not None:
        made.generation_config = deepcopy(generation)
    widen(made)
    return made.eval()


def misfits(made: PreTrainedModel, tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that `made` has no place for, lacks, or has of another shape."""
    own = made.state_dict()
    left = [name for name in tensors if name not in own]
    wrong = [
        name
        for name, mine in own.items()
        if name not in tensors or tensors[name].shape != mine.shape
    ]
    return left + wrong


def filled(model: PreTrainedModel, made: PreTrainedModel, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors in their places, on the device of `model`."""
    made.load_state_dict(dict(tensors))
    made.to(model.device)  # type: ignore[arg-type]
