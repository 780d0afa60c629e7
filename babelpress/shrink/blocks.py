"""Whole blocks: those go whose place is missed least, in the language that misses them most.

`influence` (Men et al. 2024, ShortGPT, arXiv:2403.03853: Block Influence) is one minus the mean
cosine between what enters a block and what leaves it, here of the tokens of each language apart.
Calibrated in English alone it is said to choose blocks without which a model goes on in English.

Blocks that a config tells apart (sliding and full attention) keep the pattern that they begin with:
block n of what is left is of the kind that block n was. llama.cpp counts such kinds by a period.

Shapes: N blocks, L languages; B sequences, T positions, H hidden size.
"""

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from babelpress.models.student import by_block, fewer_blocks
from babelpress.models.walk import Walk
from babelpress.moments.gather import AT_ONCE, Batch, batches, pass_on
from babelpress.shrink._sizes import Size
from babelpress.system.offload import Hold, in_memory
from babelpress.system.progress import Progress, silent
from babelpress.text.token_blocks import TokenBlocks

UNITS = "blocks"
INSTEAD = "Leave out --blocks."


def find(name: str, walk: Walk, asked: str) -> int:  # noqa: ARG001 - as other structures have it
    """How many blocks stay. Raises BadSetting for more than there are, or none."""
    return Size(asked, "blocks", UNITS).of(len(walk.blocks))


def note(walk: Walk, asked: str, number: int) -> str:
    """What is to be told of the number, where it was rounded."""
    return Size(asked, "blocks", UNITS).rounded(len(walk.blocks), number)


def without(walk: Walk, kept: Sequence[int]) -> Walk:
    """The model with those blocks alone. Raises BadModel where it would be another model."""
    return Walk(fewer_blocks(walk.model, kept, instead=INSTEAD))


def kinds(walk: Walk) -> list[Hashable]:
    """What every block is: what the lists of the config say of it, and its tensors' shapes."""
    number = len(walk.blocks)
    lists = by_block(walk.model.config.get_text_config(), number).values()
    shapes = [
        tuple((name, tuple(each.shape)) for name, each in block.named_parameters())
        for block in walk.blocks
    ]
    return [(*(str(each[index]) for each in lists), shapes[index]) for index in range(number)]


def chosen(kinds_N: Sequence[Hashable], importance_N: Sequence[float], number: int) -> list[int]:
    """The `number` blocks that stay: of all that keep the pattern, those that matter most together.

    The pattern is that block n of them is of the kind of block n of all. Of equal choices the one
    with the earlier blocks is taken.
    """
    # best[n]: the most importance of n blocks among those seen so far, and which these are
    best: list[tuple[float, tuple[int, ...]] | None] = [(0.0, ()), *[None] * number]
    for index, (kind, importance) in enumerate(zip(kinds_N, importance_N, strict=True)):
        for place in range(min(index, number - 1), -1, -1):
            before = best[place]
            if before is None or kinds_N[place] != kind:
                continue
            found = before[0] + importance, (*before[1], index)
            there = best[place + 1]
            if there is None or found[0] > there[0]:
                best[place + 1] = found
    whole = best[number]
    assert whole is not None  # the first blocks keep the pattern
    return list(whole[1])


@torch.no_grad()
def influence(
    walk: Walk,
    text: Mapping[str, TokenBlocks],
    *,
    hold: Hold = in_memory,
    progress: Progress = silent,
) -> dict[str, list[float]]:
    """One minus the mean cosine of what enters and leaves each block, by language: N numbers each.

    Of the tokens that count; a state of zeros turned nowhere.
    """
    todo = batches(walk, text, hold=hold)
    found: dict[str, list[float]] = {tag: [] for tag in text}
    progress("influence: block", 0, len(walk.blocks))
    for index in range(len(walk.blocks)):
        turned = dict.fromkeys(text, 0.0)
        counted = dict.fromkeys(text, 0)
        onward: list[Batch] = []
        for start in range(0, len(todo), AT_ONCE):
            some = todo[start : start + AT_ONCE]
            passed = pass_on(walk, index, list(some), hold=hold)
            for batch, after in zip(some, passed, strict=True):
                cosine_N = _cosines(batch, after)
                turned[batch.language] += float((1 - cosine_N).sum())
                counted[batch.language] += len(cosine_N)
            onward += passed
        todo = onward
        for tag in text:
            found[tag].append(turned[tag] / max(1, counted[tag]))
        progress("influence: block", index + 1, len(walk.blocks))
    return found


def _cosines(before: Batch, after: Batch) -> Tensor:
    """Of every position that counts, in float64."""
    keep_BT = before.counted_BT
    enters, leaves = (
        each.hidden_BTH.as_subclass(Tensor)[keep_BT].double() for each in (before, after)
    )
    size_N = enters.norm(dim=1) * leaves.norm(dim=1)
    product_N = (enters * leaves).sum(1)
    return torch.where(size_N > 0, product_N / size_N.clamp(min=1e-300), 1.0)
