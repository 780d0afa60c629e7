"""Where the bytes of a model are: parameters, bytes dense and as stored, by part.

Stored means packed: codes at their bits, scales at 16 bits, zero points of asymmetric grids at the
bits of a code. What has no codes is stored in the dtype of the file.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from babelpress.models.experts import slice_names
from babelpress.models.headers import Entry

IndexOf = Callable[[str], int | None]  # the block that a weight is in, by its full name
Row = Mapping[str, Any]  # bits, symmetric, group and shape of a linear

SCALE_BITS = 16
PARTS = ("blocks", "embedding", "head", "other", "carried over")


def ledger(
    model: PreTrainedModel,
    codes: Mapping[str, Row],
    index_of: IndexOf,
    stored: torch.dtype,
    *,
    carried: Iterable[Entry] = (),
) -> dict[str, Any]:
    """The whole and its parts; `stored` is the dtype of the file, `codes` are rows by full name.

    A head that is tied to the embedding is counted there. What is `carried` over has the bytes that
    it had.
    """
    tables = {
        id(module.weight): part
        for part, module in (
            ("head", model.get_output_embeddings()),
            ("embedding", model.get_input_embeddings()),
        )
        if module is not None
    }
    sums = {part: [0, 0, 0.0] for part in PARTS}
    for name, parameter in model.named_parameters():
        inside = "other" if index_of(name) is None else "blocks"
        row = sums[tables.get(id(parameter), inside)]
        dense = parameter.numel() * stored.itemsize
        row[0] += parameter.numel()
        row[1] += dense
        coded = [codes[each] for each in slice_names(name, parameter) if each in codes]
        loose = parameter.numel() - sum(math.prod(each["shape"]) for each in coded)
        row[2] += loose * stored.itemsize + sum(map(stored_bytes, coded))
    for each in carried:
        row = sums["carried over"]
        row[0], row[1], row[2] = row[0] + each.numbers, row[1] + each.bytes, row[2] + each.bytes
    parts = [_row(part, *row) for part, row in sums.items() if row[0]]
    whole = [sum(row[column] for row in sums.values()) for column in range(3)]
    total = _row("whole", *whole)
    return {
        "parameters": total["parameters"],
        "bytes_dense": total["bytes_dense"],
        "bytes_stored": total["bytes_stored"],
        "bits_per_weight": total["bits"],
        "parts": parts,
    }


def stored_bytes(row: Row) -> float:
    """Bytes of a linear's codes, scales and zero points, packed; `row` is that of `codes.py`."""
    weights = math.prod(row["shape"])
    groups = weights // row["group"]
    zeros = 0 if row["symmetric"] else groups * row["bits"]
    return (weights * row["bits"] + groups * SCALE_BITS + zeros) / 8


def _row(part: str, parameters: float, dense: float, stored: float) -> dict[str, Any]:
    return {
        "part": part,
        "parameters": int(parameters),
        "bytes_dense": int(dense),
        "bytes_stored": round(stored),
        "bits": round(8 * stored / parameters, 4),
    }
