"""Open a model: a folder, a GGUF file, a hub id with or without a revision, or `babel-mini`.

Only safetensors and GGUF are read; pickles are refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.hub import cached_file

from babelpress.errors import BadModel, BadSetting
from babelpress.models import accepted, carried, gguf_header, gguf_open, gguf_tokens, headers
from babelpress.models.headers import Entry
from babelpress.models.names import INDEX, SINGLE, resolve
from babelpress.models.quiet import quiet
from babelpress.models.tokenizers import read_tokenizer
from babelpress.models.weights import check_finite
from babelpress.models.wide import widen
from babelpress.system.processor import attention

DTYPES = ("auto", "float32", "bfloat16", "float16")
LOADERS = (
    (AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING),
    (AutoModelForImageTextToText, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING),
    (AutoModelForMultimodalLM, MODEL_FOR_MULTIMODAL_LM_MAPPING),
)
# Of an encoder, with its head or without one.
ENCODER_LOADERS: tuple[tuple[Any, Any], ...] = tuple(
    (loader := getattr(transformers, name), loader._model_mapping)
    for name, _ in (*accepted.HEADS.values(), accepted.NO_HEAD)
)
ENCODER_DECODER_LOADERS = (
    (transformers.AutoModelForSeq2SeqLM, transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING),
)
# What transformers raises for files that are missing, damaged, of another kind or another shape.
CANNOT_OPEN = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    ImportError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A model ready to be used, its tokenizer, and the dtype that its file has.

    `files` are those of the source, by name, that are written again as they are: its tokenizer and
    what lies beside it. Empty, the tokenizer is written anew, as it must be where it was changed.
    `replaced` is the tokenizer's class that they no longer name, for it reads other tokens than its
    file says.
    `carried` are the tensors of its files that its class does not know, which are saved with it.
    `pruned` says what of a run's model was pruned: its blocks, its table of token embeddings;
    `codes` is the folder of its integers where it was quantized. `dense` is where the dense model
    lies that a step holds it against.
    `unpacked` is the GGUF file that it was read from, `lies_on` are the types that matrices have
    there, counted by part of a block.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stored_dtype: torch.dtype
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    replaced: str = ""
    carried: tuple[Entry, ...] = ()
    pruned: frozenset[str] = frozenset()
    unpacked: Path | None = None
    lies_on: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    codes: Path | None = None
    dense: str = ""


def open_model(
    name: str,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    quantized: bool = False,
) -> Opened:
    """Open a folder, GGUF file, hub id[@revision] or babel-mini in evaluation mode.

    runs/open.py has runs.

    Raises BadModel when it cannot be opened whole, NotFinite when a weight is NaN or infinite.
    What is refused is said in accepted.py; only who scores a model takes a `quantized` one.
    Remote code needs a pinned revision.
    float16 files are computed in float32 on a CPU, where float16 is some two hundred times slower.
    The dtype is that of the config, but never a wider one than most of the weights have.
    """
    where = resolve(name)
    local = Path(where).is_dir()
    place, _, revision = (where, "", "") if local else where.partition("@")
    if trust_remote_code and not revision:
        raise BadSetting("--trust-remote-code needs a pinned revision: write MODEL@REVISION.")
    check_device(device)
    if dtype not in DTYPES:
        raise BadSetting(f"no dtype is called '{dtype}'. Choose one of {', '.join(DTYPES)}.")
    options = {
        "trust_remote_code": trust_remote_code,
        "local_files_only": local,
        "revision": revision or "main",
    }
    packed = gguf_header.is_gguf(where)
    if local or packed:
        accepted.peek(where, name, quantized=quantized)
    try:
        with quiet():
            opened = (
                _unpacked(name, Path(where), device, dtype)
                if packed
                else _open(name, place, device, dtype, options, quantized=quantized)
            )
    except CANNOT_OPEN as error:
        if "trust_remote_code" in str(error):
            raise BadModel(
                f"{name} needs code of its authors (auto_map in its config), and that is not run. "
                "Use a model of an architecture that transformers has."
            ) from error
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BadModel(f"{name} cannot be opened: {first}") from error
    check_finite(opened.model)
    return opened


def _open(
    name: str, place: str, device: str, dtype: str, options: dict[str, Any], *, quantized: bool
) -> Opened:
    config = AutoConfig.from_pretrained(place, **options)
    raw, _ = PreTrainedConfig.get_config_dict(place, **options)
    both = config.is_encoder_decoder  # some say so by their class alone
    accepted.check_config(name, {**raw, "is_encoder_decoder": both}, quantized=quantized)
    there = headers.entries(_files(place, options))
    accepted.check_entries(name, there, quantized=quantized)
    stored = _stored(config, there)
    wanted = _computed(stored, device, dtype)
    loaded: Any = _loader(config).from_pretrained(
        place,
        config=config,
        dtype=wanted,
        use_safetensors=True,
        attn_implementation=attention(device),
        output_loading_info=True,
        **options,
    )
    model, loading = loaded
    # transformers fills what a file lacks with random numbers
    missing = sorted(loading["missing_keys"])
    if missing and all(name.startswith("pooler.") for name in missing):
        model.pooler, missing = None, []  # sentence encoders pool by themselves, and have no such
    if missing:
        raise BadModel(
            f"{name} lacks {len(missing)} of the weights of {type(model).__name__}, {missing[0]} "
            "first. Get a whole copy of the model."
        )
    # what belongs to packed weights is known to whoever unpacks them
    unknown = () if quantized else carried.unknown(model, there)
    if not quantized:
        carried.check(unknown, loading["unexpected_keys"], name)
    read = read_tokenizer(place, options)
    _ready(model, device)
    return Opened(name, model, read.tokenizer, stored, read.files, read.replaced, unknown)


def _unpacked(name: str, path: Path, device: str, dtype: str) -> Opened:
    """The model of a GGUF file; its tokenizer is written anew wherever it goes."""
    header = gguf_header.read(path)
    tokenizer = gguf_tokens.tokenizer(header)  # before the weights, which take longer
    stored = _dtype(accepted.local_config(str(path))["dtype"])
    model = gguf_open.model_of(path, device=device, dtype=_computed(stored, device, dtype))
    _ready(model, device)
    return Opened(name, model, tokenizer, stored, unpacked=path, lies_on=header.kinds)


def _computed(stored: torch.dtype, device: str, asked: str) -> torch.dtype:
    wanted = stored if asked == "auto" else _dtype(asked)
    return torch.float32 if device == "cpu" and wanted is torch.float16 else wanted


def _ready(model: PreTrainedModel, device: str) -> None:
    model.to(device).eval()  # type: ignore[arg-type]
    if device == "cpu":
        widen(model)


def stays_mapped(name: str) -> bool:
    """Whether weights of a model, opened on a CPU, stay pages of its files, shared by all openings.

    Not those that are computed in another dtype than the files have. True where nothing can be
    read: whoever opens it says why.
    """
    try:
        where = resolve(name)
        if gguf_header.is_gguf(where):
            return False
        local = Path(where).is_dir()
        place, _, revision = (where, "", "") if local else where.partition("@")
        options = {"local_files_only": local, "revision": revision or "main"}
        with quiet():
            config = AutoConfig.from_pretrained(place, **options)
            there = headers.entries(_files(place, options))
    except (*CANNOT_OPEN, BadModel):
        return True
    kept = headers.main_dtype(there)
    return not kept or _computed(_stored(config, there), "cpu", "auto") is _dtype(kept)


def open_shapes(name: str) -> PreTrainedModel:
    """A model without weights: its blocks, its linears and their shapes, from its config alone.

    Raises BadModel as `open_model` does.
    """
    where = resolve(name)
    local = Path(where).is_dir()
    place, _, revision = (where, "", "") if local else where.partition("@")
    packed = gguf_header.is_gguf(where)
    if local or packed:
        accepted.peek(where, name)
    try:
        config = (
            gguf_open.config_of(gguf_header.read(where))
            if packed
            else AutoConfig.from_pretrained(
                place, local_files_only=local, revision=revision or "main"
            )
        )
        with torch.device("meta"):
            return _loader(config).from_config(config)
    except CANNOT_OPEN as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BadModel(f"{name} cannot be opened: {first}") from error


def config_of(name: str) -> dict[str, Any]:
    """The config of a MODEL, as it is written. Raises BadModel where there is none."""
    where = resolve(name)
    if gguf_header.is_gguf(where):
        return accepted.local_config(where)
    local = Path(where).is_dir()
    place, _, revision = (where, "", "") if local else where.partition("@")
    try:
        found, _ = PreTrainedConfig.get_config_dict(
            place, local_files_only=local, revision=revision or "main"
        )
    except CANNOT_OPEN as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BadModel(f"{name} cannot be opened: {first}") from error
    return found


def _file(place: str, file: str, options: dict[str, Any]) -> Path | None:
    """A file of a model, brought here where it lies on a hub; None where there is none."""
    found = cached_file(
        place,
        file,
        revision=options["revision"],
        local_files_only=options["local_files_only"],
        _raise_exceptions_for_missing_entries=False,
    )
    return None if found is None else Path(found)


def _files(place: str, options: dict[str, Any]) -> list[Path]:
    """The files with the weights: one, or those that an index names; none where there are none."""
    if single := _file(place, SINGLE, options):
        return [single]
    index = _file(place, INDEX, options)
    found = [_file(place, each, options) for each in headers.shards(index)] if index else []
    return [each for each in found if each is not None]


def _stored(config: PreTrainedConfig, there: list[Entry]) -> torch.dtype:
    """The dtype that a model is kept in: a wider one than its file has would only double it."""
    of_file = headers.main_dtype(there)
    if config.dtype is None:
        return _dtype(of_file or "float32")
    said = _dtype(str(config.dtype))
    narrower = of_file is not None and _dtype(of_file).itemsize < said.itemsize
    return _dtype(of_file) if of_file and narrower else said


def _loader(config: Any) -> Any:
    """What opens a config: as the class that it names, else as a language model.

    A language model may lie inside a model that also sees or hears; that of an encoder is one of
    masked words.
    """
    kind, named = type(config), config.architectures or ()
    said = config.to_dict()
    loaders = ENCODER_LOADERS if accepted.encodes(said) else LOADERS
    if accepted.translates(said):
        loaders = ENCODER_DECODER_LOADERS
    for loader, mapping in loaders:
        if kind in mapping and getattr(mapping[kind], "__name__", "") in named:
            return loader
    return next((loader for loader, mapping in loaders if kind in mapping), AutoModelForCausalLM)


def _dtype(name: str) -> torch.dtype:
    return getattr(torch, name.removeprefix("torch."))


def check_device(device: str) -> None:
    """Raise BadSetting for a device that this machine has not."""
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    wanted = "cuda:0" if device == "cuda" else device
    if wanted not in there:
        raise BadSetting(
            f"there is no device '{device}' here. Choose one of {', '.join(there)}; "
            "`babelpress doctor` tells what this machine has."
        )
