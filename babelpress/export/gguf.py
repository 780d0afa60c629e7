"""GGUF for llama.cpp: model.gguf, weights and tokenizer in one file.

    kind=auto     quantized linears by their codes where GGUF holds them exactly, all else F16
    kind=codes    the same, and an error where the run holds no codes
    kind=f16      every matrix F16
    kind=q8_0     every matrix Q8_0 (8 bits, a scale for 32 inputs), rounded anew

So a quantized run is carried over bit for bit: llama.cpp computes with (q − z)·scale of the very
integers that were found here (_gguf_blocks.py says as which type). Norms and biases are F32. The
tokenizer comes along; the name for its way to cut words is found (models/gguf_splits.py) or given by
`pre`. Llama, Mistral, Qwen2 and Qwen3 only.

Shapes: O outputs, I inputs of a linear.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from babelpress.errors import BadModel, BadRun, BadSetting, NotFinite
from babelpress.export import _gguf_blocks as blocks
from babelpress.export._gguf_names import Layout, head_size, layout, parameters
from babelpress.export._gguf_tokens import Vocabulary, vocabulary
from babelpress.export._source import Source
from babelpress.models import gguf_package as ggufs
from babelpress.models.gguf_splits import cuts_marks
from babelpress.numerics.grids import Codes
from babelpress.press.codes import CodesFolder

KINDS = ("auto", "codes", "f16", "q8_0")
FILE = "model.gguf"
SERVES = {"llama.cpp": "llama-server -m {folder}/model.gguf"}
FACTORS = "rope_freqs.weight"
ROTATIONS = ("default", "llama3")  # ways to scale rotary positions that GGUF holds in full
QUANTIZATION_VERSION = 2
LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor to come: both names, type, shape, and the order of its rows where that changes."""

    name: str
    parameter: str
    kind: str
    shape: tuple[int, ...]
    order: Tensor | None
    coded: bool


def write(source: Source, folder: Path, *, kind: str = "auto", pre: str = "") -> list[str]:
    """Write model.gguf. Raises BadModel for a model or tokenizer that llama.cpp has no place for.

    Raises BadSetting for an unknown kind, BadRun where codes are wanted and none are there,
    NotFinite for a weight that F16 cannot hold, MissingPackage without the gguf package.
    """
    gguf = ggufs.package()
    if kind not in KINDS:
        raise BadSetting(f"kind is '{kind}'. Choose one of {', '.join(KINDS)}.")
    if kind == "codes" and source.codes is None:
        raise BadRun(f"{source.name} holds no codes: quantize it, or give --option kind=f16.")
    model = source.opened.model
    found = layout(model)
    factors = _factors(model)
    words = vocabulary(source.opened.tokenizer, found.rows, pre)
    parts = _parts(source, found, kind)
    with closing(gguf.GGUFWriter(folder / FILE, found.architecture)) as writer:
        _metadata(writer, source, found, _file_type(gguf, parts))
        words.write(writer)
        if factors is not None:
            writer.add_tensor_info(FACTORS, factors.shape, factors.dtype, factors.nbytes)
        for part in parts:
            _announce(gguf, writer, part)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors)
        for tensor in _tensors(source, parts):
            writer.write_tensor_data(tensor)
    return [*_lines(source, parts, words), *_left_out(source)]


def _left_out(source: Source) -> list[str]:
    """A line on the tensors that the class does not know: llama.cpp has no place for them."""
    names = [each.name for each in source.opened.carried]
    if not names:
        return []
    which = f"{names[0]} first" if len(names) > 1 else names[0]
    return [f"left out, for the model's class does not know it: {len(names)} tensors, {which}"]


# ---- what goes in --------------------------------------------------------------------------


def _parts(source: Source, found: Layout, kind: str) -> list[Part]:
    codes = source.codes if kind in ("auto", "codes") else None
    parts = []
    for parameter, tensor in parameters(source.opened.model).items():
        name, order = found.name(parameter), found.order(parameter)
        own = None if codes is None else _type_of_codes(codes, parameter)
        chosen = own or _type(tensor, kind)
        parts.append(Part(name, parameter, chosen, tuple(tensor.shape), order, own is not None))
    return parts


def _type_of_codes(codes: CodesFolder, parameter: str) -> str | None:
    module, _, which = parameter.rpartition(".")
    if which != "weight" or module not in codes.names():
        return None
    return blocks.kind(codes.load(module))


def _type(tensor: Tensor, kind: str) -> str:
    if tensor.ndim == 1:
        return "F32"
    return "Q8_0" if kind == "q8_0" and tensor.shape[1] % blocks.WIDTH == 0 else "F16"


def _tensors(source: Source, parts: list[Part]) -> Iterator[np.ndarray]:
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
    tensor = tensor.float()
    if part.kind == "F32":
        return tensor.numpy()
    if part.kind == "Q8_0":
        gguf = ggufs.package()
        return gguf.quants.quantize(tensor.numpy(), gguf.GGMLQuantizationType.Q8_0)
    if (worst := float(tensor.abs().max())) > LARGEST:
        raise NotFinite(
            f"{part.parameter} holds {worst:.3g}, and F16 ends at {LARGEST:.0f}. "
            "Give --option kind=q8_0."
        )
    return tensor.half().numpy()


def _announce(gguf: Any, writer: Any, part: Part) -> None:
    kind = gguf.GGMLQuantizationType[part.kind]
    if part.kind in ("F32", "F16"):
        width, dtype = (4, np.float32) if part.kind == "F32" else (2, np.float16)
        size = int(np.prod(part.shape)) * width
        writer.add_tensor_info(part.name, part.shape, np.dtype(dtype), size, kind)
        return
    shape = gguf.quants.quant_shape_to_byte_shape(part.shape, kind)
    writer.add_tensor_info(part.name, shape, np.dtype(np.uint8), int(np.prod(shape)), kind)


# ---- metadata ------------------------------------------------------------------------------


def _metadata(writer: Any, source: Source, found: Layout, file_type: int) -> None:
    config = source.opened.model.config.get_text_config()
    head = head_size(config)
    writer.add_type("model")
    writer.add_name(Path(source.name).name)
    writer.add_file_type(file_type)
    writer.add_quantization_version(QUANTIZATION_VERSION)
    writer.add_vocab_size(found.rows)
    writer.add_context_length(_context(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(found.blocks)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(found.heads)
    writer.add_head_count_kv(found.key_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(head)


def _context(config: Any) -> int:
    """Positions that llama.cpp computes as transformers does: it knows no window here."""
    window = getattr(config, "sliding_window", None)  # Llama's config has none
    positions = config.max_position_embeddings
    return positions if window is None else min(window, positions)


def _factors(model: Any) -> np.ndarray | None:
    """What llama.cpp is to divide rotary frequencies by; None where they are plain.

    Raises BadModel for a scaling of positions that cannot be said so.
    """
    config = model.config.get_text_config()
    rotation = config.rope_parameters
    way = rotation.get("rope_type", "default")
    if way not in ROTATIONS or rotation.get("partial_rotary_factor", 1) != 1:
        raise BadModel(
            f"this model scales its rotary positions by '{way}'; GGUF export writes "
            f"{' and '.join(ROTATIONS)}, turning whole heads. Convert the safetensors export with "
            "llama.cpp's convert_hf_to_gguf.py."
        )
    if way == "default":
        return None
    head = head_size(config)
    plain = rotation["rope_theta"] ** -(torch.arange(0, head, 2, dtype=torch.float64) / head)
    used = model.base_model.rotary_emb.inv_freq.detach().cpu().double()
    return (plain / used).float().numpy()


def _file_type(gguf: Any, parts: list[Part]) -> int:
    """The type of most matrices inside blocks, as llama.cpp's number for a whole file."""
    inside = Counter(p.kind for p in parts if p.name.startswith("blk.") and len(p.shape) == 2)
    return int(gguf.LlamaFileType[f"MOSTLY_{inside.most_common(1)[0][0]}"])


def _lines(source: Source, parts: list[Part], words: Vocabulary) -> list[str]:
    kinds = Counter(part.kind for part in parts if len(part.shape) == 2)
    lines = [
        f"matrices: {', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}",
        f"tokenizer: byte-level BPE, pre-tokenizer {words.pre}",
    ]
    coded = [part.parameter.removesuffix(".weight") for part in parts if part.coded]
    if coded:
        lines.append(f"the codes of {len(coded)} linears are carried over exactly")
    if source.codes is not None and (rounded := set(source.codes.names()) - set(coded)):
        lines.append(
            f"not carried over by their codes: {len(rounded)} linears, {min(rounded)} first"
        )
    if cuts_marks(words.pre):
        lines.append(
            f"under {words.pre} llama.cpp cuts words at combining marks: it reads Indic scripts, "
            "Thai, Yoruba and others as other tokens than the model learnt"
        )
    if words.left_out:
        lines.append(f"tokens without an embedding are left out: {', '.join(words.left_out)}")
    if words.normalizer is not None:
        lines.append(f"llama.cpp leaves out what the tokenizer does first ({words.normalizer})")
    config = source.opened.model.config.get_text_config()
    if (context := _context(config)) < config.max_position_embeddings:
        lines.append(f"context length {context}: llama.cpp has no sliding window here")
    return lines
