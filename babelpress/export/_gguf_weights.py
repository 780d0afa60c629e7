"""The weights of a model as GGUF has them: which type each tensor has, and its bytes.

Tested in tests/export/test_gguf.py.

Shapes: O outputs, I inputs of a linear.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from babelpress.errors import NotFinite
from babelpress.export import _gguf_blocks as blocks
from babelpress.export._source import Source
from babelpress.models import gguf_package as ggufs
from babelpress.models.gguf_names import Layout, parameters
from babelpress.numerics.grids import Codes
from babelpress.press.codes import CodesFolder

FLOATS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
INSIDE = "blk."  # how names of tensors inside blocks begin
LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor to come: both names, type, shape, and the order of its rows where that changes.

    `raised` is added to each of its numbers.
    """

    name: str
    parameter: str
    kind: str
    shape: tuple[int, ...]
    order: Tensor | None
    coded: bool
    raised: float


def exact(source: Source) -> str:
    """The kind of file that holds the weights of a model as they are; GGUF's widest is float32."""
    return FLOATS.get(source.opened.stored_dtype, "f32")


def inputs(model: PreTrainedModel, found: Layout) -> dict[str, int]:
    """Inputs of every matrix inside blocks, by its name in the file."""
    named = {found.name(parameter): each for parameter, each in parameters(model).items()}
    return {
        name: each.shape[1]
        for name, each in named.items()
        if name.startswith(INSIDE) and each.ndim == 2
    }


def parts(source: Source, found: Layout, kind: str) -> list[Part]:
    """Every tensor of a file of a kind, in the model's order."""
    codes = source.codes if kind in ("auto", "codes") else None
    made = []
    for parameter, tensor in parameters(source.opened.model).items():
        name, order = found.name(parameter), found.order(parameter)
        own = None if codes is None else _type_of_codes(codes, parameter)
        chosen = own or _type(tensor, kind)
        raised = found.raised(parameter)
        shape = tuple(tensor.shape)
        made.append(Part(name, parameter, chosen, shape, order, own is not None, raised))
    return made


def _type_of_codes(codes: CodesFolder, parameter: str) -> str | None:
    module, _, which = parameter.rpartition(".")
    if which != "weight" or module not in codes.names():
        return None
    return blocks.kind(codes.load(module))


def _type(tensor: Tensor, kind: str) -> str:
    if tensor.ndim == 1:
        return "F32"
    if kind in FLOATS.values():
        return kind.upper()
    return "Q8_0" if kind == "q8_0" and tensor.shape[1] % blocks.WIDTH == 0 else "F16"


def tensors(source: Source, parts: list[Part]) -> Iterator[np.ndarray]:
    """The data of every part, one in memory at a time."""
    weights = parameters(source.opened.model)
    for part in parts:
        if part.coded:
            assert source.codes is not None
            codes = source.codes.load(part.parameter.removesuffix(".weight"))
            yield blocks.encode(_reordered(codes, part.order), part.kind)
        else:
            tensor = weights[part.parameter].detach().cpu()
            yield _dense(part, tensor if part.order is None else tensor[part.order])


def _reordered(codes: Codes, order: Tensor | None) -> Codes:
    if order is None:
        return codes
    tensors = {name: tensor[order] for name, tensor in codes.tensors().items()}
    return Codes.from_tensors(codes.bits, codes.symmetric, tensors)


def _dense(part: Part, tensor: Tensor) -> np.ndarray:
    tensor = tensor.float() + part.raised
    if part.kind == "F32":
        return tensor.numpy()
    if part.kind == "BF16":
        return tensor.bfloat16().contiguous().view(torch.uint8).numpy()
    if part.kind == "Q8_0":
        gguf = ggufs.package()
        return gguf.quants.quantize(tensor.numpy(), gguf.GGMLQuantizationType.Q8_0)
    if (worst := float(tensor.abs().max())) > LARGEST:
        raise NotFinite(
            f"{part.parameter} holds {worst:.3g}, and F16 ends at {LARGEST:.0f}. "
            "Give --type bf16 or q8_0."
        )
    return tensor.half().numpy()


def announce(gguf: Any, writer: Any, part: Part) -> None:
    """Tell a GGUFWriter of a tensor to come."""
    kind = gguf.GGMLQuantizationType[part.kind]
    if part.kind in ("F32", "F16"):
        dtype = np.float32 if part.kind == "F32" else np.float16
        size = int(np.prod(part.shape)) * np.dtype(dtype).itemsize
        writer.add_tensor_info(part.name, part.shape, np.dtype(dtype), size, kind)
        return
    shape = gguf.quants.quant_shape_to_byte_shape(part.shape, kind)
    writer.add_tensor_info(part.name, shape, np.dtype(np.uint8), int(np.prod(shape)), kind)


def file_type(gguf: Any, parts: list[Part]) -> int:
    """The type of most matrices inside blocks, as llama.cpp's number for a whole file."""
    inside = Counter(p.kind for p in parts if p.name.startswith(INSIDE) and len(p.shape) == 2)
    name = inside.most_common(1)[0][0]
    return int(gguf.LlamaFileType["ALL_F32" if name == "F32" else f"MOSTLY_{name}"])
