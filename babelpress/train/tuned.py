"""What of a pressed model learns, and how it stays what it was pressed to.

Zeros of what was pruned stay zeros, weights on a grid do not learn. Three choices:

- `weights`: all other weights of the blocks, their norms and biases, and the last norm;
- `norms`: norms and biases alone;
- `low-rank`: these, and beside every matrix of the blocks W an update (U·V) ⊙ M of low rank (Hu et
  al. 2021, arXiv:2106.09685), where M are the weights that were not pruned; it becomes a part of W
  at the end, as PERP has it (Zimmer et al. 2023, arXiv:2312.15230).

Embeddings and head, with its biases of tokens, learn only where they are asked for.

Shapes: R rows, C columns of a weight as it is stored, K rank.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from babelpress.models import experts, vocabulary
from babelpress.train.masks import Masks

WEIGHTS, NORMS, LOW_RANK = CHOICES = ("weights", "norms", "low-rank")


class LowRank(nn.Module):
    """A weight with an update of low rank, which begins at zero; a parametrization."""

    def __init__(self, weight_RC: Tensor, rank: int, keep_RC: Tensor | None):
        super().__init__()
        rows, columns = weight_RC.shape
        small = columns**-0.5
        self.U_RK = nn.Parameter(torch.zeros((rows, rank), device=weight_RC.device))
        self.V_KC = nn.Parameter(torch.randn((rank, columns), device=weight_RC.device) * small)
        self.keep_RC = keep_RC

    def forward(self, weight_RC: Tensor) -> Tensor:
        """The weight as it is now."""
        update_RC = self.U_RK @ self.V_KC
        if self.keep_RC is not None:
            update_RC = update_RC * self.keep_RC
        return weight_RC + update_RC.to(weight_RC.dtype)


@dataclass(slots=True)
class Tuned:
    """What learns, by name; `zeros` are how many numbers of what was pruned stay zero.

    `before_head` says that nothing learns which makes logits of the last states.
    """

    parameters: dict[str, nn.Parameter]
    masks: Masks
    adapted: dict[str, nn.Module]
    zeros: int
    before_head: bool = True

    @classmethod
    def of(
        cls,
        model: nn.Module,
        tune: str,
        *,
        blocks: Collection[nn.Module],
        pruned: bool = False,
        fixed: Collection[str] = (),
        tables: Collection[nn.Parameter] = (),
        pruned_tables: bool = False,
        rank: int = 0,
        seed: int = 0,
    ) -> "Tuned":
        """Let a part of `model` learn, whose `blocks` were `pruned` or not; all else does not.

        `fixed` are the names of linears whose weights lie on a grid, `tables` are embeddings and
        head that learn too, pruned themselves or not.
        """
        model.requires_grad_(False)
        inside = {id(each) for block in blocks for each in block.parameters()}
        asked = {id(each) for each in tables}
        # Zeros of what lies on a grid may be no pruning, and it does not change anyway.
        loose = {
            name: each
            for name, each in model.named_parameters()
            if not any(part in fixed for part in experts.slice_names(name, each))
        }
        free = {name: p for name, p in loose.items() if id(p) in inside and p.ndim > 1}
        if asked:
            asked |= {id(each) for each in _of_tokens(model)}
        rows = {name: p for name, p in loose.items() if id(p) in asked}
        masked = (free if pruned else {}) | (rows if pruned_tables else {})
        masked = {name: each for name, each in masked.items() if each.ndim > 1}
        keep = {name: each.detach() != 0 for name, each in masked.items()}
        zeros = sum(each.numel() - int(each.count_nonzero()) for each in keep.values())
        rest = {id(each) for each in _of_tokens(model)} - asked
        chosen = {name: p for name, p in loose.items() if p.ndim == 1 and id(p) not in rest}
        chosen |= rows | (free if tune == WEIGHTS else {})
        masks = Masks(chosen)
        for name, each in chosen.items():
            each.requires_grad_(True)
            if name in keep:
                masks.put(name, keep[name])
        adapted = _adapted(model, free, keep, rank, seed) if tune == LOW_RANK else {}
        learns = {name: each for name, each in model.named_parameters() if each.requires_grad}
        return cls(learns, masks, adapted, zeros, _before_head(model))

    def settle(self) -> None:
        """After a step: zeros are put back."""
        self.masks.settle()

    def finish(self) -> None:
        """When all is learnt: updates become a part of their weights."""
        self.masks.release()
        for each in self.adapted.values():
            parametrize.remove_parametrizations(each, "weight", leave_parametrized=True)
        self.adapted.clear()


def _of_tokens(model: nn.Module) -> list[nn.Parameter]:
    """Biases that have a number for every token: a part of the head."""
    head: Any = getattr(model, "get_output_embeddings", lambda: None)()
    if head is None:
        return []
    body = {id(each) for each in getattr(model, "base_model", model).parameters()}
    size = len(head.weight)
    return [p for p in model.parameters() if id(p) not in body and p.shape == (size,)]


def _before_head(model: nn.Module) -> bool:
    """Whether all that learns is in the body of a model that has a head on it."""
    body = getattr(model, "base_model", model)
    inside = {id(each) for each in body.parameters()}
    head = getattr(model, "get_output_embeddings", lambda: None)()
    shared = set() if head is None else {id(each) for each in head.parameters()}
    return all(id(each) in inside - shared for each in model.parameters() if each.requires_grad)


def _adapted(
    model: nn.Module,
    free: Mapping[str, nn.Parameter],
    keep: Mapping[str, Tensor],
    rank: int,
    seed: int,
) -> dict[str, nn.Module]:
    """The linears that got an update of low rank, by name."""
    found: dict[str, nn.Module] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in list(model.named_modules()):
            weight: Any = free.get(f"{name}.weight")
            if weight is None or not isinstance(module, nn.Linear | Conv1D):
                continue
            own = keep.get(f"{name}.weight")
            made = LowRank(weight, min(rank, *weight.shape), own)
            parametrize.register_parametrization(module, "weight", made)
            found[name] = module
    return found


def tables_of(model: PreTrainedModel) -> list[nn.Parameter]:
    """Embeddings and head, each once."""
    return vocabulary.tables(model)
