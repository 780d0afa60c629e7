"""How often every neuron of a feed-forward part fires, by language.

A neuron is a column of what the activation function gives: of a gated block the gate, else the
hidden layer. The function is found by what it does, not by a name: a part of the block without
weights that holds back what is far below zero and passes what is far above, on as many columns as
a linear of the block reads.

Shapes: T positions, W neurons of a block, L languages.

Tested in tests/insight/test_neurons.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from babelpress.errors import BadModel
from babelpress.models.linears import linears, weight
from babelpress.models.open import Opened
from babelpress.models.sites import hooked
from babelpress.models.walk import Walk
from babelpress.moments.gather import Batch, batches
from babelpress.system.progress import Progress, silent
from babelpress.text.token_blocks import TokenBlocks

FAR = 10.0  # where every activation function has made up its mind
LEAK = 1.0  # what may be left of −FAR


@dataclass(frozen=True, slots=True)
class _Activation:
    """The activation function of a block, and how many neurons it has."""

    module: nn.Module
    width: int


@torch.no_grad()
def firing(
    opened: Opened,
    blocks: Mapping[str, TokenBlocks],
    what: str,
    progress: Progress = silent,
) -> list[Tensor]:
    """P(activation > 0) of every neuron in every language over the tokens that count: (W, L) by
    block, float64. In a block that runs several times a token counts in each of its runs.

    Raises BadModel where a block has no activation function that can be seen, or several experts.
    """
    walk = Walk(opened.model)
    todo = batches(walk, blocks)
    found: list[Tensor] = []
    for index in range(len(walk.blocks)):
        progress(f"{what}: block", index, len(walk.blocks))
        activation = _find(walk, index, todo[0])
        sums = {tag: torch.zeros(activation.width, dtype=torch.float64) for tag in blocks}
        todo = [_passed(walk, index, batch, activation, sums[batch.language]) for batch in todo]
        tokens = [walk.times(index) * int(each.counted_BT.sum()) for each in blocks.values()]
        found.append(torch.stack([s / n for s, n in zip(sums.values(), tokens, strict=True)], 1))
    progress(f"{what}: block", len(walk.blocks), len(walk.blocks))
    return found


def _passed(walk: Walk, index: int, batch: Batch, activation: _Activation, sum_W: Tensor) -> Batch:
    """What a block makes of a batch; how often its neurons fire is added to the sum."""
    counted_T = batch.counted_BT.flatten()

    def look(_: nn.Module, _args: Any, output: Tensor) -> None:
        if output.shape[-1] == activation.width:
            rows_TW = output.reshape(-1, activation.width)
            if len(rows_TW) != len(counted_T):
                where = walk.name(index)
                raise BadModel(f"the activation of {where} sees {len(rows_TW)} rows, not tokens.")
            sum_W.add_((rows_TW[counted_T] > 0).sum(0).cpu())

    with hooked([activation.module.register_forward_hook(look)]):
        hidden_BTH = walk.forward(index, batch.hidden_BTH)
    return batch.passed(hidden_BTH)


def _find(walk: Walk, index: int, batch: Batch) -> _Activation:
    """The activation function of a block: of several the widest."""
    block = walk.blocks[index]
    if walk.has_experts(index):
        raise BadModel(
            f"{walk.name(index)} has experts, and each token reaches only some of them: neurons "
            "are told apart in dense feed-forward parts only. Leave neurons out of --on."
        )
    inputs = {weight(each).shape[1] for each in linears(block).values()}
    seen: list[_Activation] = []

    def look(module: nn.Module, args: Any, output: Any) -> None:
        same = isinstance(output, Tensor) and len(args) == 1 and output.shape == args[0].shape
        if same and output.shape[-1] in inputs:
            seen.append(_Activation(module, output.shape[-1]))

    bare = [m for m in block.modules() if not [*m.children()] and not [*m.parameters()]]
    with hooked([module.register_forward_hook(look) for module in bare]):
        walk.forward(index, batch.hidden_BTH)
    gates = [each for each in seen if _is_gate(each.module, batch.hidden_BTH)]
    if not gates:
        raise BadModel(
            f"no activation function was seen in {walk.name(index)}, so it has no neurons that "
            "could be counted. Leave neurons out of --on."
        )
    return max(gates, key=lambda each: each.width)


def _is_gate(module: Callable[[Tensor], Tensor], like: Tensor) -> bool:
    """Whether a function holds back what is far below zero and passes what is far above."""
    low, high = module(torch.tensor([-FAR, FAR], dtype=like.dtype, device=like.device)).tolist()
    return abs(low) < LEAK and high > FAR - LEAK
