"""GPTQ files: for GPTQModel, transformers through it, and vLLM (4 or 8 bits, symmetric).

Every quantized linear is stored as `qweight` (W, O) int32, codes packed along inputs; `qzeros`
(G, W) int32, packed along outputs; `scales` (G, O) float16; `g_idx` (I,) int32, the group of every
input, here simply in order; and `bias` where there is one. Low bits come first; at 3 bits 32
values fill 3 words.

Symmetric files are of checkpoint format `gptq` (v1), which stores z − 1. Asymmetric ones are of
`gptq_v2`, which stores z itself: under v1 a zero point of 0 has no place, and GPTQModel refuses an
asymmetric v1 file that it has not written.

Shapes: O outputs, I inputs, G groups, W words.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from babelpress.errors import BadLayer, BadModel, BadRun, NotFinite
from babelpress.export import _folder
from babelpress.export._quantized import carried_linears, codes_of, left_dense, linears
from babelpress.export._source import Source
from babelpress.models.accepted import decodes
from babelpress.models.walk import Walk
from babelpress.numerics.grids import CHANNEL, Codes, Grid
from babelpress.numerics.packbits import pack

FORM = "gptq"
GROUPS = (16, 32, 64, 128, 256, 512, 1024)  # what GPTQModel takes, besides the whole row
MULTIPLE = 32  # of inputs and of outputs
VLLM_BITS = (4, 8)
SERVES = {
    "vLLM": "vllm serve {folder}",
    "GPTQModel": """from gptqmodel import GPTQModel

model = GPTQModel.load({folder})""",
}
LIBRARY = "transformers"


def write(source: Source, folder: Path) -> list[str]:
    """Write quantized linears packed and all else dense, in the dtype the model came in.

    Raises BadModel for what is no decoder alone, BadRun where nothing is quantized or the grid does
    not suit, BadLayer naming a linear whose size does not.
    """
    if not decodes(source.opened.model.config.to_dict()):
        raise BadModel(
            f"no program is known to read {FORM} files of an encoder, and {source.name} has one. "
            "Use --format compressed-tensors, which transformers reads, or safetensors."
        )
    grids, lines = linears(source, head=False)
    grid = _single(source, grids)
    model, codes = source.opened.model, codes_of(source)
    modules: dict[str, Any] = {name: model.get_submodule(name) for name in grids}
    tensors = {name: _tensors(name, codes.load(name), m.bias) for name, m in modules.items()}
    # loaders expect integers in all linears of blocks, some in those of other parts too
    walk = Walk(model)
    dense = left_dense(source, grids, (nn.Linear, Conv1D))
    others = carried_linears(source)  # whose loaders are not asked here
    skipped = [n for n in dense if n in others or walk.index_of(n) is not None or walk.beside(n)]
    lines += _folder.save(source, folder, FORM, tensors, _config(grid, skipped))
    if not _vllm_reads(grid):
        lines.append("vLLM reads GPTQ files of 4 or 8 bits, symmetric; GPTQModel reads this one")
    return [f"{len(grids)} linears: {grid}", *lines]


def serves(source: Source) -> tuple[str, ...]:
    """The programs of SERVES that read this one."""
    grids, _ = linears(source, head=False)
    return tuple(SERVES) if _vllm_reads(_single(source, grids)) else ("GPTQModel",)


def _vllm_reads(grid: Grid) -> bool:
    return grid.bits in VLLM_BITS and grid.symmetric


def _single(source: Source, grids: dict[str, Grid]) -> Grid:
    """The one grid of all linears. Raises BadRun where there are several or it does not suit."""
    first, *others = dict.fromkeys(grids.values())
    if others:
        raise BadRun(
            f"{source.name} has linears of {first} and of {others[0]}; a {FORM} file has one grid. "
            "Use --format compressed-tensors."
        )
    if first.group not in (CHANNEL, *GROUPS):
        raise BadRun(
            f"{FORM} files have groups of {', '.join(map(str, GROUPS))} or {CHANNEL}, not "
            f"{first.group}. Quantize again with one of these, or use --format compressed-tensors."
        )
    return first


def _tensors(name: str, codes: Codes, bias_O: Tensor | None) -> dict[str, Tensor]:
    outputs, inputs = codes.codes_OI.shape
    if outputs % MULTIPLE or inputs % MULTIPLE:
        raise BadLayer(
            f"{FORM} needs inputs and outputs that {MULTIPLE} divides; {name} has {inputs} and "
            f"{outputs}. Leave it out with --skip, or use --format compressed-tensors."
        )
    scale_OG = codes.scale_OG.half()
    if not torch.equal(scale_OG.float(), codes.scale_OG):
        raise NotFinite(f"a scale of {name} does not fit float16. Use --format compressed-tensors.")
    # a symmetric zero point is never 0
    stored_OG = codes.zero_OG - 1 if codes.symmetric else codes.zero_OG
    packed = {
        "qweight": pack(codes.codes_OI, codes.bits).T,
        "qzeros": pack(stored_OG.T, codes.bits),
        "scales": scale_OG.T,
        "g_idx": torch.arange(inputs, dtype=torch.int32) // codes.group,
    }
    return packed if bias_O is None else packed | {"bias": bias_O.detach().half()}


def _config(grid: Grid, skipped: list[str]) -> dict[str, Any]:
    config = {
        "quant_method": FORM,
        "bits": grid.bits,
        "group_size": -1 if grid.group == CHANNEL else grid.group,
        "desc_act": False,
        "sym": grid.symmetric,
        "checkpoint_format": "gptq" if grid.symmetric else "gptq_v2",
    }
    # a rule that begins with a minus leaves a linear dense
    rules = {f"-:^{re.escape(name)}$": {} for name in skipped}
    return config | {"dynamic": rules} if rules else config
