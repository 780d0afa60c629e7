"""The dense model that a repair is held against, made to read what the pressed one reads.

Of a trimmed run the dense model has more tokens: its rows are taken out as trimming took out those
of the run, so that both say the same of the same text.

Tested in tests/steps/test_recover.py.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from babelpress.errors import BadModel
from babelpress.models import vocabulary
from babelpress.models.open import Opened, open_model
from babelpress.models.reading import sees_both_sides
from babelpress.models.tokenizers import tokenizer_hash, vocabulary_of

REMOTE = "transformers_modules"  # where transformers puts code that comes with a model


def open_dense(opened: Opened, place: str, name: str) -> Opened:
    """The dense model, which lies at `place`, with the tokens of the pressed one.

    Raises BadModel where it cannot be opened, or reads other text; for a model that runs code
    of its own.
    """
    if type(opened.model).__module__.startswith(REMOTE):
        raise BadModel(
            f"{opened.name} runs code of its own, and that of a dense model beside it is not "
            "trusted: such a model is not repaired here. Give one of a class of transformers."
        )
    try:
        dense = open_model(place, device=str(opened.model.device))
    except BadModel as error:
        raise BadModel(
            f"the dense model {name} cannot be opened: {error} Say where it is with --against."
        ) from error
    if sees_both_sides(dense.model) != sees_both_sides(opened.model):
        raise BadModel(
            f"one of {name} and the model reads text on both sides and the other does not. Give "
            "the dense model that it was made of with --against."
        )
    if tokenizer_hash(dense.tokenizer) != tokenizer_hash(opened.tokenizer):
        vocabulary.keep_rows(dense.model, _kept(opened, dense, name))
    if vocabulary_of(dense.model) != vocabulary_of(opened.model):
        raise BadModel(
            f"{name} reads {vocabulary_of(dense.model):,} tokens and the model "
            f"{vocabulary_of(opened.model):,}. Give the dense model that it was made of with "
            "--against."
        )
    return dense


def _kept(opened: Opened, dense: Opened, name: str) -> list[int]:
    """The dense model's numbers of the pressed one's tokens, in their order."""
    own = {number: token for token, number in opened.tokenizer.get_vocab().items()}
    known = dense.tokenizer.get_vocab()
    if lost := [token for token in own.values() if token not in known]:
        raise BadModel(
            f"{name} has another tokenizer than the model: {lost[0]!r} is no token of it. Give the "
            "dense model that it was made of with --against."
        )
    spare = _Spare.of(dense, set(known.values()))
    rows = range(vocabulary_of(opened.model))
    return [known[own[row]] if row in own else spare.like(opened, row, name) for row in rows]


@dataclass(slots=True)
class _Spare:
    """Rows of a dense model that are of no token, which a run may have some of."""

    rows: list[int]
    table_VH: Tensor

    @classmethod
    def of(cls, dense: Opened, taken: set[int]) -> "_Spare":
        table: Any = dense.model.get_input_embeddings()
        rows = [row for row in range(vocabulary_of(dense.model)) if row not in taken]
        return cls(rows, table.weight.detach())

    def like(self, opened: Opened, row: int, name: str) -> int:
        """The one that is the run's `row`. Raises BadModel where none is."""
        table: Any = opened.model.get_input_embeddings()
        wanted_H = table.weight.detach()[row].to(self.table_VH.dtype)
        for each in self.rows:
            if torch.equal(self.table_VH[each], wanted_H):
                self.rows.remove(each)
                return each
        raise BadModel(
            f"row {row:,} of the model's embedding is of no token, and {name} has none like it. "
            "Give the dense model that it was made of with --against."
        )
