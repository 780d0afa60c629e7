"""LLM.int8 for bitsandbytes: transformers loads it, on a CPU too.

Linears of blocks are stored as bitsandbytes 0.50 stores them: `weight` (O, I) int8 and `SCB` (O,)
float32, the codes and the largest weight of every row (numerics/vectorwise.py), and
`weight_format`, 0 for rows. All else stays dense, heads too. No calibration is read.

LLM.int8 rounds twice. The weights are rounded here, once, and are in the file; what a linear reads
is rounded by bitsandbytes while the model runs, but for inputs that reach `threshold`. Scores of
the weights alone (those of rtn at 8 bits, group channel) are not those of the model as it runs, so
both changes are told, on real text; `babelpress eval` scores the folder as bitsandbytes runs it.

Shapes: O outputs, I inputs of a linear.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from babelpress.errors import BadLayer, BadModel, BadSetting, NotFinite
from babelpress.export import _folder
from babelpress.export._source import Source
from babelpress.export._tried import change, finite, in_torch, texts_of
from babelpress.models.linears import linears
from babelpress.models.recording import replaced
from babelpress.models.walk import Walk
from babelpress.numerics.vectorwise import THRESHOLD, coded, product, stood_for

FORM = "bitsandbytes"
SERVES = {
    "transformers with bitsandbytes": """from transformers import AutoModelForCausalLM, \
AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({folder})
tokenizer = AutoTokenizer.from_pretrained({folder})""",
}
LIBRARY = "transformers"

Coded = dict[str, tuple[Tensor, Tensor]]  # codes and largest weights by the name of a linear


def write(source: Source, folder: Path, *, threshold: float = THRESHOLD) -> list[str]:
    """Write linears of blocks at 8 bits and all else dense, in the dtype the model came in.

    Raises BadModel for an encoder-decoder, BadLayer for what bitsandbytes has no place for,
    BadSetting for a threshold below 0, NotFinite for a weight beyond float16.
    """
    if threshold < 0:
        raise BadSetting(f"threshold is {threshold}. Give 0, which leaves no input out, or more.")
    modules = _modules(source)
    codes = {name: _coded(name, module) for name, module in modules.items()}
    tensors = {
        name: {"weight": code_OI, "SCB": largest_O, "weight_format": torch.tensor(0).byte()}
        for name, (code_OI, largest_O) in codes.items()
    }
    lines = _folder.save(source, folder, FORM, tensors, _config(source, modules, threshold))
    weights = sum(code_OI.numel() for code_OI, _ in codes.values())
    tables = [m.weight for m in source.opened.model.modules() if isinstance(m, nn.Embedding)]
    dense = sum({id(each): each.numel() for each in tables}.values())
    count = (
        f"{len(codes)} linears of blocks at 8 bits a row: {weights:,} weights; embeddings stay as "
        f"they are: {dense:,}"
    )
    if source.codes is not None:
        lines.append("numbers that the run's codes stand for are rounded anew to 8 bits")
    return [count, *_changes(source, modules, codes, threshold), *lines]


def _modules(source: Source) -> dict[str, nn.Linear]:
    """The linears of blocks by name."""
    model = source.opened.model
    if model.config.is_encoder_decoder:
        raise BadModel(
            f"{source.name} is an encoder with a decoder ({type(model).__name__}), and {FORM} was "
            "not tried with one: use --format safetensors."
        )
    walk = Walk(model)
    found: dict[str, nn.Linear] = {}
    for index, block in enumerate(walk.blocks):
        for inside, layer in linears(block).items():
            if not isinstance(layer, nn.Linear):
                raise BadLayer(
                    f"{walk.name(index, inside)} is a {type(layer).__name__}, and {FORM} rounds "
                    "nn.Linear alone: use --format safetensors."
                )
            found[walk.name(index, inside)] = layer
    return found


def _coded(name: str, module: nn.Linear) -> tuple[Tensor, Tensor]:
    code_OI, largest_O = coded(module.weight)
    if not largest_O.isfinite().all():
        raise NotFinite(f"a weight of {name} does not fit float16, in which {FORM} reads weights.")
    return code_OI, largest_O


def _config(source: Source, modules: Mapping[str, nn.Linear], threshold: float) -> dict[str, Any]:
    """What transformers reads; other linears are named, for it would round all but a head."""
    model = source.opened.model
    named = model.named_modules()
    dense = [name for name, m in named if isinstance(m, nn.Linear) and name not in modules]
    if getattr(model, "pooler", False) is None:
        dense.append("pooler")  # which the class makes anew, where sentences are pooled otherwise
    return {
        "quant_method": FORM,
        "load_in_8bit": True,
        "llm_int8_threshold": float(threshold),
        "llm_int8_skip_modules": [re.escape(name) for name in dense],
    }


# ---- what it changes -----------------------------------------------------------------------


def _changes(
    source: Source, modules: Mapping[str, nn.Linear], codes: Coded, threshold: float
) -> list[str]:
    """Lines on what rounded weights change on real text, and rounded inputs besides."""
    model, texts = source.opened.model, texts_of(source)

    def found(run: Callable[[nn.Linear, Tensor, Tensor], Callable[[Tensor], Tensor]]) -> str:
        with replaced({m: run(m, *codes[name]) for name, m in modules.items()}):
            after = in_torch(model, texts)
        if not finite(after):
            raise NotFinite(f"{source.name} in {FORM} gives NaN or infinity on real text.")
        return change(texts, before, after)

    before = in_torch(model, texts)
    weights = found(_weights_alone)
    both = found(partial(_as_it_runs, threshold=threshold))
    return [
        f"rounded weights alone change the outputs on {len(texts.tags)} texts by {weights}",
        f"with inputs rounded as {FORM} does while it runs, by {both}: score it as it runs with "
        "babelpress eval",
    ]


def _weights_alone(
    module: nn.Linear, code_OI: Tensor, largest_O: Tensor
) -> Callable[[Tensor], Tensor]:
    weight_OI = stood_for(code_OI, largest_O).to(module.weight.dtype)
    return lambda x: functional.linear(x, weight_OI, module.bias)


def _as_it_runs(
    module: nn.Linear, code_OI: Tensor, largest_O: Tensor, *, threshold: float
) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        y_RO = product(x.reshape(-1, x.shape[-1]), code_OI, largest_O, threshold)
        y = y_RO.reshape(*x.shape[:-1], -1).to(x.dtype)
        return y if module.bias is None else y + module.bias

    return forward
