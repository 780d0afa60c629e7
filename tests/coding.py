"""Random codes of linears, and which block a linear is in."""

import torch

from babelpress.numerics.grids import Codes, Grid


def coded(rows, inputs, *, bits=4, group=8, symmetric=True):
    grid = Grid(bits, group, symmetric)
    weight_OI = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(rows))
    scale_OG, zero_OG = grid.fit_groups(weight_OI, "here")
    wide = [each.repeat_interleave(group, 1) for each in (scale_OG, zero_OG)]
    return Codes.of(grid, grid.code(weight_OI, *wide), scale_OG, zero_OG)


def index_of(name):
    """The block that a linear is in."""
    inside = name.removeprefix("model.layers.")
    return None if inside == name else int(inside.partition(".")[0])
