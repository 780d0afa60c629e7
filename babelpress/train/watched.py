"""Training that is watched on text held apart: what every language loses there, and what did best.

The languages of a step are drawn by shares, which are given once or follow what each language
lacks, found anew at every evaluation (numerics/lacking.py): its loss as a share beyond that of the
reference, a dense model or a teacher, or, where there is no reference, the loss itself. The weights
that did best are kept on disk.

Tested in tests/train/test_recovering.py and tests/train/test_distilling.py.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from babelpress.errors import BadRun
from babelpress.numerics.lacking import shares_by_lack
from babelpress.system.files import load_tensors, save_tensors
from babelpress.train import WORST

BEST = "best-{}.safetensors"  # what learns, after so many steps
Losses = dict[str, float]


class Measured(NamedTuple):
    """What is found on text held apart by language: losses, and distances to a teacher if any."""

    losses: Losses
    distances: Losses


@dataclass(slots=True, kw_only=True)
class Watched(ABC):
    """What learns and is watched; it is the memory of its training.

    `base` has the languages that are drawn. `reference` has the losses of a dense model or teacher
    in nats a scored token on the text held apart, `found` those of what learns at every evaluation,
    the first before any step, `at` how many steps were done then, `drawn` the shares since,
    `distances` what is found beside. With a `radius` the shares follow what lacks. Best files lie
    in `place`.
    """

    base: dict[str, float]
    place: Path
    seed: int
    reference: Losses = field(default_factory=dict)
    radius: float | None = None
    watch: str = WORST
    shares: dict[str, float] = field(default_factory=dict)
    found: list[Losses] = field(default_factory=list)
    distances: list[Losses] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    drawn: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    tokens: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    best: int = 0
    _since: list[float] = field(default_factory=list)

    @abstractmethod
    def loss(self, step: int) -> Tensor | Sequence[Callable[[], Tensor]]:
        """The loss of a step, or its parts."""

    @abstractmethod
    def measured(self) -> Measured:
        """What is found now. Raises NotFinite naming a language."""

    @abstractmethod
    def learns(self) -> Mapping[str, nn.Parameter]:
        """What learns, by name."""

    @abstractmethod
    def settle(self) -> None:
        """Put back what does not learn, after a step."""

    @abstractmethod
    def watching(self) -> Sequence[str]:
        """The languages that are watched, in their order."""

    def evaluate(self, step: int) -> Losses:
        """The losses on text held apart after so many steps, remembered; shares may follow them.

        The weights are kept where none so far did better.
        """
        found, distances = self.measured()
        if self.found:  # those of before the last evaluation, on which no checkpoint counts now
            last = BEST.format(self.at[self.best])
            for path in self.place.glob(BEST.format("*")):
                if path.name != last:
                    path.unlink()
        better = not self.found or self._score(found) < self._score(self.found[self.best])
        if better:  # written before it is told of, for an interrupt may come meanwhile
            learns = {name: each.detach() for name, each in self.learns().items()}
            save_tensors(self.place / BEST.format(step), learns)
        if self.radius is not None:
            self.shares = shares_by_lack(self.base, self._lacks(found), self.radius)
        drawn, best = dict(self.shares), len(self.found) if better else self.best
        self.found, self.at, self.drawn, self.distances, self.best = (
            [*self.found, found],
            [*self.at, step],
            [*self.drawn, drawn],
            [*self.distances, distances],
            best,
        )
        return found

    def lacks(self, place: int = -1) -> Losses:
        """What each language lacks at an evaluation, as a share of the reference's loss."""
        return self._lacks(self.found[place])

    def _lacks(self, found: Mapping[str, float]) -> Losses:
        if not self.reference:
            return dict(found)
        return {tag: each / self.reference[tag] - 1 for tag, each in found.items()}

    def _score(self, found: Mapping[str, float]) -> float:
        lacks = list(self._lacks(found).values())
        return max(lacks) if self.watch == WORST else math.fsum(lacks) / len(lacks)

    def after(self, loss: float) -> None:
        """Settle what does not learn, and remember the loss."""
        self.settle()
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
            for name, live in self.learns().items():
                live.copy_(found[name])
        self.settle()

    @property
    def used(self) -> list[dict[str, float]]:
        """The shares between two evaluations each: those that steps were drawn by, up to the last.

        Before any step those of the first.
        """
        return self.drawn[: max(1, len(self.at) - 1)]

    # ---- memory ----------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What later steps hang on, and what is told of those so far."""
        names = ("shares", "found", "distances", "at", "drawn", "losses", "tokens", "seconds")
        return {name: getattr(self, name) for name in (*names, "best", "_since")}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with what `state` gave; mappings keep the order of the languages, on which draws
        hang.
        """
        order = self.watching()

        def ordered(some: Mapping[str, float]) -> dict[str, Any]:
            return {tag: some[tag] for tag in order if tag in some}

        self.shares, self.tokens = ordered(state["shares"]), ordered(state["tokens"])
        self.found = [ordered(each) for each in state["found"]]
        beside = state.get("distances", [])  # older states have none
        self.distances = [ordered(each) for each in beside]
        self.drawn = [ordered(each) for each in state["drawn"]]
        self.at, self.losses = list(state["at"]), list(state["losses"])
        self.seconds, self.best = float(state["seconds"]), int(state["best"])
        self._since = list(state["_since"])
