"""Width: channels of the stream that blocks read and add to, the same ones in every block.

With a channel go its column of the embedding and head, of every linear that reads the stream, its
row of every linear that writes to it, and its number of every norm (Muralidharan et al. 2024,
Minitron, arXiv:2407.14679, 2.2: embedding channels). Heads and neurons stay as many and as wide.

Norms have to divide by the root of the mean square alone (RMS norm): one that takes a mean away
would mix what went into what stays.

Shapes: H channels.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from torch import nn

from babelpress.errors import BadModel, BadSetting
from babelpress.models.mlps import widest_mlp
from babelpress.models.walk import Walk
from babelpress.shrink._sizes import Size
from babelpress.shrink._widths import has_experts, shapes_of

UNITS = "channels"
FLAG = "width"


@dataclass(frozen=True, slots=True)
class Ends:
    """A block's ends at the stream, by names in it: linears that read the same of it, those that
    write to it, and norms."""

    reads: tuple[tuple[str, ...], ...]
    writes: tuple[str, ...]
    norms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Channels:
    """The channels of a stream, and how many of them stay.

    `ends` are those of every block, `last` is the norm before the head; `sides` says of every
    parameter that has a place for each channel which of its dimensions that is.
    """

    before: int
    after: int
    ends: tuple[Ends, ...]
    last: str
    sides: Mapping[str, int]
    note: str = ""


def find(name: str, walk: Walk, asked: str, multiple: int = 1) -> Channels:
    """Where the channels are, and how many stay.

    Raises BadModel for a family whose stream is not known here or whose config does not state how
    wide a head is, BadSetting for a size that cannot be had.
    """
    model, text = walk.model, walk.model.config.get_text_config()
    who = f"{name} ({type(model).__name__})"
    if model.config.is_encoder_decoder:
        raise BadModel(f"{who} is an encoder-decoder, {_NOT_HERE}")
    if has_experts(walk):
        raise BadModel(f"{who} is a mixture of experts, {_NOT_HERE}")
    if not isinstance(vars(text).get("head_dim"), int):
        raise BadModel(
            f"the config of {who} does not state how wide a head is, so no engine would load it "
            "with another hidden size. Leave out --width."
        )
    width = int(text.hidden_size)
    ends = tuple(_ends(walk, index, width, who) for index in range(len(walk.blocks)))
    last, outside = _outside(walk, width, who)
    size = Size(asked, FLAG, UNITS)
    kept = size.of(width, multiple, "--multiple")
    _check_config(text, type(model).__name__, size, (kept, width, multiple))
    sides = outside | _inside(walk, ends)
    return Channels(width, kept, ends, last, sides, size.rounded(width, kept))


_NOT_HERE = "whose stream is not made narrower here. Leave out --width."


def resize(text: Any, channels: Channels) -> None:
    """Put the number that stays into a text config, and how wide a head is."""
    text.head_dim = int(vars(text)["head_dim"])  # stated, for some derive it from the hidden size
    text.hidden_size = channels.after


def _ends(walk: Walk, index: int, width: int, who: str) -> Ends:
    """Those of a block. Raises BadModel where something else in it may read or write the stream."""
    shapes = shapes_of(walk, index)
    modules: dict[str, list[str]] = {}
    for each in shapes:
        modules.setdefault(each.rpartition(".")[0], []).append(each)
    reads, writes = [], []
    for names in modules.values():
        *before, last = names
        if not before or shapes[last][0] != width or {shapes[n][1] for n in before} != {width}:
            break
        reads.append(tuple(before))
        writes.append(last)
    norms = tuple(
        each for each, module in walk.blocks[index].named_children() if _is_norm(module, width)
    )
    known = {f"{each}.weight" for each in (*norms, *shapes)} | {f"{n}.bias" for n in shapes}
    odd = [
        each
        for each, parameter in walk.blocks[index].named_parameters()
        if each not in known and "." not in each.rpartition(".")[0] and width in parameter.shape
    ]
    if len(reads) != len(modules) or widest_mlp(shapes) is None or not norms or odd:
        raise BadModel(
            f"{walk.name(index)} of {who} has {odd[0] if odd else 'linears or norms'} that are not "
            f"known to read or write its stream of {width:,} {UNITS}. Leave out --width."
        )
    return Ends(tuple(reads), tuple(writes), norms)


def _is_norm(module: nn.Module, width: int) -> bool:
    """Whether a module has a number for every channel and nothing else, as an RMS norm does."""
    own = dict(module.named_parameters())
    return list(own) == ["weight"] and tuple(own["weight"].shape) == (width,)


def _outside(walk: Walk, width: int, who: str) -> tuple[str, dict[str, int]]:
    """The last norm, and the parameters outside the blocks with a place for each channel."""
    model = walk.model
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    last, sides = "", {}
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if not own or walk.index_of(f"{name}.") is not None:
            continue
        if any(module is each for each in tables) and own["weight"].shape[1] == width:
            sides[f"{name}.weight"] = 1
        elif not last and _is_norm(module, width):
            last, sides[f"{name}.weight"] = name, 0
        elif any(width in each.shape for each in own.values()):
            raise BadModel(
                f"{name} of {who} is not known to read or write a stream of {width:,} {UNITS}. "
                "Leave out --width."
            )
    if not last or tables[0] is None or not any(sides.values()):
        raise BadModel(
            f"{who} has no norm with a weight alone behind its blocks and embeddings of {width:,} "
            f"{UNITS}, as a stream that can be made narrower has. Leave out --width."
        )
    return last, sides


def _inside(walk: Walk, ends: Sequence[Ends]) -> dict[str, int]:
    """The parameters of blocks with a place for each channel."""
    sides: dict[str, int] = {}
    for index, each in enumerate(ends):
        there = dict(walk.blocks[index].named_parameters())
        own = {f"{name}.weight": 1 for group in each.reads for name in group}
        own |= {f"{name}.weight": 0 for name in (*each.writes, *each.norms)}
        own |= {f"{name}.bias": 0 for name in each.writes if f"{name}.bias" in there}
        sides |= {walk.name(index, name): side for name, side in own.items()}
    return sides


def _check_config(text: Any, kind: str, size: Size, numbers: tuple[int, int, int]) -> None:
    """Raise BadSetting for a number that a family's config refuses, naming one that it takes."""
    kept, width, multiple = numbers
    why = _refusal(text, kept)
    if not why or kept == width:
        return
    smaller = range(kept - kept % multiple, 0, -multiple)
    fewer = next((each for each in smaller if not _refusal(text, each)), None)
    instead = f"Give --width {fewer}" if fewer else "Leave out --width"
    raise BadSetting(
        f"--width {size.asked} of {width:,} {UNITS} makes {kept:,}, which {kind} refuses: {why} "
        f"{instead}."
    )


def _refusal(text: Any, width: int) -> str:
    """What transformers says against a config of that width; nothing if it takes it."""
    own = deepcopy(text)
    own.head_dim, own.hidden_size = int(vars(text)["head_dim"]), width
    try:
        own.validate()
    except StrictDataclassError as error:
        return str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ")
    return ""
