"""Gradual magnitude pruning while a model learns (Ogueji et al. 2022, arXiv:2211.02738).

The share of zeros rises by the cubic schedule of Zhu and Gupta (2017, arXiv:1710.01878, equation
1), v_t = v_f + (v_i − v_f)(1 − t)³, fast at first and ever slower, while t goes from 0 to 1 in the
first seven tenths of the training; then what is left learns on. In every linear of the blocks the
smallest weights go, so that each has the same share of zeros; what is zero once stays zero. The
token embeddings stay dense unless they are asked for.

Shapes: O outputs, I inputs of a linear.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from babelpress.numerics.patterns import PerLayer
from babelpress.train.masks import Masks

PART = 0.7  # of all steps, in which the share of zeros rises
UPDATES = 100  # of the masks, at most


@dataclass(frozen=True, slots=True)
class Cubic:
    """A share of zeros that rises from `begin` to `end` over so many steps."""

    begin: float
    end: float
    steps: int

    @classmethod
    def over(cls, begin: float, end: float, steps: int) -> "Cubic":
        """Over the first part of a training of so many steps."""
        return cls(begin, end, int(PART * steps))

    def share(self, step: int) -> float:
        """The share of zeros at a step, counted from 0."""
        if step >= self.steps:
            return self.end
        return self.end + (self.begin - self.end) * (1 - step / self.steps) ** 3

    def risen(self, done: int) -> bool:
        """Whether the last of so many steps had all the zeros that there are to be."""
        return done > self.steps


@dataclass(slots=True)
class Gradual:
    """The smallest weights of some matrices go step by step."""

    masks: Masks
    matrices: Mapping[str, nn.Parameter]
    rises: Cubic
    _begun: bool = field(default=False)

    def at(self, step: int) -> None:
        """The masks of a step, where they change there; the first time those that it has."""
        every = max(1, self.rises.steps // UPDATES)
        last = min(step, self.rises.steps)
        if last < self.rises.steps:
            last -= last % every
        if self._begun and step != last:
            return
        self._begun = True
        pattern = PerLayer(self.rises.share(last))
        for name, each in self.matrices.items():
            keep_OI = pattern.keep(each.detach().abs())
            before_OI = self.masks.keep.get(name)
            self.masks.put(name, keep_OI if before_OI is None else keep_OI & before_OI)
        self.masks.settle()

    def settle(self) -> None:
        """Put back to zero what the optimizer moved."""
        self.masks.settle()

    def ready(self, done: int) -> bool:
        """Whether all that shall go is gone."""
        return self.rises.risen(done)

    def finish(self) -> None:
        """Zeros are weights as all others now."""
        self.masks.release()
