"""What is zero while a model is fine-tuned: what was pruned before, and what goes meanwhile.

Tested in tests/steps/test_finetune.py.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from babelpress.models.linears import linears
from babelpress.models.walk import find_stacks
from babelpress.numerics.counting import nonzeros
from babelpress.steps._kind import BLOCKS, TABLE
from babelpress.steps.finetune import Settings
from babelpress.train.finetuning import Adapting
from babelpress.train.gradual import Cubic, Gradual
from babelpress.train.masks import Masks
from babelpress.train.pst import Pst


@dataclass(frozen=True, slots=True)
class Sparsity:
    """The parts of a model that have zeros which stay (`kept`), and those that get some."""

    kept: frozenset[str]
    pruned: frozenset[str]

    @classmethod
    def of(cls, settings: Settings, pruned: frozenset[str]) -> "Sparsity":
        """Of a model in which a run `pruned` some parts: zeros of others may be no pruning.

        Rounding makes zeros too, as that to a few bits does.
        """
        kept = {"auto": pruned, "yes": pruned | {BLOCKS}, "no": frozenset[str]()}
        tables = {TABLE} if settings.embeddings else set[str]()
        goes = frozenset({BLOCKS} | tables) if settings.between else frozenset[str]()
        return cls(frozenset(kept[settings.keep_zeros]), goes)

    def adapting(self, model: PreTrainedModel, settings: Settings, steps: int) -> Adapting:
        """What is done to the weights besides learning, in a training of so many steps."""
        masks = Masks.of_zeros(_weights(model, self.kept))
        if settings.between is None:
            return _Kept(masks)
        rises = Cubic.over(*settings.between, steps)
        if settings.adapt == "pst":
            kept = {name.removesuffix(".weight"): keep for name, keep in masks.keep.items()}
            masks.release()
            return Pst.of(
                model, _parts(model, self.pruned), kept, settings.rank, rises, settings.seed
            )
        matrices = _weights(model, self.pruned)
        masks.parameters |= matrices
        return Gradual(masks, matrices, rises)

    def zeros(self, model: PreTrainedModel) -> int:
        """How many weights of both are zero."""
        weights = _weights(model, self.kept | self.pruned).values()
        return sum(each.numel() - nonzeros(each) for each in weights)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Zeros that stay."""

    masks: Masks

    def at(self, _step: int) -> None:
        """Nothing changes."""

    def settle(self) -> None:
        self.masks.settle()

    def ready(self, _step: int) -> bool:
        return True

    def finish(self) -> None:
        self.masks.release()


def _parts(model: PreTrainedModel, parts: frozenset[str]) -> dict[str, Any]:
    """The linears of blocks, or the table of token embeddings, or both, by their full names."""
    names = {id(module): name for name, module in model.named_modules()}
    found: list[Any] = []
    if BLOCKS in parts:
        blocks = [block for stack in find_stacks(model) for block in stack.blocks]
        found += [each for block in blocks for each in linears(block).values()]
    if TABLE in parts:
        found.append(model.get_input_embeddings())
    return {names[id(each)]: each for each in found}


def _weights(model: PreTrainedModel, parts: frozenset[str]) -> dict[str, nn.Parameter]:
    return {f"{name}.weight": each.weight for name, each in _parts(model, parts).items()}
