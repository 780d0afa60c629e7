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

Shapes: B texts, T positions.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from babelpress.errors import BadModel, BadSetting, MissingPackage, NotFinite
from babelpress.export._source import Source, record
from babelpress.models.accepted import encodes
from babelpress.models.reading import positions_of
from babelpress.models.tokenizers import replaced_line, save_tokenizer
from babelpress.numerics.counting import nonzeros
from babelpress.text.corpus import open_corpus

ENCODERS_ONLY = True
SERVES = {
    "onnxruntime": """from onnxruntime import InferenceSession
from tokenizers import Tokenizer

text = Tokenizer.from_file({folder} + "/tokenizer.json").encode("Habari ya asubuhi")
feed = {"input_ids": [text.ids], "attention_mask": [text.attention_mask]}
outputs = InferenceSession({folder} + "/model.onnx").run(None, feed)""",
}
FILE, WORDS = "model.onnx", "tokenizer.json"
WAYS = ("off", "dynamic")
INPUTS: tuple[str, ...] = ("input_ids", "attention_mask")
QUANTIZED = ("MatMul", "Gather")  # operators of linears and of embeddings
SEVERAL = ("ForMultipleChoice", "ForNextSentencePrediction", "ForPreTraining")  # heads of pairs
TEXTS, LONGEST, TOGETHER = 24, 64, 2  # texts that are tried, tokens of one, and how many at once
TIMES = 10  # so often what rounding in float32 does
ONE_FILE = 2**31 - 2**24  # bytes of weights that fit into one file of this kind
MANY = 0.2  # share of weights that are zero from which it is worth a word

Feed = Mapping[str, Tensor]  # ids and mask (B, T)
Rows = dict[str, np.ndarray]  # of every output those that are no padding, float64


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
    feeds = _feeds(source)
    with TemporaryDirectory(dir=folder) as beside:
        dense = (folder if int8 == "off" else Path(beside)) / FILE
        names = _export(source.name, model, feeds[0], dense)
        found = _in_runtime(source.name, dense, feeds, names)
        lines = [_compared(source.name, model, feeds, found)]
        del model  # in float64, twice as large as the file
        if int8 == "dynamic":
            lines += _quantized(source.name, dense, folder / FILE, feeds, found)
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
    if not encodes(model.config.to_dict()):
        raise BadModel(
            f"{source.name} is no encoder ({architecture}), and only encoders are written as ONNX: "
            "use --format gguf or compressed-tensors for what writes text."
        )
    if architecture.endswith(SEVERAL):
        raise BadModel(
            f"{source.name} has a head that reads several texts at once ({architecture}), and "
            "model.onnx takes one: use --format safetensors."
        )


# ---- text that is tried --------------------------------------------------------------------


def _feeds(source: Source) -> list[Feed]:
    """Texts of many languages, a long one and a short one at a time; the run's languages first."""
    corpus, tokenizer = open_corpus("embedded"), source.opened.tokenizer
    padding: Any = tokenizer.pad_token_id
    shares = [tag for tag, share in (source.shares or {}).items() if share > 0]
    there = corpus.languages()
    tags = list(dict.fromkeys([*(tag for tag in shares if tag in there), *there]))[:TEXTS]
    texts = [corpus.documents(tag, "test")[0].text for tag in tags]
    longest = min(LONGEST, positions_of(source.opened.model) or LONGEST)
    every = [
        tokenizer(text, truncation=True, max_length=longest // (1 + place % TOGETHER))["input_ids"]
        for place, text in enumerate(texts)
    ]
    return [
        _padded(every[place : place + TOGETHER], padding or 0)
        for place in range(0, len(every), TOGETHER)
    ]


def _padded(every: Sequence[Sequence[int]], padding: int) -> Feed:
    length = max(map(len, every))
    ids = [[*each, *[padding] * (length - len(each))] for each in every]
    mask = [[1] * len(each) + [0] * (length - len(each)) for each in every]
    return dict(zip(INPUTS, map(torch.tensor, (ids, mask)), strict=True))


def _counted(feed: Feed, output: np.ndarray) -> np.ndarray:
    """The rows of an output that are no padding: all, where it has not one a token."""
    mask_BT = feed["attention_mask"].numpy().astype(bool)
    return (output[mask_BT] if output.shape[:2] == mask_BT.shape else output).astype(np.float64)


def _joined(every: Sequence[Rows]) -> Rows:
    return {name: np.concatenate([rows[name].ravel() for rows in every]) for name in every[0]}


# ---- in PyTorch ----------------------------------------------------------------------------


class _Named(nn.Module):
    """A model of two inputs whose outputs are tensors: those of its head, else its last states."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def outputs(self, feed: Feed) -> dict[str, Tensor]:
        every = self.model(**feed, return_dict=True)
        tensors = {name: each for name, each in every.items() if isinstance(each, Tensor)}
        last = tensors.get("last_hidden_state")
        return tensors if last is None else {"last_hidden_state": last}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        feed = dict(zip(INPUTS, (input_ids, attention_mask), strict=True))
        return tuple(self.outputs(feed).values())


def _in_torch(model: PreTrainedModel, feeds: Sequence[Feed]) -> Rows:
    named = _Named(model)
    with torch.inference_mode():
        every = [(feed, named.outputs(feed)) for feed in feeds]
    return _joined(
        [{n: _counted(feed, o.numpy()) for n, o in outs.items()} for feed, outs in every]
    )


def _export(name: str, model: PreTrainedModel, feed: Feed, path: Path) -> list[str]:
    """Write a float32 model; the names of its outputs. Raises BadModel where PyTorch cannot."""
    with torch.inference_mode():
        names = list(_Named(model).outputs(feed))
    positions = positions_of(model)
    length = torch.export.Dim("length", max=positions) if positions else torch.export.Dim("length")
    axes = {0: torch.export.Dim("batch"), 1: length}
    try:
        with _quiet():
            program = torch.onnx.export(
                _Named(model),
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


def _compared(name: str, model: PreTrainedModel, feeds: Sequence[Feed], found: Rows) -> str:
    """The line on how near onnxruntime comes to PyTorch. The model is in float64 afterwards.

    Raises BadModel where rounding does not explain the difference, NotFinite.
    """
    single, exact = _in_torch(model, feeds), _in_torch(model.double(), feeds)
    if not all(np.isfinite(each).all() for each in (*single.values(), *found.values())):
        raise NotFinite(f"{name} gives NaN or infinity on real text; nothing is exported.")
    largest = max(abs(each).max() for each in exact.values())
    rounding = max(_apart(single, exact), float(np.finfo(np.float32).eps) * largest)
    apart, texts = _apart(found, exact), sum(len(feed["input_ids"]) for feed in feeds)
    if apart > TIMES * rounding:
        raise _unlike(
            name,
            f"its outputs are up to {apart:.1e} from exact ones where rounding in float32 makes "
            f"{rounding:.1e}",
        )
    return (
        f"onnxruntime gives what PyTorch does on {texts} texts: at most {apart:.1e} from float64, "
        f"PyTorch in float32 {rounding:.1e}"
    )


def _apart(one: Rows, other: Rows) -> float:
    return max(float(abs(one[name] - other[name]).max()) for name in one)


# ---- in onnxruntime ------------------------------------------------------------------------


def _in_runtime(name: str, path: Path, feeds: Sequence[Feed], names: Sequence[str]) -> Rows:
    """What onnxruntime computes. Raises BadModel where it cannot."""
    import onnxruntime

    state: Any = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    cannot = (state.Fail, state.InvalidGraph, state.NotImplemented, state.RuntimeException)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is fatal is raised
    every: list[Rows] = []
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for feed in feeds:
            outputs = session.run(names, {key: each.numpy() for key, each in feed.items()})
            found = zip(names, outputs, strict=True)
            every.append({each: _counted(feed, np.asarray(output)) for each, output in found})
    except cannot as error:
        raise _unlike(name, f"onnxruntime {onnxruntime.__version__}: {_first(error)}") from error
    return _joined(every)


def _quantized(
    name: str, dense: Path, path: Path, feeds: Sequence[Feed], before: Rows
) -> list[str]:
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
    after = _in_runtime(name, path, feeds, list(before))
    if not all(np.isfinite(each).all() for each in after.values()):
        raise NotFinite(f"{name} in int8 gives NaN or infinity; export it with int8=off.")
    off = sum(float(np.square(after[each] - before[each]).sum()) for each in before)
    share = (off / sum(float(np.square(each).sum()) for each in before.values())) ** 0.5
    mb, was = _size(path) / 2**20, _size(dense) / 2**20
    return [
        f"dynamic int8: {mb:.1f} MiB, {mb / was:.0%} of the {was:.1f} MiB of float32",
        f"int8 changes the outputs on the same texts by {share:.1%} of their size (root mean "
        "square): score it on your task before it is served",
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
