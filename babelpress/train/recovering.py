"""Recovery: a pressed model learns as a whole, a batch of languages a step.

Its zeros and grids stay (tuned.py). The languages of a step are drawn by shares, which are given
once or follow what each language lacks: the loss on text held apart, as a share of the dense
model's, found anew at every evaluation (numerics/lacking.py). What did best on that text is kept.
A step is a function of its number, the shares and the weights alone.

Shapes: B texts, N scored tokens, V vocabulary.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from babelpress.errors import BadRun, NotFinite
from babelpress.numerics.lacking import shares_by_lack
from babelpress.recover._told import Told
from babelpress.system.files import load_tensors, save_tensors
from babelpress.train.batches import Batch, Blocks
from babelpress.train.kept import Kept
from babelpress.train.reading import Reader, Said
from babelpress.train.tuned import Tuned

WORST, MEAN = WATCHED = ("worst", "mean")
BEST = "best-{}.safetensors"  # what learns, after so many steps
AT_ONCE = 1 << 19  # hidden numbers of a part of a step: a block keeps some twenty times as many
Loss = Callable[[Tensor, Told | None, Tensor], Tensor]
Losses = dict[str, float]
Its = Callable[[], Told]


class AsScored(nn.Module):
    """A model that stays in evaluation mode while it learns: nothing is dropped at random."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model.eval()

    def train(self, mode: bool = True) -> "AsScored":  # noqa: ARG002 - torch's signature
        return self


@dataclass(slots=True)
class Recovery:
    """A pressed model that learns; it is the memory of its training.

    `dense` is the dense model, or what was kept of it, or None where nothing is asked of it.
    `base` has the languages that are drawn; all that `reference` has are watched. It has the dense
    model's losses in nats a scored token on the text held `apart`,
    `found` those of the pressed one at every evaluation, the first before any step, `at` how many
    steps were done then, `drawn` the shares since. With a `radius` the shares follow what lacks.
    """

    reader: Reader
    tuned: Tuned
    loss_of: Loss
    dense: Reader | Kept | None
    text: Blocks
    apart: Blocks
    base: dict[str, float]
    reference: Losses
    batch: int
    seed: int
    place: Path
    radius: float | None = None
    watch: str = WORST
    shares: dict[str, float] = field(default_factory=dict)
    found: list[Losses] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    drawn: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    tokens: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    best: int = 0
    _since: list[float] = field(default_factory=list)

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

    # ---- what lacks ------------------------------------------------------------------------

    def evaluate(self, step: int) -> Losses:
        """The losses on text held apart after so many steps, remembered; shares may follow them.

        The weights are kept where none so far did better.
        """
        found = losses_of(self.reader, self.apart, self.reference, self.seed)
        if self.found:  # those of before the last evaluation, on which no checkpoint counts now
            last = BEST.format(self.at[self.best])
            for path in self.place.glob(BEST.format("*")):
                if path.name != last:
                    path.unlink()
        better = not self.found or self._score(found) < self._score(self.found[self.best])
        if better:  # written before it is told of, for an interrupt may come meanwhile
            learns = {name: each.detach() for name, each in self.tuned.parameters.items()}
            save_tensors(self.place / BEST.format(step), learns)
        if self.radius is not None:
            self.shares = shares_by_lack(self.base, self._lacks(found), self.radius)
        drawn, best = dict(self.shares), len(self.found) if better else self.best
        self.found, self.at, self.drawn, self.best = (
            [*self.found, found],
            [*self.at, step],
            [*self.drawn, drawn],
            best,
        )
        return found

    def lacks(self, place: int = -1) -> Losses:
        """What each language loses at an evaluation, as a share of the dense model's loss."""
        return self._lacks(self.found[place])

    def _lacks(self, found: Mapping[str, float]) -> Losses:
        return {tag: each / self.reference[tag] - 1 for tag, each in found.items()}

    def _score(self, found: Mapping[str, float]) -> float:
        lacks = list(self._lacks(found).values())
        return max(lacks) if self.watch == WORST else math.fsum(lacks) / len(lacks)

    def after(self, loss: float) -> None:
        """Settle what does not learn, and remember the loss."""
        self.tuned.settle()
        self._since.append(loss)

    def ends(self) -> None:
        """The mean loss since the evaluation before."""
        self.losses.append(math.fsum(self._since) / len(self._since))
        self._since.clear()

    @property
    def waited(self) -> int:
        """Evaluations since the best one."""
        return len(self.found) - 1 - self.best

    def load_best(self) -> None:
        """Put the weights of the best evaluation into the model.

        Raises BadRun where they are gone.
        """
        found = load_tensors(self.place / BEST.format(self.at[self.best]), error=BadRun)
        with torch.no_grad():
            for name, live in self.tuned.parameters.items():
                live.copy_(found[name])
        self.tuned.settle()
        self.tuned.finish()

    @property
    def used(self) -> list[dict[str, float]]:
        """The shares between two evaluations each: those that steps were drawn by, up to the last.

        Before any step those of the first.
        """
        return self.drawn[: max(1, len(self.at) - 1)]

    # ---- memory ----------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What later steps hang on, and what is told of those so far."""
        names = ("shares", "found", "at", "drawn", "losses", "tokens", "seconds", "best", "_since")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with what `state` gave; mappings keep the order of the languages, on which draws
        hang.
        """
        order = list(self.reference)

        def ordered(some: Mapping[str, float]) -> dict[str, Any]:
            return {tag: some[tag] for tag in order if tag in some}

        self.shares, self.tokens = ordered(state["shares"]), ordered(state["tokens"])
        self.found = [ordered(each) for each in state["found"]]
        self.drawn = [ordered(each) for each in state["drawn"]]
        self.at, self.losses = list(state["at"]), list(state["losses"])
        self.seconds, self.best = float(state["seconds"]), int(state["best"])
        self._since = list(state["_since"])


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
