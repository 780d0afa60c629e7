"""Both sides of a text: what an encoder reads, and what a decoder is to write of it.

Padding comes last on both sides. What the encoder reads is masked where there is none; a decoder
sees nothing after a position, so that its padding needs no mask.

Tested in tests/models/test_sides.py.

Shapes: B pairs, S positions of the source, T of the target (or of the only side), H hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What an encoder reads (B, S): token ids, where there is text, and what of it counts."""

    ids_BS: Tensor
    there_BS: Tensor
    counted_BS: Tensor

    @classmethod
    def whole(cls, ids_BS: Tensor) -> "Source":
        """Text without padding, all of which counts."""
        everywhere_BS = torch.ones_like(ids_BS, dtype=torch.bool)
        return cls(ids_BS, everywhere_BS, everywhere_BS)

    def rows(self, some: slice) -> "Source":
        """Some of the pairs."""
        return Source(self.ids_BS[some], self.there_BS[some], self.counted_BS[some])

    def cut(self, target: int) -> "Source":
        """Without positions that no pair fills, but never as long as a target of so many.

        So the rows that a linear sees tell which side they are of.
        """
        length = int(self.there_BS.any(0).sum())
        length += length == target
        missing = max(0, length - self.ids_BS.shape[1])
        cut = (_lengthened(each, missing)[:, :length] for each in self._tensors())
        return Source(*cut)

    def to(self, device: torch.device) -> "Source":
        """The same on a device."""
        return Source(*(each.to(device) for each in self._tensors()))

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.ids_BS, self.there_BS, self.counted_BS


def _lengthened(x_BS: Tensor, more: int) -> Tensor:
    """With positions of padding behind: the last id again, which is masked."""
    if not more:
        return x_BS
    blank_B1 = x_BS[:, -1:] if x_BS.dtype != torch.bool else torch.zeros_like(x_BS[:, -1:])
    return torch.cat([x_BS, blank_B1.expand(-1, more)], dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What one stack of blocks reads: token ids (B, T), and where there is text, None everywhere.

    A decoder that reads an encoder has what that made (B, S, H), and where it had text (B, S).
    """

    ids_BT: Tensor
    there_BT: Tensor | None = None
    encoded_BSH: Tensor | None = None
    there_BS: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """That of the ids; for such a decoder (B, T, S)."""
        further = () if self.encoded_BSH is None else self.encoded_BSH.shape[1:2]
        return torch.Size([*self.ids_BT.shape, *further])


@dataclass(frozen=True, slots=True, eq=False)
class Ahead:
    """What the decoder of a batch is to read once its encoder is done."""

    source: Source
    ids_BT: Tensor


def padded(rows: Sequence[Sequence[int] | np.ndarray], pad: int) -> Tensor:
    """Token ids of unequal length as one tensor (B, T), with padding behind."""
    found_BT = torch.full((len(rows), max(map(len, rows), default=1)), pad, dtype=torch.long)
    for row, ids in enumerate(rows):
        found_BT[row, : len(ids)] = torch.as_tensor(ids, dtype=torch.long)
    return found_BT


def there(rows: Sequence[Sequence[int] | np.ndarray]) -> Tensor:
    """Where a tensor of them (B, T) has ids, and no padding."""
    return padded([[1] * len(ids) for ids in rows], 0).bool()
