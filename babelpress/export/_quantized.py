"""Which linears of a run an export stores as integers, and on which grids.

Tested in tests/export/test_every_export.py.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from babelpress.errors import BadLayer, BadRun
from babelpress.export._source import Source
from babelpress.models.experts import find_stacks
from babelpress.numerics.grids import CHANNEL, Grid
from babelpress.press.codes import CodesFolder


def codes_of(source: Source) -> CodesFolder:
    """The codes of a run. Raises BadRun where nothing was quantized."""
    if source.codes is None:
        raise BadRun(
            f"nothing is quantized in {source.name}: babelpress quantize first, "
            "or --format safetensors."
        )
    return source.codes


def linears(source: Source, *, head: bool) -> tuple[dict[str, Grid], list[str]]:
    """The linears to store as integers with their grids, and lines on those that stay dense.

    Dense stay embeddings, a head that shares its weight with one and, without `head`, any head.
    Raises BadRun where nothing is left, BadLayer for a mixture of experts.
    """
    model, codes = source.opened.model, codes_of(source)
    if stacks := find_stacks(model):
        raise BadLayer(
            f"{next(iter(stacks))} of {source.name} is a stack of experts, which this format is "
            "not written for yet: use --format safetensors."
        )
    modules = {name: model.get_submodule(name) for name in codes.names()}
    embeddings = {name for name, m in modules.items() if isinstance(m, nn.Embedding)}
    shared = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    last = model.get_output_embeddings()
    heads = {
        name for name, m in modules.items() if m is last and (not head or id(m.weight) in shared)
    }
    chosen = [name for name in modules if name not in embeddings | heads]
    if not chosen:
        raise BadRun(
            f"{source.name} has codes of {', '.join(modules)} only, which this format stores "
            "dense: use --format safetensors."
        )
    lines = [
        f"{name}: quantized in the run, stored dense here"
        for name in modules
        if name in embeddings | heads
    ]
    return _grids({name: codes.row(name) for name in chosen}), lines


def left_dense(source: Source, stored: Iterable[str], kinds: tuple[type, ...]) -> list[str]:
    """Modules of these kinds that are not among the stored ones, and linears carried over."""
    there = set(stored)
    named = source.opened.model.named_modules()
    own = [name for name, m in named if isinstance(m, kinds) and name not in there]
    return [*own, *carried_linears(source)]


def carried_linears(source: Source) -> list[str]:
    """The modules of the tables among the tensors that the model's class does not know."""
    tables = (each.name for each in source.opened.carried if len(each.shape) == 2)
    return [name.removesuffix(".weight") for name in tables if name.endswith(".weight")]


def _grids(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Grid]:
    """The grid of every linear.

    A group as wide as a linear is a channel, unless it is the group of a wider linear too.
    """
    parted = {row["group"] for row in rows.values() if row["group"] != row["shape"][1]}
    found: dict[str, Grid] = {}
    for name, row in rows.items():
        group = row["group"] if row["group"] in parted else CHANNEL
        found[name] = Grid(row["bits"], group, row["symmetric"])
    return found
