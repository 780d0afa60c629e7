"""A transformers folder: weights, config, generation config, tokenizer, and `babelpress.json`.

Linears may be stored by other tensors than their weight. Names on disk can differ from those of
the modules, and tied weights are stored once; both are left to transformers.

Tested in tests/export/test_every_export.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from babelpress.errors import BadRun, NotFinite
from babelpress.export._source import Source, record
from babelpress.models import carried
from babelpress.models.quiet import quiet
from babelpress.models.tokenizers import replaced_line, save_tokenizer
from babelpress.numerics.finite import all_finite
from babelpress.system.files import read_json, write_json

CONFIG = "config.json"
CODE = "auto_map"  # which code of a model's authors to run
# vLLM refuses a sparsity_config, even one that says "dense"
NEVER = ("quantization_config", "sparsity_config", "compression_config")


def save(
    source: Source,
    folder: Path,
    form: str,
    linears: Mapping[str, Mapping[str, Tensor]] | None = None,
    quantization: Mapping[str, Any] | None = None,
) -> list[str]:
    """Write the model in the dtype it came in; give the lines to tell the user.

    `linears` are the tensors that stand in place of `NAME.weight`, or of any other tensor of the
    same name; `quantization` goes into the config. Code of a model's authors is left out.
    Raises NotFinite naming a tensor, BadRun where the disk refuses.
    """
    opened = source.opened
    tensors = _tensors(opened.model, opened.stored_dtype)
    for name, parts in (linears or {}).items():
        del tensors[f"{name}.weight"]
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    _check_finite(tensors)
    try:
        with quiet():
            opened.model.save_pretrained(folder, state_dict=tensors)
        carried.save(opened.carried, folder)
        save_tokenizer(opened.tokenizer, folder, opened.files)
    except SafetensorError as error:
        raise BadRun(f"cannot write the model to {folder}: {error}.") from error
    record(source, folder, form)
    lines = carried.lines([each.name for each in opened.carried])
    lines += _mend(folder, opened.stored_dtype, quantization)
    return [*lines, *replaced_line(opened.replaced)]


def _tensors(model: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of a model, weights in `dtype`; what shares memory goes on sharing it."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    same = model.dtype == dtype  # a model of several dtypes stays so
    cast: dict[int, Tensor] = {}
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        found[name] = tensor
        if name in parameters and not same:
            found[name] = cast.setdefault(id(parameters[name]), tensor.to(dtype))
    return found


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not all_finite(tensor):
            raise NotFinite(f"{name} holds NaN or infinity in {tensor.dtype}; nothing is exported.")


def _mend(folder: Path, dtype: torch.dtype, quantization: Mapping[str, Any] | None) -> list[str]:
    """Put into the config what the folder now holds; take out code of a model's authors."""
    config = read_json(folder / CONFIG)
    foreign = CODE in config
    config = {key: value for key, value in config.items() if key not in (CODE, *NEVER)}
    config["dtype"] = str(dtype).removeprefix("torch.")
    if quantization is not None:
        config["quantization_config"] = dict(quantization)
    write_json(folder / CONFIG, config)
    for path in folder.glob("*_config.json"):
        if CODE in (found := read_json(path)):  # all others stay as they came, to the byte
            write_json(path, {k: v for k, v in found.items() if k != CODE})
    for path in folder.glob("*.py"):
        path.unlink()
    if not foreign:
        return []
    return ["the model runs code of its authors, which is left out: get it from where it came"]
