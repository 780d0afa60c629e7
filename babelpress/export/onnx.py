"""ONNX for onnxruntime: model.onnx of an encoder with the head it has, and its tokenizer.

    int8=off       float32 numbers
    int8=dynamic   weights of linears and embeddings as 8-bit integers; what a linear reads is
                   rounded to 8 bits while the model runs, by the range of what is there

Inputs are `input_ids` and `attention_mask` of any batch and length; outputs are those of the head
(`logits`), or `last_hidden_state` where there is none. Token types are those of a first segment.

Nothing is handed over unchecked: onnxruntime reads real text of many languages, padded, and has to
give what PyTorch gives. How near is not guessed. The model is run in float64 too, which tells what
rounding in float32 does to it on that very text; sums in another order, and other polynomials for
exp and erf, may do some times as much, and a wrong operator does thousands of times as much.

In dynamic int8, weights of linears are rounded per output to 7 of the 8 bits: a processor without
VNNI adds two products of 8-bit numbers in 16 bits, where 2·255·127 overflows and 2·255·64 does not.
An embedding has one scale. A head that is tied to it is multiplied in float32.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from babelpress.errors import BadModel, BadSetting, MissingPackage, NotFinite
from babelpress.export._source import Source, record
from babelpress.export._tried import (
    INPUTS,
    Feed,
    Found,
    Named,
    Texts,
    apart,
    by_text,
    change,
    finite,
    in_torch,
    largest,
    texts_of,
)
from babelpress.models.accepted import check_encodes
from babelpress.models.reading import positions_of
from babelpress.models.tokenizers import replaced_line, save_tokenizer
from babelpress.numerics.counting import nonzeros

ENCODERS_ONLY = True
SERVES = {
    "onnxruntime": """from onnxruntime import InferenceSession
from tokenizers import Tokenizer

text = Tokenizer.from_file({folder} + "/tokenizer.json").encode("Habari ya asubuhi")
feed = {"input_ids": [text.ids], "attention_mask": [text.attention_mask]}
outputs = InferenceSession({folder} + "/model.onnx").run(None, feed)""",
}
FILE = "model.onnx"
WAYS = ("off", "dynamic")
QUANTIZED = ("MatMul", "Gather")  # operators of linears and of embeddings
SEVERAL = ("ForMultipleChoice", "ForNextSentencePrediction", "ForPreTraining")  # heads of pairs
TIMES = 10  # so often what rounding in float32 does
ONE_FILE = 2**31 - 2**24  # bytes of weights that fit into one file of this kind
MANY = 0.2  # share of weights that are zero from which it is worth a word


def write(source: Source, folder: Path, *, int8: str = "off") -> list[str]:
    """Write model.onnx and the tokenizer.

    Raises BadModel for a decoder, a head that reads several texts, and what PyTorch cannot write or
    onnxruntime does not compute as PyTorch; BadSetting for an unknown `int8`; NotFinite where the
    model gives no numbers; MissingPackage without onnx, onnxruntime or onnxscript.
    """
    _packages()
    if int8 not in WAYS:
        raise BadSetting(f"int8 is '{int8}'. Choose one of {', '.join(WAYS)}.")
    _check_kind(source)
    model = deepcopy(source.opened.model).float().eval()
    texts = texts_of(source)
    with TemporaryDirectory(dir=folder) as beside:
        dense = (folder if int8 == "off" else Path(beside)) / FILE
        names = _export(source.name, model, texts.feeds[0], dense)
        found = _in_runtime(source.name, dense, texts, names)
        lines = [_compared(source.name, model, texts, found)]
        del model  # in float64, twice as large as the file
        if int8 == "dynamic":
            lines += _quantized(source.name, dense, folder / FILE, texts, found)
    lines += _lines(source, int8)
    return lines + _save_beside(source, folder)


def _packages() -> None:
    """Raise MissingPackage where one is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingPackage(str(error.name), "onnx") from error


def _check_kind(source: Source) -> None:
    model = source.opened.model
    architecture = type(model).__name__
    config = {**model.config.to_dict(), "architectures": [architecture]}
    check_encodes(source.name, config, "onnx")
    if architecture.endswith(SEVERAL):
        raise BadModel(
            f"{source.name} has a head that reads several texts at once ({architecture}), and "
            "model.onnx takes one: use --format safetensors."
        )


# ---- in PyTorch ----------------------------------------------------------------------------


def _export(name: str, model: PreTrainedModel, feed: Feed, path: Path) -> list[str]:
    """Write a float32 model; the names of its outputs. Raises BadModel where PyTorch cannot."""
    with torch.inference_mode():
        names = list(Named(model).outputs(feed))
    positions = positions_of(model)
    length = torch.export.Dim("length", max=positions) if positions else torch.export.Dim("length")
    axes = {0: torch.export.Dim("batch"), 1: length}
    try:
        with _quiet():
            program = torch.onnx.export(
                Named(model),
                tuple(feed[each] for each in INPUTS),
                dynamo=True,
                dynamic_shapes=(axes, axes),
                input_names=INPUTS,
                output_names=names,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise _unlike(name, f"PyTorch cannot write it as ONNX ({_first(error)})") from error
    assert program is not None
    _tidy(program.model.graph)
    program.save(path, external_data=_bytes(model) > ONE_FILE)
    return names


def _tidy(graph: Any) -> None:
    """Keep linears as a product with a weight, not with the transpose of one, which is left float
    in int8; and nothing of where the code of a node lay on this machine."""
    import onnx_ir

    for node in list(graph.all_nodes()):
        node.metadata_props.clear()
        weight_OI = node.inputs[0] if node.op_type == "Transpose" else None
        if weight_OI is None or not weight_OI.is_initializer() or len(weight_OI.uses()) > 1:
            continue  # one tied to an embedding is read as it is, too
        if len(weight_OI.shape) == 2:
            turned = weight_OI.const_value.numpy().T.copy()
            weight_OI.const_value = onnx_ir.tensor(turned, name=weight_OI.name)
            weight_OI.shape = weight_OI.const_value.shape
            node.outputs[0].replace_all_uses_with(weight_OI)
            graph.remove(node, safe=True)


def _compared(name: str, model: PreTrainedModel, texts: Texts, found: Found) -> str:
    """The line on how near onnxruntime comes to PyTorch. The model is in float64 afterwards.

    Raises BadModel where rounding does not explain the difference, NotFinite.
    """
    single, exact = in_torch(model, texts), in_torch(model.double(), texts)
    if not (finite(single) and finite(found)):
        raise NotFinite(f"{name} gives NaN or infinity on real text; nothing is exported.")
    rounding = max(apart(single, exact), float(np.finfo(np.float32).eps) * largest(exact))
    off = apart(found, exact)
    if off > TIMES * rounding:
        raise _unlike(
            name,
            f"its outputs are up to {off:.1e} from exact ones where rounding in float32 makes "
            f"{rounding:.1e}",
        )
    return (
        f"onnxruntime gives what PyTorch does on {len(texts.tags)} texts: at most {off:.1e} from "
        f"float64, PyTorch in float32 {rounding:.1e}"
    )


# ---- in onnxruntime ------------------------------------------------------------------------


def _in_runtime(name: str, path: Path, texts: Texts, names: Sequence[str]) -> Found:
    """What onnxruntime computes. Raises BadModel where it cannot."""
    import onnxruntime

    state: Any = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    cannot = (state.Fail, state.InvalidGraph, state.NotImplemented, state.RuntimeException)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is fatal is raised
    found: Found = []
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for feed in texts.feeds:
            outputs = session.run(names, {key: each.numpy() for key, each in feed.items()})
            found += by_text(feed, dict(zip(names, map(np.asarray, outputs), strict=True)))
    except cannot as error:
        raise _unlike(name, f"onnxruntime {onnxruntime.__version__}: {_first(error)}") from error
    return found


def _quantized(name: str, dense: Path, path: Path, texts: Texts, before: Found) -> list[str]:
    """Write dynamic int8 of a float32 file; the lines on its size and what it changes."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            dense,
            path,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=_size(dense) > ONE_FILE,
        )
    after = _in_runtime(name, path, texts, list(before[0]))
    if not finite(after):
        raise NotFinite(f"{name} in int8 gives NaN or infinity; export it with int8=off.")
    mb, was = _size(path) / 1e6, _size(dense) / 1e6
    return [
        f"dynamic int8: {mb:.1f} MB, {mb / was:.0%} of the {was:.1f} MB of float32",
        f"int8 changes the outputs on these texts by {change(texts, before, after)}: score it on "
        "your task before it is served",
    ]


# ---- beside --------------------------------------------------------------------------------


def _lines(source: Source, int8: str) -> list[str]:
    """What does not show in the file, though a user may think so."""
    linears = [m.weight for m in source.opened.model.modules() if isinstance(m, nn.Linear)]
    share = 1 - sum(map(nonzeros, linears)) / max(1, sum(map(torch.Tensor.numel, linears)))
    lines = []
    if share > MANY:
        lines.append(
            f"{share:.0%} of the weights of linears are zero, which makes the file neither smaller "
            "nor faster: onnxruntime stores and multiplies zeros too"
        )
    if source.codes is not None:
        done = "numbers that the run's codes stand for"
        again = " are rounded anew to 8 bits" if int8 == "dynamic" else " are stored as float32"
        lines.append(done + again)
    if left := [each.name for each in source.opened.carried]:
        lines.append(f"{len(left)} tensors that the model's class does not know are left out")
    return lines


def _save_beside(source: Source, folder: Path) -> list[str]:
    """Write config, tokenizer and record; the lines to tell of them."""
    opened = source.opened
    config = deepcopy(opened.model.config)
    config.dtype, config.architectures = torch.float32, [type(opened.model).__name__]
    config.save_pretrained(folder)
    save_tokenizer(opened.tokenizer, folder, opened.files)
    record(source, folder, "onnx")
    return replaced_line(opened.replaced)


def _size(path: Path) -> int:
    """Bytes of a model, its weights in a file of their own included."""
    return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))


def _bytes(model: nn.Module) -> int:
    return sum(each.nbytes for each in (*model.parameters(), *model.buffers()))


def _unlike(name: str, why: str) -> BadModel:
    return BadModel(
        f"{name} cannot be exported to onnxruntime: {why}. Use --format safetensors, which "
        "transformers reads."
    )


def _first(error: BaseException) -> str:
    """The first line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, the exporter and the quantizer give no advice to their own developers."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
