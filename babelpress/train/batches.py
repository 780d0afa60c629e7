"""What is learnt from in a step: texts of languages, which tokens are scored, what these are.

Of an encoder a share of the tokens is hidden (Devlin et al. 2019, arXiv:1810.04805, 3.1: 15 %; of
these 80 % become the mask, 10 % another token, 10 % stay). Of a decoder every next token is scored.
Of an encoder without a head nothing is: its states are all that there is.

Shapes: B texts, T positions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from babelpress.distill._seen import Pairing
from babelpress.text.pieces import padded
from babelpress.text.token_blocks import TokenBlocks

HIDDEN = 0.15  # of all tokens of text
MASKED, OTHER = 0.8, 0.1  # of the hidden ones
_TENSORS = ("ids_BT", "read_BT", "text_BT", "scored_BT", "target_BT")  # of a batch


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts, padded to one length.

    `read_BT` is where anything stands that is no padding, `text_BT` where it is text and no mark.
    `scored_BT` are places whose logits are scored and `target_BT` what is true there: of whole
    texts, (B, 1). `mask` is the token that stands for hidden ones, where there are any.
    """

    languages_B: tuple[str, ...]
    ids_BT: Tensor
    read_BT: Tensor
    text_BT: Tensor
    scored_BT: Tensor
    target_BT: Tensor
    mask: int | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})

    def rows(self, which: slice) -> "Batch":
        """Some of the texts."""
        parts = {name: getattr(self, name)[which] for name in _TENSORS}
        return replace(self, languages_B=self.languages_B[which], **parts)


@dataclass(frozen=True, slots=True)
class Mixed:
    """A batch whose texts are mixed with others of it: row b is share_B of its own ids_BT."""

    ids_BT: Tensor
    other_BT: Tensor
    read_BT: Tensor
    scored_BT: Tensor
    target_BT: Tensor
    other_target_BT: Tensor
    share_B: Tensor

    @classmethod
    def of(cls, batch: Batch, pairing: Pairing) -> "Mixed":
        """Scored is what is scored in both texts.

        Where tokens are hidden, those of the first text are hidden in both, so that neither shows
        what the other is asked for.
        """
        partner_B = torch.from_numpy(pairing.partner_B).to(batch.ids_BT.device)
        share_B = torch.from_numpy(pairing.share_B).float().to(batch.ids_BT.device)
        ids_BT, target_BT = batch.ids_BT, batch.target_BT
        other_BT, other_target_BT = ids_BT[partner_B], target_BT[partner_B]
        scored_BT = batch.scored_BT & batch.scored_BT[partner_B]
        if batch.mask is not None:
            plain_BT = torch.where(batch.scored_BT, target_BT, ids_BT)
            hidden_BT, scored_BT = batch.scored_BT, batch.scored_BT & batch.text_BT[partner_B]
            other_target_BT = plain_BT[partner_B]
            ids_BT = plain_BT.masked_fill(hidden_BT, batch.mask)
            other_BT = other_target_BT.masked_fill(scored_BT, batch.mask)
        read_BT = batch.read_BT | batch.read_BT[partner_B]
        return cls(ids_BT, other_BT, read_BT, scored_BT, target_BT, other_target_BT, share_B)


class Text(Protocol):
    """Whatever batches are made of; `scores` says what is scored of it."""

    @property
    def scores(self) -> str: ...

    def languages(self) -> list[str]: ...

    def draw(self, languages_B: Sequence[str], rng: np.random.Generator) -> Batch:
        """Some text of each of these languages."""
        ...

    def number(self, tag: str) -> int:
        """How many texts a language has."""
        ...

    def some(self, tag: str, start: int, size: int, rng: np.random.Generator) -> Batch:
        """Texts of a language in their order; at most as many as there are."""
        ...


@dataclass(frozen=True, slots=True)
class Marks:
    """The tokens of a tokenizer that are no text: padding, and what else is special.

    `mask` is None for a model that hides nothing; `vocabulary` how many tokens it has a row for.
    """

    pad: int | None
    special: frozenset[int]
    mask: int | None
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Blocks:
    """Token blocks of languages; `scores` is what is asked of them: hidden, next or nothing."""

    blocks: Mapping[str, TokenBlocks]
    marks: Marks
    scores: str

    def languages(self) -> list[str]:
        """Those that have a block."""
        return [tag for tag, each in self.blocks.items() if len(each.ids_BT)]

    def draw(self, languages_B: Sequence[str], rng: np.random.Generator) -> Batch:
        """A block of each, drawn with replacement."""
        rows = [
            self.blocks[tag].ids_BT[rng.integers(len(self.blocks[tag].ids_BT))]
            for tag in languages_B
        ]
        return self.batch(tuple(languages_B), rows, rng)

    def number(self, tag: str) -> int:
        """How many blocks a language has."""
        return len(self.blocks[tag].ids_BT)

    def some(self, tag: str, start: int, size: int, rng: np.random.Generator) -> Batch:
        """Blocks of a language from number `start` on."""
        rows = list(self.blocks[tag].ids_BT[start : start + size])
        return self.batch((tag,) * len(rows), rows, rng)

    def batch(
        self, languages_B: tuple[str, ...], rows: Sequence[Tensor], rng: np.random.Generator
    ) -> Batch:
        """Rows of ids as a batch."""
        pad = 0 if self.marks.pad is None else self.marks.pad
        ids_BT = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=pad)
        read_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
        for row, ids in enumerate(rows):
            read_BT[row, : _length(ids, self.marks.pad)] = True
        special = torch.tensor(sorted(self.marks.special), dtype=torch.long)
        text_BT = read_BT & ~torch.isin(ids_BT, special)
        if self.scores == "hidden":
            shown_BT, scored_BT = hide(ids_BT, text_BT, self.marks, rng)
            return Batch(
                languages_B, shown_BT, read_BT, text_BT, scored_BT, ids_BT, self.marks.mask
            )
        scored_BT, target_BT = torch.zeros_like(read_BT), ids_BT.roll(-1, 1)
        if self.scores == "next":
            scored_BT[:, :-1] = read_BT[:, 1:]
        return Batch(languages_B, ids_BT, read_BT, text_BT, scored_BT, target_BT)


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled piece: its tokens with those around it, where labelled ones are, their labels.

    Without places it has one label, that of the whole.
    """

    tokens: tuple[int, ...]
    places_W: tuple[int, ...]
    labels_W: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled pieces of languages; the labels are scored."""

    rows: Mapping[str, Sequence[Example]]
    marks: Marks
    scores: str = "labels"

    def languages(self) -> list[str]:
        """Those that have a piece."""
        return [tag for tag, rows in self.rows.items() if rows]

    def draw(self, languages_B: Sequence[str], rng: np.random.Generator) -> Batch:
        """A piece of each, drawn with replacement."""
        rows = [self.rows[tag][int(rng.integers(len(self.rows[tag])))] for tag in languages_B]
        return self.batch(tuple(languages_B), rows)

    def number(self, tag: str) -> int:
        """How many pieces a language has."""
        return len(self.rows[tag])

    def some(self, tag: str, start: int, size: int, rng: np.random.Generator) -> Batch:  # noqa: ARG002
        """Pieces of a language from number `start` on; nothing is drawn."""
        rows = self.rows[tag][start : start + size]
        return self.batch((tag,) * len(rows), rows)

    def batch(self, languages_B: tuple[str, ...], rows: Sequence[Example]) -> Batch:
        """Pieces as a batch."""
        ids_BT, mask_BT = padded([each.tokens for each in rows], self.marks.pad or 0)
        read_BT = mask_BT.bool()
        whole = not any(each.places_W for each in rows)
        shape = (len(rows), 1) if whole else tuple(ids_BT.shape)
        scored_BT = torch.full(shape, whole)
        target_BT = torch.zeros(shape, dtype=torch.long)
        for row, each in enumerate(rows):
            places = [0] if whole else list(each.places_W)
            scored_BT[row, places] = True
            target_BT[row, places] = torch.tensor(each.labels_W)
        return Batch(languages_B, ids_BT, read_BT, read_BT, scored_BT, target_BT)


def hide(
    ids_BT: Tensor, text_BT: Tensor, marks: Marks, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Ids with some hidden, and which: HIDDEN of a row's text, one token at least."""
    assert marks.mask is not None
    chosen_BT = torch.zeros_like(text_BT)
    for row, text_T in enumerate(text_BT):
        places = text_T.nonzero()[:, 0].numpy()
        number = max(1, round(HIDDEN * len(places))) if len(places) else 0
        chosen_BT[row, torch.from_numpy(rng.permutation(places)[:number])] = True
    how_BT = torch.from_numpy(rng.random(tuple(ids_BT.shape)))
    other_BT = torch.from_numpy(rng.integers(0, marks.vocabulary, tuple(ids_BT.shape)))
    shown_BT = torch.where(chosen_BT & (how_BT < MASKED), marks.mask, ids_BT)
    swapped_BT = chosen_BT & (how_BT >= MASKED) & (how_BT < MASKED + OTHER)
    return torch.where(swapped_BT, other_BT, shown_BT), chosen_BT


def _length(ids_T: Tensor, pad: int | None) -> int:
    """How much of a row is no padding at its end."""
    if pad is None:
        return len(ids_T)
    there = (ids_T != pad).nonzero()
    return int(there[-1]) + 1 if len(there) else 0
