"""Text that a calibration has not read, to measure on what was calibrated.

Of every language these are the pieces of the train split that come after those that were read, in
the same order (calibration.py); where they are too few, those of the valid split, if there are
more. A line that was read, or that stands in the test split, is left out of them.

Shapes: B blocks, T positions of a block.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from babelpress.errors import BadCorpus
from babelpress.models.open import Opened
from babelpress.models.reading import sees_both_sides
from babelpress.models.tokenizers import Tokenizer, vocabulary_of
from babelpress.text.calibration import Apart, in_order, tested, tokenise
from babelpress.text.corpus import Corpus, open_corpus
from babelpress.text.draw import fitting_length
from babelpress.text.readers import listed
from babelpress.text.sameness import keys
from babelpress.text.settings import CalibrationSettings
from babelpress.text.token_blocks import Layout, Piece, TokenBlocks, joined, layout_for, pack

TRAIN, VALID = "train", "valid"
LEAST = 2  # tokens of text: of one there is nothing to predict


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Token blocks of a language, and the split that they are of."""

    blocks: TokenBlocks
    split: str

    @property
    def tokens(self) -> int:
        """Tokens of text."""
        return int(self.blocks.counted_BT.sum())


def hold_out(
    opened: Opened,
    asked: CalibrationSettings,
    tags: Iterable[str],
    tokens: int,
    *,
    read: Mapping[str, Any],
) -> dict[str, HeldOut]:
    """At most so many `tokens` of each language, in whole blocks of the calibration's length.

    `asked` is the calibration and `read` its manifest. Raises BadCorpus where the corpus is not the
    one that was read, or a language has nothing that is left.
    """
    corpus = open_corpus(asked.corpus)
    if corpus.fingerprint(read["languages"]) != read["fingerprint"]:
        raise BadCorpus(
            f"{corpus.name} is not what it was when it was calibrated on, so what was not read of "
            "it is not known. Calibrate again."
        )
    evaluation = open_corpus(asked.evaluation) if asked.evaluation else None
    known, whole = vocabulary_of(opened.model), sees_both_sides(opened.model)
    length = fitting_length(opened, asked.length)
    before = layout_for(opened.tokenizer, asked.tokens, length, False, known, whole)
    layout = layout_for(opened.tokenizer, tokens, min(length, tokens), False, known, whole)
    found = {
        tag: _of(corpus, opened.tokenizer, tag, before, layout, asked.seed, evaluation)
        for tag in tags
    }
    if short := [tag for tag, each in found.items() if each.tokens < LEAST]:
        raise BadCorpus(
            f"{corpus.name} has no text of {listed(short)} that the calibration has not read, to "
            "measure on: give more text, or calibrate on fewer --tokens or shorter blocks with "
            "--length."
        )
    return found


def _of(
    corpus: Corpus,
    tokenizer: Tokenizer,
    tag: str,
    before: Layout,
    layout: Layout,
    seed: int,
    evaluation: Corpus | None,
) -> HeldOut:
    """What is left of one language; `before` is the layout of the calibration."""
    test = tested(corpus, tag, evaluation)
    train = in_order(Apart.of(corpus.documents(tag, TRAIN), test).kept, seed)
    used, _ = tokenise(train, tokenizer, before)
    seen = {key for piece in used for key in keys(piece.text)}

    def ids_of(pieces: Sequence[Piece]) -> list[list[int]]:
        return tokenise(_unseen(pieces, seen), tokenizer, layout)[1]

    def number(ids: Sequence[Sequence[int]]) -> int:
        return min(len(joined(ids, layout)), layout.wanted)

    left = {TRAIN: ids_of(train[len(used) :])}
    if number(left[TRAIN]) < layout.wanted:
        valid = Apart.of(corpus.documents(tag, VALID), test).kept
        left[VALID] = ids_of(in_order(valid, seed))
    most = max(left, key=lambda split: number(left[split]))
    return HeldOut(pack(tag, left[most], layout), most)


def _unseen(pieces: Iterable[Piece], seen: set[str]) -> list[Piece]:
    """The pieces without lines that were seen."""
    found: list[Piece] = []
    for piece in pieces:
        lines = zip(piece.text.split("\n"), keys(piece.text), strict=True)
        if fresh := [line for line, key in lines if key and key not in seen]:
            found.append(Piece(piece.document, piece.place, "\n".join(fresh)))
    return found
