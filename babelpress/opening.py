"""Open a model, save it, tell two apart.

A MODEL is a folder, a finished run, a hub id with or without a revision, or the embedded
`babel-mini`. Only safetensors are read; pickles are refused.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from babelpress.errors import BadModel, BadRun, BadSetting, NotFinite
from babelpress.files import check_hashes, read_json
from babelpress.finite import all_finite
from babelpress.processor import attention

EMBEDDED = "babel-mini"
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@\S+)?")  # owner/name[@revision]
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
DTYPES = ("auto", "float32", "bfloat16", "float16")
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
    """A model ready to be used, its tokenizer, and the dtype that its file has."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stored_dtype: torch.dtype


def resolve(name: str) -> str:
    """Where a MODEL argument is: a folder path, or the hub id[@revision] when no folder is there.

    `babel-mini` is the embedded model; a finished run stands for its `model/`. Raises BadModel for
    a folder that holds no model in safetensors, BadRun for a run that did not finish.
    """
    if name == EMBEDDED:
        return str(_model_folder(Path(str(package_files("babelpress") / "data" / EMBEDDED))))
    path = Path(name)
    if path.exists():
        return str(_model_folder(path))
    if HUB_ID.fullmatch(name):
        return name
    raise BadModel(
        f"'{name}' is neither a folder nor a hub id (owner/name[@revision]). "
        f"Give a folder with config.json, a hub id, a finished run, or {EMBEDDED}."
    )


def _model_folder(path: Path) -> Path:
    if (path / "recipe.yaml").exists():
        if not (path / "model" / "config.json").exists():
            raise BadRun(f"{path} is a run without a finished model/: run the same command again.")
        path = path / "model"
    if not (path / "config.json").exists():
        raise BadModel(f"{path} has no config.json: it is not a transformers model folder.")
    if any(path.glob("*.safetensors")):
        _check_names(path)
        return path
    if pickles := sorted(each.name for pattern in PICKLES for each in path.glob(pattern)):
        raise BadModel(
            f"{path} holds its weights in {pickles[0]}, a pickle: loading one runs whatever "
            "code is inside. Only safetensors are read; convert it where you trust it."
        )
    raise BadModel(f"{path} has no *.safetensors file.")


def _check_names(path: Path) -> None:
    """Raise BadModel where files of a model folder name weights that are not its own."""
    config = read_json(path / "config.json", error=BadModel)
    named = config.get("transformers_weights") if isinstance(config, dict) else None
    if named is not None and named not in WEIGHTS:
        raise BadModel(
            f"{path / 'config.json'} says that the weights are in {named!r}. "
            f"Only {' and '.join(WEIGHTS)} are read."
        )
    for index in path.glob("*.safetensors.index.json"):
        found = read_json(index, error=BadModel)
        shards = found.get("weight_map") if isinstance(found, dict) else None
        if not isinstance(shards, dict) or not shards:
            raise BadModel(f"{index} has no weight_map: it is no index of a model.")
        for shard in set(map(str, shards.values())):
            if Path(shard).name != shard or not shard.endswith(".safetensors"):
                raise BadModel(
                    f"{index} names the file {shard!r}. Only *.safetensors files beside it are "
                    "read, by their names alone."
                )


def _check_run(place: Path) -> None:
    """Raise BadRun for a model/ of a run, or of a step, that is not as the run wrote it."""
    run = place.parent
    reports = [run / "manifest.json"] if (run / "recipe.yaml").exists() else []
    reports += [run / "report.json", *sorted(run.glob("steps/*/report.json"), reverse=True)]
    report = next((each for each in reports if each.exists()), None)
    found = read_json(report) if report and place.name == "model" else {}
    check_hashes(run, found.get("files", {}), place.name)


def open_model(
    name: str,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> Opened:
    """Open MODEL (folder, run, hub id[@revision], babel-mini) in evaluation mode.

    Raises BadModel when it cannot be opened whole, BadRun when it is of a run and no longer as the
    run wrote it, NotFinite when a weight is NaN or infinite. Remote code needs a pinned revision.
    float16 files are computed in float32 on a CPU, where float16 is some two hundred times slower.
    A config without dtype counts as float32.
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
    if local:
        _check_run(Path(where))
    try:
        opened = _open(name, place, device, dtype, options)
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


def _open(name: str, place: str, device: str, dtype: str, options: dict[str, Any]) -> Opened:
    config = AutoConfig.from_pretrained(place, **options)
    if config.is_encoder_decoder:
        raise BadModel(
            f"{name} cannot be walked: found an encoder and a decoder ({config.model_type}), need "
            "one stack of decoder blocks. Encoder-decoders are not supported yet."
        )
    stored = _dtype(str(config.dtype or "float32"))
    wanted = stored if dtype == "auto" else _dtype(dtype)
    if device == "cpu" and wanted is torch.float16:
        wanted = torch.float32
    loaded: Any = AutoModelForCausalLM.from_pretrained(
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
    if missing := sorted(loading["missing_keys"]):
        raise BadModel(
            f"{name} lacks {len(missing)} of the weights of {type(model).__name__}, {missing[0]} "
            "first. Get a whole copy of the model."
        )
    tokenizer = AutoTokenizer.from_pretrained(place, **options)
    model.to(device).eval()
    return Opened(name, model, tokenizer, stored)


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


def check_finite(model: nn.Module) -> None:
    """Raise NotFinite naming the first tensor that holds NaN or infinity."""
    for name, parameter in model.named_parameters():
        if not all_finite(parameter):
            raise NotFinite(
                f"the weight {name} holds NaN or infinity: the file is damaged or the training "
                "diverged. Get a sound copy of the model."
            )


def save_model(opened: Opened, folder: Path) -> None:
    """Write an ordinary transformers folder in the dtype that the model came in.

    The open model keeps its own dtype, and its weights become the rounded ones that were written.
    Raises NotFinite where a weight is too large for that dtype, BadRun where the disk refuses.
    """
    model, live = opened.model, opened.model.dtype
    if live != opened.stored_dtype:
        _cast(model, opened.stored_dtype)
    try:
        check_finite(model)
        model.save_pretrained(folder)
        save_tokenizer(opened.tokenizer, folder)
    except SafetensorError as error:
        raise BadRun(f"cannot write the model to {folder}: {error}.") from error
    finally:
        if live != opened.stored_dtype:
            _cast(model, live)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:
        # What tokenizers raises for a full disk is of no narrower class; all else goes on.
        if type(error) is not Exception:
            raise
        raise BadRun(f"cannot write the tokenizer to {folder}: {error}.") from error


def _cast(model: nn.Module, dtype: torch.dtype) -> None:
    # Not model.to(): that would also round buffers, such as rotary frequencies.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def fingerprint(model: nn.Module) -> str:
    """sha256 over names, shapes, dtypes and bytes of all weights."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
