"""Weights that are zero stay zero, while all others learn.

Their gradients are zeros before they count in anything, such as the norm that is clipped; and since
the optimizer may still move what learnt before it was masked, weights are put back after a step.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Masks:
    """Which numbers of some parameters learn, by name."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]):
        self.parameters = dict(parameters)
        self.keep: dict[str, Tensor] = {}
        self._hooks: dict[str, Any] = {}

    @classmethod
    def of_zeros(cls, parameters: Mapping[str, nn.Parameter]) -> "Masks":
        """Those of parameters that were pruned: what is zero stays so."""
        made = cls(parameters)
        for name, each in parameters.items():
            made.put(name, each.detach() != 0)
        return made

    def put(self, name: str, keep: Tensor) -> None:
        """Let only some numbers of a parameter learn; the others are zero from now on."""
        self.keep[name] = keep
        if name not in self._hooks:
            parameter = self.parameters[name]
            self._hooks[name] = parameter.register_hook(lambda grad: grad * self.keep[name])

    @torch.no_grad()
    def settle(self) -> None:
        """Put back to zero what is masked."""
        for name, keep in self.keep.items():
            self.parameters[name].mul_(keep)

    def release(self) -> None:
        """Let all learn again."""
        for hook in self._hooks.values():
            hook.remove()
        self._hooks.clear()
        self.keep.clear()
