"""Neurons of the MLPs: rows of the linears that feed them, and columns of the one that reads them.

The number that stays is a multiple of what engines like: matrix kernels work on 64 columns or more
at once, and llama.cpp's K-quants need a multiple of 256.

Shapes: U neurons.
"""

from typing import Any

import torch

from babelpress.errors import BadModel
from babelpress.models.mlps import Mlp, widest_mlp
from babelpress.models.walk import Walk
from babelpress.shrink._sizes import Size
from babelpress.shrink._widths import Part, Width, has_experts, rows_of, shapes_of

UNITS = "neurons"
# What configs call it. GPT-2 says None for four times its hidden size.
KEYS = (
    *("intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "hidden_dim"),
    "n_inner",
)
FOURFOLD = "n_inner"


def find(name: str, walk: Walk, asked: str, multiple: int = 1) -> Width:
    """The neurons of every block, and how many stay.

    Raises BadModel for experts, for blocks whose MLPs are not found or not equally wide, and for a
    config without a number for that; BadSetting for a size that cannot be had.
    """
    if has_experts(walk):
        raise BadModel(
            f"{name} is a mixture of experts ({type(walk.model).__name__}), whose neurons are not "
            "taken out here. Leave out --ffn."
        )
    mlps = [widest_mlp(shapes_of(walk, index)) for index in range(len(walk.blocks))]
    found = [each for each in mlps if each is not None]
    widths = {each.width for each in found}
    if len(found) < len(mlps) or len(widths) != 1:
        raise BadModel(
            f"the blocks of {name} ({type(walk.model).__name__}) have MLPs of "
            f"{_words(widths) if widths else 'no known shape'}, and a config has one number for "
            "all. Leave out --ffn."
        )
    width = widths.pop()
    if not _keys(walk.model.config.get_text_config(), width):
        raise BadModel(
            f"the config of {name} ({type(walk.model).__name__}) has no number for its {width:,} "
            f"{UNITS}, so no engine would load it with fewer. Leave out --ffn."
        )
    size = Size(asked, "ffn", UNITS)
    kept = size.of(width, multiple, "--multiple")
    parts = tuple(map(_part, found))
    return Width("ffn", parts, width, kept, note=size.rounded(width, kept))


def resize(text: Any, width: Width) -> None:
    """Put the number that stays into a text config."""
    for key in _keys(text, width.units):
        setattr(text, key, width.kept)


def _keys(text: Any, width: int) -> list[str]:
    own = vars(text)
    found = [key for key in KEYS if own.get(key) == width]
    if not found and FOURFOLD in own and own[FOURFOLD] is None:
        return [FOURFOLD]
    return found


def _part(mlp: Mlp) -> Part:
    each_U1 = rows_of(mlp.width, 1)
    halves = torch.cat([each_U1 + part * mlp.width for part in range(mlp.times)], 1)
    return Part(mlp.reading, each_U1, dict.fromkeys(mlp.feeding, halves))


def _words(widths: set[int]) -> str:
    return ", ".join(f"{each:,}" for each in sorted(widths)) + f" {UNITS}"
