"""Widths of a model: units that every block has as many of, and what is left without some.

A unit has columns of one linear and rows of those before it. A unit whose columns are zero adds
nothing, so it can be cut out, rows and columns, and the model computes what it did.

Tested in tests/shrink/test_ffn.py and tests/shrink/test_heads.py.

Shapes: U units, K of them kept; C columns, R rows of a unit in one linear; O outputs, I inputs.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from babelpress.errors import BadModel
from babelpress.models.experts import Slice
from babelpress.models.linears import linears, weight
from babelpress.models.mlps import Shape
from babelpress.models.reshaped import blank, filled, misfits
from babelpress.models.walk import Walk


@dataclass(frozen=True, slots=True)
class Part:
    """The units of a block: columns of the linear `reading` them, rows of the linears before."""

    reading: str
    columns_UC: Tensor
    rows: Mapping[str, Tensor]  # (U, R) by linear


@dataclass(frozen=True, slots=True)
class Width:
    """Units of a kind in every block, and how many of them stay.

    `size` is how many of what a user counts make a unit: the heads of a group. `flag` is the
    option that asks for them, `note` what is to be told of the number.
    """

    flag: str
    parts: tuple[Part, ...]
    units: int
    kept: int
    size: int = 1
    note: str = ""

    @property
    def before(self) -> int:
        """How many there are, as a user counts them."""
        return self.units * self.size

    @property
    def after(self) -> int:
        """How many stay."""
        return self.kept * self.size


def shapes_of(walk: Walk, index: int) -> dict[str, Shape]:
    """The linears (O, I) of a block by name. Experts are none."""
    found: dict[str, Shape] = {}
    for name, each in linears(walk.blocks[index]).items():
        if not isinstance(each, Slice):
            outputs, inputs = weight(each).shape
            found[name] = outputs, inputs
    return found


def has_experts(walk: Walk) -> bool:
    """Whether any block has stacked experts."""
    every = (each for block in walk.blocks for each in linears(block).values())
    return any(isinstance(each, Slice) for each in every)


def kept_units(weight_OI: Tensor, columns_UC: Tensor, number: int) -> Tensor:
    """The `number` units that stay of a linear in which the others have columns of zeros: (K,).

    Where more units are zero than go, the first of them stay. Of a model without weights, which
    has shapes alone, the first units stay.
    """
    if weight_OI.is_meta:
        return torch.arange(number)
    zero_U = (weight_OI == 0).all(0)[columns_UC].all(1)
    # stable: those that are not zero in their order, then the zeros from the first on
    order_U = zero_U.byte().argsort(stable=True)
    return order_U[:number].sort().values


def narrowed(walk: Walk, widths: Sequence[Width], config: Any) -> PreTrainedModel:
    """A model of its own without the units whose columns are zero, as `config` says.

    Raises BadModel where its family has other shapes for that config.
    """
    tensors = dict(walk.model.state_dict())
    for width in widths:
        for index, part in enumerate(width.parts):
            reading: Any = linears(walk.blocks[index])[part.reading]
            kept_K = kept_units(weight(reading), part.columns_UC, width.kept)
            _cut(walk, tensors, index, part, kept_K)
    made = blank(walk.model, config)
    if wrong := misfits(made, tensors):
        raise BadModel(no_such(walk.model, widths, wrong[0]))
    filled(walk.model, made, tensors)
    return made


def no_such(model: PreTrainedModel, widths: Sequence[Width], where: str) -> str:
    """The line that a family cannot be made narrower so."""
    flags = " and ".join(f"--{each.flag}" for each in widths)
    return (
        f"{type(model).__name__} cannot be made narrower by its config alone: {where} has another "
        f"shape there, so no engine would load it. Leave out {flags}."
    )


def _cut(walk: Walk, tensors: dict[str, Tensor], index: int, part: Part, kept_K: Tensor) -> None:
    """Leave the kept units of a block in its tensors."""
    layers = linears(walk.blocks[index])
    for name, rows_UR in part.rows.items():
        layer: Any = layers[name]
        rows = rows_UR[kept_K.to(rows_UR.device)].flatten().sort().values
        _take(tensors, walk.name(index, name), layer, 0, rows)
    columns = part.columns_UC[kept_K.to(part.columns_UC.device)].flatten().sort().values
    _take(tensors, walk.name(index, part.reading), layers[part.reading], 1, columns)


def _take(tensors: dict[str, Tensor], name: str, layer: Any, side: int, which: Tensor) -> None:
    """Rows (side 0) with their bias, or columns (side 1): Conv1D keeps them the other way round."""
    key = f"{name}.weight"
    where = tensors[key]
    dimension = 1 - side if isinstance(layer, Conv1D) else side
    tensors[key] = where.index_select(dimension, which.to(where.device))
    if side == 0 and layer.bias is not None:
        bias_O = tensors[f"{name}.bias"]
        tensors[f"{name}.bias"] = bias_O.index_select(0, which.to(bias_O.device))


def copied(config: Any) -> tuple[Any, Any]:
    """A config of its own, and the part of it that is about text."""
    own = deepcopy(config)
    return own, own.get_text_config()


def rows_of(units: int, size: int, start: int = 0) -> Tensor:
    """Row numbers (U, R) of units of `size` rows, one after the other from `start` on."""
    return torch.arange(start, start + units * size).view(units, size)
