"""Only those rows of the token table learn that training texts read.

A row that no text reads has no gradient, and AdamW without weight decay leaves it as it is: it is
the same whether it learns or not. But of a small multilingual encoder most numbers are such rows,
and their gradient, its norm and both moments cost more in every step than all of its blocks. So the
rows that are read are a parameter of their own, which stands in for them until `finish`.

Shapes: V rows of the table, R rows that are read, D its width; B texts, T positions.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

NAME = "rows"  # of the parameter, in the table's module


class Rows:
    """The rows of a table that learn; they are put where the table would give its own."""

    def __init__(self, table: nn.Embedding, ids: Iterable[int]):
        """Begin with what `ids` read; the row of padding, which has no gradient, is not learnt."""
        read_R = torch.tensor(sorted(set(ids) - {table.padding_idx}), device=table.weight.device)
        self.table, self.read_R = table, read_R
        self.place_V = torch.full((len(table.weight),), -1, device=read_R.device)
        self.place_V[read_R] = torch.arange(len(read_R), device=read_R.device)
        table.weight.requires_grad_(False)
        rows_RD = nn.Parameter(table.weight.detach()[read_R].clone())
        table.register_parameter(NAME, rows_RD)
        self._hook = table.register_forward_hook(self._put, with_kwargs=True)

    @classmethod
    def of(cls, model: Any, ids: Iterable[int]) -> "Rows | None":
        """Those of a model; None where its table is tied to another part or is no plain one."""
        table = model.get_input_embeddings()
        if type(table) is not nn.Embedding or not table.weight.requires_grad:
            return None
        own = [each for module in model.modules() for each in module.parameters(recurse=False)]
        return cls(table, ids) if sum(each is table.weight for each in own) == 1 else None

    def at(self, _step: int) -> None:
        """Nothing changes before a step."""

    def settle(self) -> None:
        """Nothing is to be mended after one."""

    def ready(self, _step: int) -> bool:
        """It is what it is to be at any time."""
        return True

    def finish(self) -> None:
        """Write what was learnt into the table, which is whole again."""
        with torch.no_grad():
            self.table.weight[self.read_R] = self._rows_RD()
        self._hook.remove()
        delattr(self.table, NAME)
        self.table.weight.requires_grad_(True)

    def _rows_RD(self) -> Tensor:
        found: Any = getattr(self.table, NAME)
        return found

    def _put(
        self,
        _table: nn.Module,
        given: tuple[Any, ...],
        named: dict[str, Any],
        out_BTD: Tensor,
    ) -> Tensor:
        place_BT = self.place_V[given[0] if given else named["input"]]
        learnt_BTD = embedding(place_BT.clamp(min=0), self._rows_RD())
        return torch.where((place_BT >= 0)[..., None], learnt_BTD, out_BTD)
