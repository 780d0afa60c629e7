"""Documents to pieces of text, and token ids to blocks of fixed length.

A block is one sequence of a model: BOS where the tokenizer has one, then tokens of documents joined
by EOS, or one sample and padding. Without BOS in front a model takes the first token of text for
the sink of its attention, and that token's outsized features would be counted.

Shapes: B blocks, T positions of a block.

Tested in tests/text/test_calibration.py.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from babelpress.errors import BadSetting
from babelpress.models.sides import Source
from babelpress.models.tokenizers import Tokenizer, check_known

PIECE_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class TokenBlocks:
    """Token blocks of one language; `counted_BT` is False where moments must not look.

    Those of an encoder-decoder are pairs: `source` is what its encoder reads, `ids_BT` what its
    decoder does, and the language a direction, such as eng_Latn>swh_Latn.
    """

    language: str
    ids_BT: Tensor
    counted_BT: Tensor
    source: Source | None = None

    @property
    def length(self) -> int:
        """Positions of a block; of a pair those of its longer side."""
        return max(self.ids_BT.shape[1], self.source.ids_BS.shape[1] if self.source else 0)

    def rows(self, some: slice) -> "TokenBlocks":
        """Some of the blocks."""
        source = self.source.rows(some) if self.source else None
        return TokenBlocks(self.language, self.ids_BT[some], self.counted_BT[some], source)


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive lines of one document, or a part of one long line."""

    document: str
    place: int
    text: str


@dataclass(frozen=True, slots=True)
class Layout:
    """How token ids become blocks: the wanted size, and the tokenizer's special tokens.

    `known` is how many tokens the model has embeddings for; None where no model is to read them.
    With `whole` there is no padding, which a model that reads on both sides would see.
    """

    tokens: int
    length: int
    bos: int | None
    eos: int | None
    pad: int
    special: frozenset[int]
    count_special: bool
    known: int | None = None
    whole: bool = False

    @property
    def body(self) -> int:
        """Positions of a block that are not BOS."""
        return self.length - (self.bos is not None)

    @property
    def wanted(self) -> int:
        """How many token ids, EOS between pieces among them, fill the blocks."""
        return self.tokens // self.length * self.body


def pieces(document: str, lines: Iterable[str]) -> list[Piece]:
    """Cut a document into pieces of at most PIECE_CHARACTERS at the ends of lines.

    A line that is longer is cut after a space, else anywhere but before a combining mark.
    """
    found: list[str] = []
    current: list[str] = []
    size = 0
    for line in lines:
        *whole, rest = _cut(line)
        if current and (whole or size + len(rest) > PIECE_CHARACTERS):
            found.append("\n".join(current))
            current, size = [], 0
        found += whole
        current.append(rest)
        size += len(rest) + 1
    found.append("\n".join(current))
    return [Piece(document, place, text) for place, text in enumerate(found) if text.strip()]


def layout_for(
    tokenizer: Tokenizer,
    tokens: int,
    length: int,
    count_special: bool,
    known: int | None = None,
    whole: bool = False,
) -> Layout:
    """The layout of a tokenizer. Raises BadSetting where not one block fits."""
    if length < 2:
        raise BadSetting(f"--length {length} is too short for a token block. Use at least 2.")
    if tokens < length:
        raise BadSetting(
            f"{tokens:,} tokens of a language do not fill one block of {length:,}. "
            f"Use shorter blocks with --length {tokens}, or at least --tokens {length}."
        )
    # Encoders of BERT's kind have CLS and SEP where others have BOS and EOS.
    bos = _first(tokenizer.bos_token_id, tokenizer.cls_token_id)
    eos = _first(tokenizer.eos_token_id, tokenizer.sep_token_id)
    pad = _padding(tokenizer.pad_token_id, eos, known)
    # An unknown token is text that the model has to read, not a mark of ours.
    marks = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    special = frozenset(each for each in (*marks, bos, eos) if each is not None)
    return Layout(tokens, length, bos, eos, pad, special, count_special, known, whole)


def pack(language: str, documents: Sequence[Sequence[int]], layout: Layout) -> TokenBlocks:
    """Join by EOS, cut to blocks with BOS before each, pad what the last one lacks.

    Where blocks are to be whole, what does not fill one is left out. Raises BadModel for an id that
    the model has no embedding for.
    """
    ids = joined(documents, layout)[: layout.wanted]
    if layout.whole:
        ids = ids[: len(ids) // layout.body * layout.body]
    starts = range(0, len(ids), layout.body)
    rows = [ids[start : start + layout.body] for start in starts]
    return _padded(language, rows, layout.body, layout)


def apart(language: str, samples: Sequence[Sequence[int]], layout: Layout) -> TokenBlocks:
    """A block for each sample, with BOS before it; padded to the longest, cut where none can hold.

    Raises BadModel for an id that the model has no embedding for, BadSetting where blocks are to
    be whole.
    """
    if layout.whole:
        raise BadSetting(
            "the model reads text on both sides, so it would see the padding after a sample. "
            "Calibrate it on plain text."
        )
    rows = [ids[: layout.body] for ids in samples]
    return _padded(language, rows, max(map(len, rows), default=layout.body), layout)


def _padded(language: str, rows: Sequence[Sequence[int]], body: int, layout: Layout) -> TokenBlocks:
    """Blocks of BOS and `body` positions; what rows lack is padding, which never counts."""
    ids_BT = torch.full((len(rows), body), layout.pad, dtype=torch.long)
    counted_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    for row, ids in enumerate(rows):
        ids_BT[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
        counted_BT[row, : len(ids)] = True
    if layout.bos is not None:
        ids_BT = torch.cat([ids_BT.new_full((len(rows), 1), layout.bos), ids_BT], dim=1)
        counted_BT = torch.cat([counted_BT.new_ones((len(rows), 1)), counted_BT], dim=1)
    if layout.known is not None and ids_BT.numel():
        check_known(int(ids_BT.max()), layout.known, language)
    if not layout.count_special:
        counted_BT &= ~torch.isin(ids_BT, torch.tensor(sorted(layout.special), dtype=torch.long))
    return TokenBlocks(language, ids_BT, counted_BT)


def joined(documents: Sequence[Sequence[int]], layout: Layout) -> list[int]:
    """All ids in order, with EOS between documents where the tokenizer has one."""
    together: list[int] = []
    for place, ids in enumerate(documents):
        if place and layout.eos is not None:
            together.append(layout.eos)
        together += ids
    return together


def _padding(pad: int | None, eos: int | None, known: int | None) -> int:
    """What stands where nothing counts: the tokenizer's own padding, if the model can read it."""
    readable = (each for each in (pad, eos) if each is not None)
    return next((each for each in readable if known is None or each < known), 0)


def _first(*ids: int | None) -> int | None:
    return next((each for each in ids if each is not None), None)


def _cut(line: str) -> list[str]:
    parts: list[str] = []
    start = 0
    while len(line) - start > PIECE_CHARACTERS:
        last = start + PIECE_CHARACTERS
        end = line.rfind(" ", start + PIECE_CHARACTERS // 2, last) + 1 or _before_marks(line, last)
        parts.append(line[start:end])
        start = end
    parts.append(line[start:])
    return parts


def _before_marks(line: str, end: int) -> int:
    # A handful of marks at most belong to a letter; more are no text of any language.
    for place in range(end, end - 8, -1):
        if not unicodedata.category(line[place]).startswith("M"):
            return place
    return end
