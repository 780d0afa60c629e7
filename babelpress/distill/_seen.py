"""What an objective is given: what a model said of a batch, and what is true of it.

Shapes: B texts, N scored tokens, P tokens that are no padding, V vocabulary or labels, H hidden.

Tested in tests/distill/test_hinton.py and tests/distill/test_mixkd.py.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div


@dataclass(frozen=True, slots=True)
class Seen:
    """What one model made of a batch.

    `logits_NV` are those of the scored tokens, `hidden` what its blocks gave, (P, H) each: of the
    student only blocks that are held against one of the teacher's, projected to its width.
    """

    logits_NV: Tensor
    hidden: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True)
class Truth:
    """What the scored tokens are: `target_N`, and of mixed text `other_N` beside it.

    `share_N` is how much of each token is the first. Where no text is mixed it is 1, and both
    targets are the same.
    """

    target_N: Tensor
    other_N: Tensor
    share_N: Tensor

    @classmethod
    def plain(cls, target_N: Tensor) -> "Truth":
        """Of text that is not mixed."""
        return cls(target_N, target_N, target_N.new_ones(target_N.shape).float())

    def split(self, rows: int) -> "list[Truth]":
        """Parts of that many tokens each."""
        parts = (each.split(rows) for each in (self.target_N, self.other_N, self.share_N))
        return [Truth(*each) for each in zip(*parts, strict=True)]


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which text each of B texts is mixed with, and the share of its own that stays."""

    partner_B: np.ndarray
    share_B: np.ndarray


def supervised(student: Seen, truth: Truth) -> Tensor:
    """Mean cross-entropy in nats with what is true; of mixed text with both, by their shares."""
    own_N = cross_entropy(student.logits_NV, truth.target_N, reduction="none")
    other_N = cross_entropy(student.logits_NV, truth.other_N, reduction="none")
    return (truth.share_N * own_N + (1 - truth.share_N) * other_N).mean()


def divergence(student: Seen, teacher: Seen, temperature: float = 1.0) -> Tensor:
    """Mean KL(teacher ‖ student) in nats of the distributions at a temperature."""
    said_NV = (student.logits_NV / temperature).log_softmax(-1)
    wanted_NV = (teacher.logits_NV / temperature).log_softmax(-1)
    return kl_div(said_NV, wanted_NV, reduction="batchmean", log_target=True)


def difference(student: Seen, teacher: Seen) -> Tensor:
    """Mean squared difference of logits, over tokens and vocabulary."""
    return (student.logits_NV - teacher.logits_NV).square().mean()
