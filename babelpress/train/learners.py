"""What learns of a block: weights, norms or updates of low rank by AdamW, or integers by signs.

Tested in tests/train/test_by_block.py.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import AdamW, Optimizer
from transformers.pytorch_utils import Conv1D

from babelpress.models.linears import linears, weight
from babelpress.numerics.grids import Codes
from babelpress.recover.rounding import Rounded
from babelpress.train.loop import MasterWeights
from babelpress.train.tuned import Tuned


@dataclass(slots=True)
class Weights:
    """A block whose weights or norms learn; of bfloat16 ones the optimizer has float32 copies."""

    tuned: Tuned
    optimizer: Optimizer
    rate: float

    @classmethod
    def of(
        cls,
        block: nn.Module,
        tune: str,
        *,
        pruned: bool,
        fixed: Collection[str],
        rank: int,
        seed: int,
        rate: float,
    ) -> "Weights":
        """Of a block whose linears `fixed`, by their names in it, lie on a grid."""
        tuned = Tuned.of(
            block, tune, blocks=[block], pruned=pruned, fixed=fixed, rank=rank, seed=seed
        )
        learns = list(tuned.parameters.values())
        if all(each.dtype == torch.float32 for each in learns):
            optimizer: Optimizer = AdamW(learns, lr=rate, weight_decay=0.0)
        else:
            optimizer = MasterWeights([(learns, lambda p: AdamW(p, lr=rate, weight_decay=0.0))])
        return cls(tuned, optimizer, rate)

    def numbers(self) -> dict[str, Tensor]:
        """All that learns."""
        return dict(self.tuned.parameters)

    def step(self, done: float) -> None:
        """AdamW; the rate falls in a line."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * (1 - done)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.tuned.settle()

    def finish(self) -> dict[str, Codes]:
        """Updates become a part of their weights; there are no codes."""
        self.tuned.settle()
        self.tuned.finish()
        return {}


@dataclass(slots=True)
class Integers:
    """A block whose integers and scales learn."""

    made: dict[str, Rounded]
    modules: dict[str, nn.Module]
    rate: float

    @classmethod
    def of(
        cls,
        block: nn.Module,
        dense: nn.Module,
        codes: Mapping[str, Codes],
        *,
        pruned: bool,
        rate: float,
    ) -> "Integers":
        """Of a block whose linears have `codes`, by their names in it."""
        block.requires_grad_(False)
        own, theirs = linears(block), linears(dense)
        made: dict[str, Rounded] = {}
        modules: dict[str, nn.Module] = {}
        for name, each in codes.items():
            module: Any = own[name]
            keep_OI = weight(module) != 0 if pruned else None
            turned = isinstance(module, Conv1D)
            made[name] = Rounded(each, weight(theirs[name]), keep_OI, turned=turned)
            modules[name] = module
            # Not checked: what is shown in its place may be of another dtype than what learns.
            parametrize.register_parametrization(module, "weight", made[name], unsafe=True)
        return cls(made, modules, rate)

    def numbers(self) -> dict[str, Tensor]:
        """All that learns."""
        return {
            f"{name}.{key}": each
            for name, made in self.made.items()
            for key, each in made.named_parameters()
        }

    @torch.no_grad()
    def step(self, done: float) -> None:
        """By the signs of gradients; the rate falls in a line."""
        for made in self.made.values():
            for each in made.parameters():
                if each.grad is not None:
                    each.sub_(each.grad.sign(), alpha=self.rate * (1 - done))
                    each.grad = None
            made.settle()

    def finish(self) -> dict[str, Codes]:
        """What the codes stand for becomes the weight."""
        found = {name: made.codes() for name, made in self.made.items()}
        for module in self.modules.values():
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
        return found
