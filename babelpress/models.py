"""Open a model, walk its blocks, find the sites of a block, save it.

The only file that knows how transformers arranges modules. A model is seen as an embedding, a list
of blocks of one class that each read what the one before gave, and a head. Nothing goes by names:
blocks are the largest list of equal modules that hold linear layers; a *site* is the set of linears
of a block that were seen to receive the same tensor.

Shapes: B sequences, T positions, H hidden size, O outputs, I inputs of a linear.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import LongTensor, Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D

from babelpress.errors import BadModel, BadRun, BadSetting, NotFinite

EMBEDDED = "babel-mini"
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@\S+)?")  # owner/name[@revision]
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
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


@dataclass(frozen=True, slots=True)
class Site:
    """Linears of a block that read the same input; names are relative to the block."""

    name: str
    linears: tuple[str, ...]
    inputs: int

    def matches(self, pattern: str) -> bool:
        """Whether a `--skip` word means this site: its name, or one of its linears; * allowed."""
        return any(fnmatchcase(name, pattern) for name in (self.name, *self.linears))


# ---- open and save -------------------------------------------------------------------------


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
        return path
    if pickles := sorted(each.name for pattern in PICKLES for each in path.glob(pattern)):
        raise BadModel(
            f"{path} holds its weights in {pickles[0]}, a pickle: loading one runs whatever "
            "code is inside. Only safetensors are read; convert it where you trust it."
        )
    raise BadModel(f"{path} has no *.safetensors file.")


def open_model(
    name: str,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> Opened:
    """Open MODEL (folder, run, hub id[@revision], babel-mini) in evaluation mode.

    Raises BadModel when it cannot be opened whole, NotFinite when a weight is NaN or infinite.
    Remote code needs a pinned revision. float16 files are computed in float32 on a CPU, where
    float16 is some two hundred times slower. A config without dtype counts as float32.
    """
    where = resolve(name)
    local = Path(where).is_dir()
    place, _, revision = (where, "", "") if local else where.partition("@")
    if trust_remote_code and not revision:
        raise BadSetting("--trust-remote-code needs a pinned revision: write MODEL@REVISION.")
    if dtype not in DTYPES:
        raise BadSetting(f"no dtype is called '{dtype}'. Choose one of {', '.join(DTYPES)}.")
    options = {
        "trust_remote_code": trust_remote_code,
        "local_files_only": local,
        "revision": revision or "main",
    }
    try:
        opened = _open(name, place, device, dtype, options)
    except CANNOT_OPEN as error:
        first = str(error).strip().split("\n")[0]
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
        # bfloat16 attention kernels of PyTorch are slow on CPUs
        attn_implementation="eager" if device == "cpu" else None,
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


def check_finite(model: nn.Module) -> None:
    """Raise NotFinite naming the first tensor that holds NaN or infinity."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
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
        opened.tokenizer.save_pretrained(folder)
    except SafetensorError as error:
        raise BadRun(f"cannot write the model to {folder}: {error}.") from error
    finally:
        if live != opened.stored_dtype:
            _cast(model, live)


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


# ---- weights of a linear -------------------------------------------------------------------


def linears(block: nn.Module) -> dict[str, nn.Module]:
    """Every linear layer of a block by its name inside the block, in order."""
    kinds = (nn.Linear, Conv1D)
    return {name: m for name, m in block.named_modules() if isinstance(m, kinds)}


def weight(linear: nn.Module) -> Tensor:
    """The weight as (outputs, inputs): Conv1D keeps it the other way round."""
    data: Any = linear.weight.data
    return data.T if isinstance(linear, Conv1D) else data


@torch.no_grad()
def set_weight(linear: nn.Module, weight_OI: Tensor) -> None:
    """Put a new weight in place of the old one."""
    new = weight_OI.T if isinstance(linear, Conv1D) else weight_OI
    linear.weight.copy_(new)  # type: ignore[operator,union-attr]


# ---- blocks --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Call:
    """What a model hands a block besides the hidden states."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Stop(Exception):
    """Ends a forward pass once the input of the first block is known."""


class Walk:
    """A model as blocks that can be run one at a time.

    `start` gives the hidden states before the first block; `forward` runs one block with the
    arguments that the model itself would give it (masks, positions, rotary tables, ALiBi), which
    are recorded once for each batch shape. Raises BadModel where the blocks cannot be found, or
    do not read one another's output in order.
    """

    def __init__(self, model: PreTrainedModel):
        self.model = model
        self.path, self.blocks = find_blocks(model)
        self._calls: dict[torch.Size, list[_Call]] = {}

    def start(self, ids_BT: LongTensor | Tensor) -> Tensor:
        """Hidden states (B, T, H) that enter the first block."""
        found: list[Tensor] = []

        def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append(_hidden(args, kwargs))
            raise _Stop

        with _hooked([self.blocks[0].register_forward_pre_hook(catch, with_kwargs=True)]):
            try:
                self._run(ids_BT)
            except _Stop:
                return found[0]
        raise BadModel(f"{type(self.model).__name__} never ran {self.path}.0.")

    def forward(self, index: int, hidden_BTH: Tensor) -> Tensor:
        """What block `index` makes of hidden states (B, T, H)."""
        self.prepare(hidden_BTH)
        call = self._calls[hidden_BTH.shape[:2]][index]
        return _first(self.blocks[index](hidden_BTH, *call.args, **call.kwargs))

    def sites(self, index: int, hidden_BTH: Tensor) -> list[Site]:
        """The sites of block `index`, by seeing which linears receive the same tensor."""
        self.prepare(hidden_BTH)
        return find_sites(self.blocks[index], lambda: self.forward(index, hidden_BTH), self.path)

    def prepare(self, hidden_BTH: Tensor) -> None:
        """Record what blocks are handed with batches of this shape, where it is not known yet.

        That takes a pass of the whole model over meaningless tokens: whoever looks into a block
        prepares all shapes first.
        """
        shape = hidden_BTH.shape[:2]
        if shape not in self._calls:
            self._calls[shape] = self._record(shape, hidden_BTH.device)

    def _run(self, ids_BT: Tensor) -> None:
        with torch.no_grad():
            # padding comes last, so that no position that counts sees it
            self.model.base_model(ids_BT, attention_mask=torch.ones_like(ids_BT), use_cache=False)

    def _record(self, shape: torch.Size, device: torch.device) -> list[_Call]:
        """Further arguments of every block for batches of this shape, from one whole pass."""
        calls: list[_Call] = []
        passed: list[Tensor] = []

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = _hidden(args, kwargs)
            if passed and not torch.allclose(passed[-1], hidden, 0, 0, equal_nan=True):
                raise BadModel(
                    f"{self.path}.{len(calls)} does not read what the block before it gave: "
                    f"{type(self.model).__name__} cannot be walked block by block."
                )
            calls.append(_Call(args[1:], {k: v for k, v in kwargs.items() if v is not hidden}))

        def after(_: nn.Module, __: Any, ___: Any, output: Any) -> None:
            passed[:] = [_first(output)]

        handles = [b.register_forward_pre_hook(before, with_kwargs=True) for b in self.blocks]
        handles += [b.register_forward_hook(after, with_kwargs=True) for b in self.blocks]
        with _hooked(handles):
            self._run(torch.zeros(shape, dtype=torch.long, device=device))
        if len(calls) != len(self.blocks):
            raise BadModel(
                f"{self.path} has {len(self.blocks)} blocks, but a pass ran {len(calls)} of them."
            )
        return calls


def find_blocks(model: PreTrainedModel) -> tuple[str, list[nn.Module]]:
    """Path and modules of the blocks: the one list of equal modules that holds linear layers.

    Raises BadModel, saying what was found, when there is none or more than one.
    """
    found: dict[str, list[nn.Module]] = {}
    for path, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or not len(module):
            continue
        if any(path.startswith(f"{outer}.") for outer in found):
            continue  # experts or branches inside a block
        if len({type(child) for child in module}) == 1 and linears(module[0]):
            found[path] = list(module)
    if len(found) == 1:
        return next(iter(found.items()))
    seen = ", ".join(f"{path} ({len(b)} x {type(b[0]).__name__})" for path, b in found.items())
    missing = "one list of equal blocks with linear layers (nn.Linear or Conv1D)"
    raise BadModel(
        f"{type(model).__name__} cannot be walked: found {seen or 'no such list'}, "
        f"need {missing}. Encoder-decoders and unrepeated stacks are not supported yet."
    )


@torch.no_grad()
def find_sites(block: nn.Module, run: Callable[[], object], path: str) -> list[Site]:
    """Group the linears of a block by the tensor they receive while `run()` runs the block.

    Raises BadModel where a linear does not run, or runs more than once.
    """
    received: dict[tuple[int, int, int], list[str]] = {}
    alive: list[Tensor] = []  # an address names a tensor only as long as the tensor lives
    layers = linears(block)

    def see(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0]
            alive.append(x)
            # the version tells a tensor from itself after a change in place
            received.setdefault((x.data_ptr(), x.numel(), x._version), []).append(name)

        return hook

    with _hooked([m.register_forward_pre_hook(see(n)) for n, m in layers.items()]):
        run()
    called = [name for names in received.values() for name in names]
    silent = [name for name in layers if name not in called]
    if silent or len(set(called)) != len(called):
        which = ", ".join(silent) or "one of them twice"
        raise BadModel(
            f"the linears of {path} must each run once in a pass of their block; not so: {which}."
        )
    return [_site(tuple(names), layers) for names in received.values()]


def _site(names: tuple[str, ...], layers: dict[str, nn.Module]) -> Site:
    parents = [name.rpartition(".")[0] for name in names]
    leaves = [name.rpartition(".")[2] for name in names]
    same = len(set(parents)) == 1
    inputs = weight(layers[names[0]]).shape[1]
    if same and parents[0]:
        return Site(f"{parents[0]}.{'+'.join(leaves)}", names, inputs)
    return Site("+".join(leaves if same else names), names, inputs)


def _hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def _hooked(handles: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
