"""Stacks of blocks: the lists of equal modules with linear layers that read text.

Tested in tests/models/test_walk.py.

Shapes: B sequences, T positions, H hidden size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from babelpress.errors import BadModel
from babelpress.models.linears import linears
from babelpress.models.recording import hidden_of, other_text, replaced, run_text
from babelpress.models.sides import Reading


@dataclass(frozen=True, slots=True)
class Stack:
    """Blocks of one class that each read what the one before gave, and the path of their list.

    A decoder has one stack; an encoder and a decoder are two.
    """

    path: str
    blocks: tuple[nn.Module, ...]


def find_stacks(model: PreTrainedModel) -> tuple[Stack, ...]:
    """The stacks of a model: the list of equal modules that reads text; of an encoder-decoder two.

    Where there are several lists of blocks with linear layers, as in a model that also sees images,
    it is the one that a pass over text alone runs; of a model without weights, which cannot be run,
    the one of its decoder. Raises BadModel, saying what was found, when there is none or more than
    one, or not one in each half of an encoder-decoder.
    """
    found = _lists(model)
    if not found:
        raise _not_walked(model, found, "one such list")
    if model.config.is_encoder_decoder:
        halves = [_inside(each, found) for each in (model.get_encoder(), model.get_decoder())]
        if [len(half) for half in halves] == [1, 1] and len(found) == 2:
            return tuple(_stack(*each) for half in halves for each in half.items())
        raise _not_walked(model, found, "one such list in its encoder and one in its decoder")
    if len(found) > 1:
        bare = model.device.type == "meta"
        found = _inside(model.get_decoder(), found) if bare else _read_by_text(model, found)
    if len(found) == 1:
        return tuple(_stack(path, blocks) for path, blocks in found.items())
    raise _not_walked(model, found, "one that reads text, or one in each half")


def _stack(path: str, blocks: list[nn.Module]) -> Stack:
    return Stack(path, tuple(blocks))


def _not_walked(
    model: PreTrainedModel, lists: Mapping[str, list[nn.Module]], missing: str
) -> BadModel:
    seen = ", ".join(f"{path} ({len(b)} x {type(b[0]).__name__})" for path, b in lists.items())
    return BadModel(
        f"{type(model).__name__} cannot be walked: of lists of equal blocks with linear layers "
        f"(nn.Linear or Conv1D) it has {seen or 'none'}, and it needs {missing}."
    )


def _lists(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Lists of equal modules that hold linear layers, and are none, by path.

    None lies inside another.
    """
    found: dict[str, list[nn.Module]] = {}
    for path, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or not len(module):
            continue
        if any(path.startswith(f"{outer}.") for outer in found):
            continue  # experts or branches inside a block
        inside = linears(module[0])
        if len({type(child) for child in module}) == 1 and inside and "" not in inside:
            found[path] = list(module)
    return found


def _inside(part: nn.Module, lists: Mapping[str, list[nn.Module]]) -> dict[str, list[nn.Module]]:
    """Those lists that lie in a part of a model."""
    inside = set(part.modules())
    return {path: blocks for path, blocks in lists.items() if inside.issuperset(blocks)}


def _read_by_text(
    model: PreTrainedModel, lists: Mapping[str, list[nn.Module]]
) -> dict[str, list[nn.Module]]:
    """Those lists of which a pass over text runs a block; in their place nothing is computed."""
    read: dict[str, list[nn.Module]] = {}

    def stand_in(path: str, block: nn.Module) -> Callable[..., Any]:
        run = block.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if path in read:
                return forms[path](hidden_of(args, kwargs))
            output = run(*args, **kwargs)
            read[path] = lists[path]
            tail = output[1:] if isinstance(output, tuple | list) else None
            forms[path] = lambda hidden: hidden if tail is None else (hidden, *tail)
            return output

        return forward

    forms: dict[str, Callable[[Tensor], Any]] = {}
    every = {block: stand_in(path, block) for path, blocks in lists.items() for block in blocks}
    with replaced(every):
        run_text(model, Reading(other_text(model).to(model.device)))
    return read
