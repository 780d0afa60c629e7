"""What the dense model says of tokens: of all of the vocabulary, or its likeliest and the rest.

Shapes: N scored tokens, V vocabulary, K tokens that are kept of it.

Tested in tests/recover/test_logits.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST = 1e-30  # of a mass, so that its logarithm is a number


@dataclass(frozen=True, slots=True)
class Told:
    """Logarithms of probabilities: `log_NK` of the tokens `ids_NK`, `rest_N` of all others.

    Of all tokens (K = V) there are neither ids nor a rest.
    """

    log_NK: Tensor
    ids_NK: Tensor | None = None
    rest_N: Tensor | None = None

    @classmethod
    def whole(cls, logits_NV: Tensor) -> "Told":
        """Everything that a model says."""
        return cls(logits_NV.float().log_softmax(-1))

    @classmethod
    def top(cls, logits_NV: Tensor, number: int) -> "Told":
        """The likeliest tokens, and the mass of all others; of all tokens it is `whole`."""
        log_NV = logits_NV.float().log_softmax(-1)
        if number >= log_NV.shape[-1]:
            return cls(log_NV)
        log_NK, ids_NK = log_NV.topk(number, dim=-1)
        return cls(log_NK, ids_NK, log_mass_of_others(log_NK))

    def split(self, rows: int) -> "list[Told]":
        """Parts of that many tokens each."""
        logs = self.log_NK.split(rows)
        if self.ids_NK is None or self.rest_N is None:
            return [Told(each) for each in logs]
        return [
            Told(*each)
            for each in zip(logs, self.ids_NK.split(rows), self.rest_N.split(rows), strict=True)
        ]


def log_mass_of_others(log_NK: Tensor) -> Tensor:
    """The logarithm of what probabilities lack of one."""
    return (1 - log_NK.exp().sum(-1)).clamp(min=SMALLEST).log()


def chosen(logits_NV: Tensor, told: Told) -> tuple[Tensor, Tensor | None]:
    """Logarithms of a model's own probabilities of what is told of, and of the rest."""
    if told.ids_NK is None:
        return logits_NV.log_softmax(-1), None
    own_NK = logits_NV.gather(-1, told.ids_NK)
    all_N = logits_NV.logsumexp(-1)
    # Not one minus the sum of the kept: where they have nearly all mass that loses its digits.
    others_N = logits_NV.scatter(-1, told.ids_NK, -torch.inf).logsumexp(-1)
    return own_NK - all_N[:, None], others_N - all_N
