"""Texts that begin alike, such as the choices of an item: their common beginning is read once.

What the model keeps of it is repeated for every text that goes on from there. Beginnings of
different lengths are padded on the left; padding is masked and has no position.

Shapes: B windows of a batch in G groups that begin alike, P tokens of the longest beginning, T
tokens of the longest rest, H hidden size.

Tested in tests/evals/test_begun.py.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DummyLayer, DynamicLayer, DynamicSlidingWindowLayer

from babelpress.evals._windows import Window, padded

KEYS_AND_VALUES = (DynamicLayer, DynamicSlidingWindowLayer, DummyLayer)  # dummies read another's
# A cache is read by other kernels than a whole text. Of the largest state; what forgets the
# beginning is further off, in float32 also what counts other positions.
NOISE = {torch.float32: 1e-4, torch.float64: 1e-9}
NOISE_HALF = 0.06  # in float16 and bfloat16
Group = tuple[int, list[Window]]
"""How many tokens some windows have in common, and they."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows read together; of each, `begun` tokens are read before, those of a group once.

    `group` says of every window which of the beginnings is its own. Both are empty where all are
    read whole.
    """

    windows: list[Window]
    begun: tuple[int, ...] = ()
    group: tuple[int, ...] = ()

    @property
    def rest(self) -> list[Window]:
        """The windows without what is read before."""
        return [
            replace(window, ids_T=window.ids_T[begun:])
            for window, begun in zip(self.windows, self.begun, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Past:
    """What a model keeps of beginnings, one row a window, and which of its places are real."""

    kept: DynamicCache
    mask_BP: Tensor

    def given(self, module: Any, mask_BT: Tensor) -> dict[str, Any]:
        """What a pass over the rests is given; keys and values are added to what is kept."""
        found = {
            "attention_mask": torch.cat([self.mask_BP, mask_BT], dim=1),
            "past_key_values": self.kept,
            "use_cache": True,
        }
        counted_B1 = self.mask_BP.sum(1, keepdim=True)
        place_1T = torch.arange(mask_BT.shape[1], device=mask_BT.device)[None]
        return found | _placed(module, counted_B1 + place_1T)


def begun_alike(
    windows: Sequence[Window], groups: Sequence[int]
) -> tuple[list[Group], list[Window]]:
    """Windows that begin alike, the shortest beginnings first, and the others.

    `groups` says of every window which others it begins like: equal numbers stand side by side.
    What is scored in a window is no part of its beginning, nor is the token before it, which
    predicts the first that is scored.
    """
    alone: list[Window] = []
    found: list[Group] = []
    numbered = zip(groups, windows, strict=True)
    for _, pairs in groupby(numbered, key=lambda pair: pair[0]):
        some = [window for _, window in pairs]
        if begun := _begun(some):
            found.append((begun, some))
        else:
            alone += some
    return sorted(found, key=lambda each: each[0]), alone


def _begun(group: Sequence[Window]) -> int:
    """How many tokens a group has in common before the last one that is not scored."""
    first = group[0].ids_T
    begun = min(len(window.ids_T) - window.scored for window in group) - 1
    same = all((window.ids_T[:begun] == first[:begun]).all() for window in group)
    return begun if len(group) > 1 and begun > 0 and same else 0


def batches_of(groups: Sequence[Group], tokens: int, kept: int) -> Iterator[Batch]:
    """Groups in their order, with their padding: at most `tokens` to read, or one group.

    Nor are keys and values of more than `kept` tokens held, of one group's alone if need be.
    """
    some: list[Group] = []
    rows = width = 0
    for begun, group in groups:
        own = max(len(window.ids_T) - 1 - begun for window in group)
        longest, size = max(width, own), rows + len(group)
        read, held = (len(some) + 1) * begun + size * longest, size * (begun + longest)
        if some and (read > tokens or held > kept):
            yield _batch(some)
            some, longest, size = [], own, len(group)
        some.append((begun, group))
        rows, width = size, longest
    if some:
        yield _batch(some)


def _batch(groups: Sequence[Group]) -> Batch:
    """One batch of some groups."""
    return Batch(
        [window for _, group in groups for window in group],
        tuple(begun for begun, group in groups for _ in group),
        tuple(number for number, (_, group) in enumerate(groups) for _ in group),
    )


def past_of(model: PreTrainedModel, batch: Batch) -> Past | None:
    """What the model keeps of the beginnings; None where that is not keys and values."""
    firsts = [batch.group.index(number) for number in range(batch.group[-1] + 1)]
    ids_GP = torch.zeros(len(firsts), max(batch.begun), dtype=torch.long)
    mask_GP = torch.zeros_like(ids_GP)
    for row, window in enumerate(firsts):
        begun = batch.begun[window]
        ids_GP[row, -begun:] = torch.from_numpy(batch.windows[window].ids_T[:begun])
        mask_GP[row, -begun:] = 1
    ids_GP, mask_GP = ids_GP.to(model.device), mask_GP.to(model.device)
    body: Any = model.base_model
    placed = _placed(body, (mask_GP.cumsum(1) - 1).clamp(min=0))
    said = body(ids_GP, attention_mask=mask_GP, use_cache=True, **placed)
    kept = getattr(said, "past_key_values", None)
    if type(kept) is not DynamicCache:
        return None
    if any(type(each) not in KEYS_AND_VALUES for each in kept.layers):
        return None
    group_B = torch.tensor(batch.group, device=model.device)
    kept.batch_select_indices(group_B)
    return Past(kept, mask_GP[group_B])


def _placed(module: Any, position_BT: Tensor) -> dict[str, Tensor]:
    """Positions of tokens, for a model that is told them; others count what is not masked."""
    known = "position_ids" in inspect.signature(module.forward).parameters
    return {"position_ids": position_BT} if known else {}


def goes_on(model: PreTrainedModel, groups: Sequence[Group]) -> int:
    """Bytes that the model keeps of a token, where it goes on from them as from the whole text.

    0 where it does not, or keeps something else. Tried on the last text of the shortest and of the
    longest beginning, side by side.
    """
    few = _batch([groups[0], *groups[-1:][: len(groups) - 1]])
    past = past_of(model, few)
    if past is None:
        return 0
    size = _bytes(past)
    body: Any = model.base_model
    ids_BT, mask_BT = (each.to(model.device) for each in padded(few.rest)[:2])
    rest_BTH = body(ids_BT, **past.given(body, mask_BT))[0]
    for row in {group: row for row, group in enumerate(few.group)}.values():
        window, begun, rest_TH = few.windows[row], few.begun[row], rest_BTH[row]
        ids_1T = torch.from_numpy(window.ids_T[None, :-1]).to(model.device)
        whole_TH = body(ids_1T, use_cache=False)[0][0, begun:]
        noise = NOISE.get(whole_TH.dtype, NOISE_HALF) * whole_TH.abs().amax().item()
        away = (rest_TH[: len(whole_TH)] - whole_TH).abs().amax().item()
        if not away <= noise:  # NaN neither
            return 0
    return size


def _bytes(past: Past) -> int:
    """Of keys and values of a token, over all layers."""
    layers = [layer for layer in past.kept.layers if isinstance(layer, DynamicLayer)]
    kept = [each for layer in layers for each in (layer.keys, layer.values) if each is not None]
    size = sum(each.numel() * each.element_size() for each in kept)
    return max(1, -(-size // past.mask_BP.numel()))
