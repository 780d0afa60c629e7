"""What a model says of a batch: logits of scored tokens, a part at a time, and states of blocks.

The body runs once, and logits of scored positions are made apart (`models/apart.py`); where that is
not what the model says, known from a try, all logits are made at once.

Shapes: B texts, T positions, N scored tokens, P positions that are no padding, V vocabulary or
labels, H hidden size.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from babelpress.models.apart import is_apart, logits_of
from babelpress.models.recording import CANNOT_READ, other_text
from babelpress.models.reshaped import META
from babelpress.models.walk import find_stacks
from babelpress.train.batches import Batch, Mixed

NUMBERS = 1 << 24  # logits of a part at most: 64 MiB in float32


def _nothing(_rows: Tensor) -> Tensor:
    raise AssertionError("nothing is scored")


@dataclass(frozen=True, slots=True)
class Said:
    """What a model made of a batch: the parts of its logits are made when they are asked for.

    `rows` are the scored tokens of a part, `hidden` what its blocks gave. `logits` makes those of
    rows of `source` (N, anything), which is None where nothing is scored.
    """

    parts: Sequence[Callable[[], Tensor]]
    rows: int
    hidden: tuple[Tensor, ...]
    source: Tensor | None = None
    logits: Callable[[Tensor], Tensor] = _nothing


def answers_of(model: PreTrainedModel) -> str:
    """What a head predicts, as `Reader` has it; empty where that is not seen without weights."""
    try:
        with torch.no_grad():
            output = model(other_text(model).to(model.device))
    except CANNOT_READ:
        if model.device.type != META:
            raise
        return ""
    return _answers(model, getattr(output, "logits", None))


@dataclass(frozen=True, slots=True)
class Reader:
    """A model, its blocks, and whether logits of single positions can be made."""

    model: PreTrainedModel
    blocks: tuple[nn.Module, ...]
    apart: bool
    answers: str

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Reader":
        """Of a model in evaluation mode.

        `answers` is what its head predicts: `tokens`, `labels` of tokens or of whole `texts`, or
        `nothing`.
        """
        text_1T = other_text(model).to(model.device)
        with torch.no_grad():
            logits = getattr(model(text_1T), "logits", None)
            there_1T = torch.ones_like(text_1T, dtype=torch.bool)
            answers = _answers(model, logits)
            apart = answers == "tokens" and is_apart(model, text_1T, logits, there_1T)
        blocks = tuple(block for stack in find_stacks(model) for block in stack.blocks)
        return cls(model, blocks, apart, answers)

    def read(self, batch: Batch, *, hidden: Sequence[int] = ()) -> Said:
        """What the model says of text, and what the blocks of these numbers gave, (P, H) each."""
        return self._said(
            {"input_ids": batch.ids_BT}, batch.read_BT, batch.scored_BT, hidden=hidden
        )

    def read_mixed(self, mixed: Mixed) -> Said:
        """What it says of the mixture of two texts' embeddings."""
        embed = self.model.get_input_embeddings()
        share_B11 = mixed.share_B[:, None, None]
        own_BTH, other_BTH = embed(mixed.ids_BT), embed(mixed.other_BT)
        share_B11 = share_B11.to(own_BTH.dtype)
        mixture_BTH = share_B11 * own_BTH + (1 - share_B11) * other_BTH
        return self._said({"inputs_embeds": mixture_BTH}, mixed.read_BT, mixed.scored_BT)

    def _said(
        self,
        given: dict[str, Tensor],
        read_BT: Tensor,
        scored_BT: Tensor,
        *,
        hidden: Sequence[int] = (),
    ) -> Said:
        mask_BT = read_BT.long()
        bare = not bool(scored_BT.any())
        run: Any = self.model.base_model if self.apart or bare else self.model
        with _watching([self.blocks[index] for index in hidden]) as seen:
            output = run(**given, attention_mask=mask_BT, use_cache=False)
        states = tuple(each[read_BT] for each in seen)
        if bare:
            return Said((), 1, states)
        if self.apart:
            rows_NH = output.last_hidden_state[scored_BT]
            return _in_parts(
                rows_NH, _vocabulary(self.model), lambda r: logits_of(self.model, output, r), states
            )
        logits = output.logits[:, None] if self.answers == "texts" else output.logits
        return _in_parts(logits[scored_BT], logits.shape[-1], lambda rows: rows, states)


def _in_parts(
    rows: Tensor, width: int, logits: Callable[[Tensor], Tensor], hidden: tuple[Tensor, ...]
) -> Said:
    """What makes the logits, in float32, of a part of the rows each."""
    size = max(1, NUMBERS // width)
    parts = [lambda some=some: logits(some).float() for some in rows.split(size)]
    return Said(parts, size, hidden, rows, lambda some: logits(some).float())


def _answers(model: PreTrainedModel, logits: Tensor | None) -> str:
    if logits is None:
        return "nothing"
    if logits.ndim == 2:
        return "texts"
    return "labels" if model.get_output_embeddings() is None else "tokens"


def _vocabulary(model: PreTrainedModel) -> int:
    head: Any = model.get_output_embeddings()
    return len(head.weight)


@contextmanager
def _watching(blocks: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """The outputs of blocks, in their order, once the model has run."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple | list) else output)

    with ExitStack() as stack:
        for block in blocks:
            stack.callback(block.register_forward_hook(keep).remove)
        yield seen
