"""compressed-tensors, format pack-quantized: for vLLM, and transformers, which makes it dense.

Every quantized linear is stored as `weight_packed` (O, W) int32, codes packed along inputs;
`weight_scale` (O, G) in the model's dtype; `weight_shape`; and, asymmetric, `weight_zero_point`,
packed along outputs. Codes and zeros are the unsigned ones of grids.py: the format's own signed
ones plus 2^(bits−1), as it packs them. The config has the fewest fields, since loaders of
different ages refuse those that they do not know.

2, 4 and 8 bits. At 3 bits a word holds ten values up to version 0.17 of the loader and straddling
ones from 0.18 on, so no file suits both.

Shapes: O outputs, I inputs, G groups, W words.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from babelpress.errors import BadLayer, BadRun, NotFinite
from babelpress.export import _folder
from babelpress.export._quantized import codes_of, left_dense, linears
from babelpress.export._source import Source
from babelpress.models.open import Opened
from babelpress.numerics.grids import CHANNEL, Codes, Grid
from babelpress.numerics.packbits import pack

FORM = "compressed-tensors"
BITS = (2, 4, 8)
SERVES = {
    "vLLM": "vllm serve {folder}",
    "transformers with compressed-tensors": """from transformers import AutoModelForCausalLM, \
AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({folder})
tokenizer = AutoTokenizer.from_pretrained({folder})""",
    "transformers with compressed-tensors, asymmetric": """from transformers import \
AutoModelForCausalLM, AutoTokenizer, CompressedTensorsConfig

config = CompressedTensorsConfig(dequantize=True)
model = AutoModelForCausalLM.from_pretrained({folder}, quantization_config=config)
tokenizer = AutoTokenizer.from_pretrained({folder})""",
}
LIBRARY = "transformers"


def write(source: Source, folder: Path) -> list[str]:
    """Write quantized linears packed and all else dense, in the dtype the model came in.

    Raises BadRun where nothing is quantized or bits do not suit, BadLayer for a Conv1D.
    """
    grids, lines = _grids(source)
    _check(source, grids)
    codes, dtype = codes_of(source), source.opened.stored_dtype
    tensors = {name: _tensors(name, codes.load(name), dtype) for name in grids}
    dense = left_dense(source, grids, (nn.Linear,))
    lines += _folder.save(source, folder, FORM, tensors, _config(grids, dense))
    counted = [f"{count} linears: {grid}" for grid, count in _counts(grids).items()]
    return [*counted, *lines, *_hints(source, grids)]


def serves(source: Source) -> tuple[str, ...]:
    """The programs of SERVES that read this one."""
    grids, _ = _grids(source)
    plain, asymmetric = (name for name in SERVES if name != "vLLM")
    return ("vLLM", plain if all(grid.symmetric for grid in grids.values()) else asymmetric)


def _grids(source: Source) -> tuple[dict[str, Grid], list[str]]:
    """What to store on which grid; asymmetric blocks leave the head, of another grid, dense.

    transformers 5.23 makes asymmetric files dense only as it reads them, and then takes all
    linears to have the grid of the first.
    """
    grids, lines = linears(source, head=True)
    if len(set(grids.values())) == 1 or all(grid.symmetric for grid in grids.values()):
        return grids, lines
    return linears(source, head=False)


def _hints(source: Source, grids: dict[str, Grid]) -> list[str]:
    """What loaders are known to want."""
    hints = []
    if not all(grid.symmetric for grid in grids.values()):
        hints.append("asymmetric: transformers needs CompressedTensorsConfig(dequantize=True)")
    head = source.opened.model.get_output_embeddings()
    if any(source.opened.model.get_submodule(name) is head for name in grids):
        hints.append("the head is quantized: transformers reads that, vLLM may not")
    return hints


def check(opened: Opened) -> None:
    """Raise BadLayer for a Conv1D."""
    for name, module in opened.model.named_modules():
        _check_kind(name, module)


def _check_kind(name: str, module: nn.Module) -> None:
    if isinstance(module, Conv1D):
        raise BadLayer(
            f"{FORM} stores layers of the kind nn.Linear only; {name} is a Conv1D. "
            "Use --format gptq or safetensors."
        )


def _check(source: Source, grids: dict[str, Grid]) -> None:
    for name, grid in grids.items():
        _check_kind(name, source.opened.model.get_submodule(name))
        if grid.bits not in BITS:
            raise BadRun(
                f"{name} has {grid.bits} bits, which versions of {FORM} lay out in different ways. "
                f"Quantize to {', '.join(map(str, BITS))} bits, or use --format gptq."
            )


def _tensors(name: str, codes: Codes, dtype: torch.dtype) -> dict[str, Tensor]:
    scale_OG = codes.scale_OG.to(dtype)
    if not torch.equal(scale_OG.float(), codes.scale_OG):
        raise NotFinite(f"a scale of {name} does not fit {dtype}: quantize a bfloat16 model.")
    packed = {
        "weight_packed": pack(codes.codes_OI, codes.bits),
        "weight_scale": scale_OG,
        "weight_shape": torch.tensor(codes.codes_OI.shape),
    }
    if codes.symmetric:
        return packed
    return packed | {"weight_zero_point": pack(codes.zero_OG.T, codes.bits).T}


def _config(grids: dict[str, Grid], dense: list[str]) -> dict[str, Any]:
    """One group of the config for every grid; a single one goes by kind, several by name."""
    groups = {}
    for number, grid in enumerate(_counts(grids)):
        named = [name for name, its in grids.items() if its == grid]
        single = len(named) == len(grids)
        groups[f"group_{number}"] = {
            "targets": ["Linear"] if single else named,
            "weights": _weights(grid),
            "input_activations": None,
            "output_activations": None,
        }
    return {
        "quant_method": FORM,
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "ignore": dense,
        "config_groups": groups,
    }


def _weights(grid: Grid) -> dict[str, Any]:
    weights = {
        "num_bits": grid.bits,
        "type": "int",
        "symmetric": grid.symmetric,
        "strategy": "channel" if grid.group == CHANNEL else "group",
        "dynamic": False,
    }
    return weights if grid.group == CHANNEL else weights | {"group_size": grid.group}


def _counts(grids: dict[str, Grid]) -> dict[Grid, int]:
    """How many linears have a grid, the commonest first."""
    return dict(Counter(grids.values()).most_common())
