"""Recovery: a pressed model learns as a whole, a batch of languages a step.

Its zeros and grids stay (tuned.py). It is watched on text held apart (watched.py). A step is a
function of its number, the shares and the weights alone.

Shapes: B texts, N scored tokens, V vocabulary.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from babelpress.errors import NotFinite
from babelpress.recover._told import Told
from babelpress.train.batches import Batch, Blocks
from babelpress.train.kept import Kept
from babelpress.train.reading import Reader, Said
from babelpress.train.tuned import Tuned
from babelpress.train.watched import Losses, Measured, Watched

AT_ONCE = 1 << 19  # hidden numbers of a part of a step: a block keeps some twenty times as many
Loss = Callable[[Tensor, Told | None, Tensor], Tensor]
Its = Callable[[], Told]


class AsScored(nn.Module):
    """A model that stays in evaluation mode while it learns: nothing is dropped at random."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model.eval()

    def train(self, mode: bool = True) -> "AsScored":  # noqa: ARG002 - torch's signature
        return self


@dataclass(slots=True)
class Recovery(Watched):
    """A pressed model that learns.

    `dense` is the dense model, or what was kept of it, or None where nothing is asked of it. All
    languages that `reference` has are watched.
    """

    reader: Reader
    tuned: Tuned
    loss_of: Loss
    dense: Reader | Kept | None
    text: Blocks
    apart: Blocks
    batch: int

    # ---- a step ----------------------------------------------------------------------------

    def loss(self, step: int) -> list[Callable[[], Tensor]]:
        """The loss of a step, in parts: the mean over its scored tokens."""
        rng = np.random.default_rng([self.seed, step])
        tags = list(self.shares)
        drawn = rng.choice(len(tags), size=self.batch, p=list(self.shares.values()))
        rows = [(tags[n], int(rng.integers(self.text.number(tags[n])))) for n in drawn]
        ids = [self.text.blocks[tag].ids_BT[number] for tag, number in rows]
        batch = self.text.batch(tuple(tag for tag, _ in rows), ids, rng)
        whole = int(batch.scored_BT.sum())
        for (tag, _), scored_T in zip(rows, batch.scored_BT, strict=True):
            self.tokens[tag] = self.tokens.get(tag, 0) + int(scored_T.sum())
        size = max(1, AT_ONCE // (batch.ids_BT.shape[1] * self.width))
        parts = [slice(start, start + size) for start in range(0, len(rows), size)]
        return [lambda p=p: self._part(batch.rows(p), rows[p], whole) for p in parts]

    def _part(self, batch: Batch, rows: Sequence[tuple[str, int]], whole: int) -> Tensor:
        """The part of a step's loss that some of its texts have."""
        batch = batch.to(self.reader.model.device)
        told = self._told(batch, rows)
        said = self.reader.read(batch)
        targets = batch.target_BT[batch.scored_BT].split(said.rows)
        total = _now if self.tuned.before_head else _again
        return total(said, self._summed, told(said.rows), targets) / whole

    def _summed(self, logits_NV: Tensor, its: Its | None, target_N: Tensor) -> Tensor:
        with torch.no_grad():
            told = its() if its is not None else None
        return self.loss_of(logits_NV, told, target_N) * len(target_N)

    def _told(
        self, batch: Batch, rows: Sequence[tuple[str, int]]
    ) -> Callable[[int], Sequence[Its | None]]:
        """What the dense model says, made a part at a time: of so many tokens each."""
        if isinstance(self.dense, Kept):
            whole = self.dense.of(rows, batch.scored_BT.cpu())
            return lambda size: [lambda some=some: some for some in whole.split(size)]
        if self.dense is None:
            number = int(batch.scored_BT.sum())
            return lambda size: [None] * -(-number // size)
        with torch.no_grad():
            said = self.dense.read(batch)
        return lambda _: [lambda part=part: Told.whole(part()) for part in said.parts]

    @property
    def width(self) -> int:
        """Hidden size of the model."""
        return int(self.reader.model.config.get_text_config().hidden_size)

    # ---- what is watched -------------------------------------------------------------------

    def measured(self) -> Measured:
        """The losses on text held apart."""
        return Measured(losses_of(self.reader, self.apart, self.reference, self.seed), {})

    def learns(self) -> Mapping[str, nn.Parameter]:
        """What was chosen to learn."""
        return self.tuned.parameters

    def settle(self) -> None:
        """Zeros are put back."""
        self.tuned.settle()

    def watching(self) -> Sequence[str]:
        """All languages that there is text of."""
        return list(self.reference)


def _again(
    said: Said, summed: Callable[..., Tensor], told: Sequence[Its | None], targets: Sequence[Tensor]
) -> Tensor:
    """The sum over scored tokens, the logits made a part at a time; on the way back once more."""
    assert said.source is not None
    total = said.source.new_zeros((), dtype=torch.float32)
    for part, its, target_N in zip(said.parts, told, targets, strict=True):

        def of_part(part: Callable[[], Tensor], its: Its | None, target_N: Tensor) -> Tensor:
            return summed(part(), its, target_N)

        total = total + checkpoint(of_part, part, its, target_N, use_reentrant=False)
    return total


def _now(
    said: Said, summed: Callable[..., Tensor], told: Sequence[Its | None], targets: Sequence[Tensor]
) -> Tensor:
    """The same where the head does not learn: gradients are found at once, no part is remade."""
    assert said.source is not None
    total = said.source.new_zeros((), dtype=torch.float32)
    grads: list[Tensor] = []
    for some, its, target_N in zip(said.source.split(said.rows), told, targets, strict=True):
        rows = some.detach().requires_grad_()
        loss = summed(said.logits(rows), its, target_N)
        grads += torch.autograd.grad(loss, rows)
        total += loss.detach()
    known: Any = _Known.apply(said.source, total, torch.cat(grads))
    return known


class _Known(torch.autograd.Function):
    """A sum whose gradient is known."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, total: Tensor, grad: Tensor) -> Tensor:  # noqa: ARG004
        ctx.save_for_backward(grad)
        return total.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = ctx.saved_tensors
        return outer[0] * grad, None, None


@torch.no_grad()
def losses_of(reader: Reader, apart: Blocks, tags: Sequence[str] | Mapping, seed: int) -> Losses:
    """Cross-entropy in nats a scored token of each language. Raises NotFinite naming one."""
    found: Losses = {}
    width = int(reader.model.config.get_text_config().hidden_size)
    for tag in tags:
        rng = np.random.default_rng([seed, crc32(tag.encode())])
        total, count = 0.0, 0
        size = max(1, AT_ONCE // (apart.blocks[tag].length * width))
        for start in range(0, apart.number(tag), size):
            batch = apart.some(tag, start, size, rng).to(reader.model.device)
            said = reader.read(batch)
            targets = batch.target_BT[batch.scored_BT].split(said.rows)
            for part, target_N in zip(said.parts, targets, strict=True):
                total += float(cross_entropy(part(), target_N, reduction="sum"))
                count += len(target_N)
        found[tag] = total / count
        if not math.isfinite(found[tag]):
            raise NotFinite(
                f"the loss in {tag} is {found[tag]}: lower --rate, and look for NaN in the model."
            )
    return found
