"""Block by block: parts of a pressed block learn to give what those of the dense block give.

Both are given what the repaired blocks before pass on, so a model is repaired that is larger than
memory: one block of each is at hand, and hidden states may lie on disk. A step reads some sequences
of languages drawn by shares. What a block learnt is kept where it does better on text held apart
than what it was; a block that is done is written down, so that a run that was killed goes on behind
it.

Shapes: B sequences, T positions, P positions that count, H features.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from babelpress.errors import BadRun, BadSetting
from babelpress.models.linears import linears
from babelpress.models.walk import Walk
from babelpress.moments.gather import Batch, batches, pass_on
from babelpress.numerics.grids import Codes
from babelpress.system.files import load_tensors, save_tensors
from babelpress.system.memory import give_back
from babelpress.system.offload import Hold, changing
from babelpress.system.progress import Progress
from babelpress.text.token_blocks import TokenBlocks

PART = 4  # sequences of a language that are read at once
LOOKS = 4  # at text held apart, on the way
DONE = "checkpoint-{:03d}.safetensors"  # of a block
Loss = Callable[[Tensor, Tensor], Tensor]


class Learner(Protocol):
    """What learns of a block, and how."""

    def numbers(self) -> dict[str, Tensor]:
        """All that learns, live, by name."""
        ...

    def step(self, done: float) -> None:
        """Change what learns by its gradients, when a share of all steps is done."""
        ...

    def finish(self) -> dict[str, Codes]:
        """Become an ordinary block again; the codes of linears on a grid, by name inside it."""
        ...


@dataclass(frozen=True, slots=True)
class Repaired:
    """The error of a block's parts on text held apart before and after.

    `trained` is how many numbers learnt: those that change what a part gives. `read` are the tokens
    of each language that it learnt from.
    """

    block: int
    before: float
    after: float
    trained: int
    read: Mapping[str, int]


@dataclass(slots=True)
class ByBlock:
    """A pressed model and the dense one, walked side by side.

    `learner` makes what learns of a block from its number, it and the dense one; `settled` is given
    the codes of a block that is done.
    """

    walk: Walk
    dense: Walk
    loss_of: Loss
    learner: Callable[[int, nn.Module, nn.Module], Learner]
    shares: Mapping[str, float]
    steps: int
    batch: int
    seed: int
    place: Path
    hold: Hold
    settled: Callable[[int, dict[str, Codes]], None]
    whole: bool = False  # whether a block is one part
    done: list[Repaired] = field(default_factory=list)
    _at_work: tuple[nn.Module, Learner, dict[str, Tensor]] | None = None

    def repair(
        self,
        text: Mapping[str, TokenBlocks],
        apart: Mapping[str, TokenBlocks],
        progress: Progress,
    ) -> None:
        """Repair all blocks in place. Raises BadSetting where a loss is NaN or infinite."""
        tags = [tag for tag, share in self.shares.items() if share > 0]
        todo, held = (
            batches(
                self.walk,
                {tag: some[tag] for tag in tags},
                batch_tokens=PART * max(some[tag].length for tag in tags),
                hold=self.hold,
            )
            for some in (text, apart)
        )
        number = len(self.walk.blocks)
        progress("recover: block", len(self.done), number)
        for index in range(number):
            path = self.place / DONE.format(index)
            if path.exists():
                self._load(index, path)
            else:
                self._block(index, todo, held, path)
            if index + 1 < number:
                todo = pass_on(self.walk, index, todo, hold=self.hold)
                held = pass_on(self.walk, index, held, hold=self.hold)
            give_back()
            progress("recover: block", index + 1, number)

    def restore(self) -> None:
        """Put back the weights of the block that was at work when it was interrupted."""
        if self._at_work is not None:
            block, learner, weights = self._at_work
            learner.finish()
            with torch.no_grad():
                for name, live in block.named_parameters():
                    live.copy_(weights[name])
            block.requires_grad_(False)

    # ---- one block -------------------------------------------------------------------------

    def _block(self, index: int, todo: list[Batch], held: list[Batch], path: Path) -> None:
        for each in (*todo, *held):
            self.walk.prepare(index, each.hidden_BTH)
            self.dense.prepare(index, each.hidden_BTH)
        block = self.walk.blocks[index]
        with changing(block, self.hold):
            weights = {name: each.detach().clone() for name, each in block.named_parameters()}
            learner = self.learner(index, block, self.dense.blocks[index])
            self._at_work = block, learner, weights
            parts, read = self._parts(index), dict.fromkeys(self.shares, 0)
            learnt: dict[str, int] = {}
            before = self._look(index, held, parts)
            least, best = before, _copies(learner)
            every = max(1, self.steps // LOOKS)
            for step in range(self.steps):
                self._step(index, step, todo, parts, read)
                learnt |= {n: p.numel() for n, p in learner.numbers().items() if p.grad is not None}
                learner.step(step / self.steps)
                if (step + 1) % every == 0 or step + 1 == self.steps:
                    now = self._look(index, held, parts)
                    if now < least:
                        least, best = now, _copies(learner)
            with torch.no_grad():
                for name, live in learner.numbers().items():
                    live.copy_(best[name])
            codes = learner.finish()
            block.requires_grad_(False)
            made = Repaired(index, before, least, sum(learnt.values()), read)
            self._keep(made, codes, path)
            self._at_work = None

    def _step(
        self,
        index: int,
        step: int,
        todo: Sequence[Batch],
        parts: Sequence[str],
        read: dict[str, int],
    ) -> None:
        """The gradients of a step, and the tokens that are `read` for it."""
        rng = np.random.default_rng([self.seed, index, step])
        tags = list(self.shares)
        number = max(1, self.batch // PART)
        for place in rng.choice(len(tags), size=number, p=list(self.shares.values())):
            own = [each for each in todo if each.language == tags[place]]
            batch = own[int(rng.integers(len(own)))]
            loss = self._loss(index, batch, parts) / number
            if not loss.isfinite():
                raise BadSetting(
                    f"the loss of {self.walk.name(index)} is {loss.item()} at step {step}: lower "
                    "--rate, and begin again."
                )
            if not loss.requires_grad:
                raise BadSetting(
                    f"nothing that learns of {self.walk.name(index)} changes what its parts give. "
                    "Use --repair logits."
                )
            read[batch.language] += int(batch.counted_BT.sum())
            loss.backward()

    @torch.no_grad()
    def _look(self, index: int, held: Sequence[Batch], parts: Sequence[str]) -> float:
        """The loss on text held apart, mean over languages by their shares."""
        by_tag: dict[str, list[float]] = {}
        for batch in held:
            found = float(self._loss(index, batch, parts))
            by_tag.setdefault(batch.language, []).append(found)
        return math.fsum(
            self.shares[tag] * math.fsum(some) / len(some) for tag, some in by_tag.items()
        )

    def _loss(self, index: int, batch: Batch, parts: Sequence[str]) -> Tensor:
        """The mean loss of a block's parts.

        Each part of the pressed block is followed by what the dense part gives, so that the next
        one is given what the dense one is, through its own norms: these learn with it.
        """
        block, counted_BT = self.walk.blocks[index], batch.counted_BT
        with torch.no_grad(), _called(self.dense.blocks[index], parts) as theirs:
            wanted = self.dense.run(index, batch.hidden_BTH)
        with _called(block, parts, theirs) as own:
            given = self.walk.run(index, batch.hidden_BTH)
        pairs = [(_first(own[name]), _first(theirs[name])) for name in parts]
        if not parts:
            pairs = [(given.as_subclass(Tensor), wanted.as_subclass(Tensor))]
        losses = [
            self.loss_of(*(_rows(each, counted_BT).float() for each in pair)) for pair in pairs
        ]
        return torch.stack(losses).mean()

    def _parts(self, index: int) -> list[str]:
        """Attention and MLP: the modules of a block that hold several linears each.

        None where its linears lie otherwise, or it runs several times: then it is one part.
        """
        if self.whole or self.walk.times(index) > 1:
            return []
        found: dict[str, int] = {}
        for name in linears(self.walk.blocks[index]):
            found[name.partition(".")[0]] = found.get(name.partition(".")[0], 0) + 1
        return list(found) if all(number > 1 for number in found.values()) else []

    # ---- what is done ----------------------------------------------------------------------

    def _keep(self, made: Repaired, codes: dict[str, Codes], path: Path) -> None:
        weights = {f"weights/{n}": p for n, p in self.walk.blocks[made.block].named_parameters()}
        kept = {
            f"codes/{name}/{key}": tensor
            for name, each in codes.items()
            for key, tensor in each.tensors().items()
        }
        errors = torch.tensor([made.before, made.after], dtype=torch.float64)
        counts = {"trained": torch.tensor(made.trained)}
        counts |= {f"read/{tag}": torch.tensor(number) for tag, number in made.read.items()}
        grids = {f"grids/{n}": torch.tensor([c.bits, c.symmetric]) for n, c in codes.items()}
        save_tensors(path, {**weights, **kept, **grids, **counts, "errors": errors})
        self.done.append(made)
        self.settled(made.block, codes)

    def _load(self, index: int, path: Path) -> None:
        found = load_tensors(path, error=BadRun)
        block = self.walk.blocks[index]
        with changing(block, self.hold), torch.no_grad():
            for name, live in block.named_parameters():
                live.copy_(found[f"weights/{name}"])
        grids = {key.removeprefix("grids/"): found[key] for key in found if key.startswith("grids")}
        codes = {
            name: Codes.from_tensors(
                int(grid[0]), bool(grid[1]), {k: found[f"codes/{name}/{k}"] for k in Codes.PARTS}
            )
            for name, grid in grids.items()
        }
        before, after = found["errors"].tolist()
        read = {tag: int(found[f"read/{tag}"]) for tag in self.shares}
        self.done.append(Repaired(index, before, after, int(found["trained"]), read))
        self.settled(index, codes)


@contextmanager
def _called(
    block: nn.Module, parts: Sequence[str], instead: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """What a block's parts gave, once it has run; what goes on is `instead` where given."""
    found: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., Any]:
        def hook(_: nn.Module, _args: Any, output: Any) -> Any:
            found[name] = output
            return None if instead is None else instead[name]

        return hook

    hooks = [block.get_submodule(name).register_forward_hook(keep(name)) for name in parts]
    try:
        yield found
    finally:
        for each in hooks:
            each.remove()


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple | list) else output


def _rows(output: Tensor, counted_BT: Tensor) -> Tensor:
    """The positions that count (P, H), of (B, T, H) or of (B·T, H)."""
    return output.reshape(-1, output.shape[-1])[counted_BT.flatten()]


def _copies(learner: Learner) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in learner.numbers().items()}
