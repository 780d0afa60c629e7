"""Texts as windows of tokens, each token scored once.

Text is tokenised without special tokens; its first token is scored after BOS, else after EOS, and
where the tokenizer has neither it is left out together with its bytes. A document longer than a
window is scored in overlapping ones: the first scores `window` tokens, each later one the next
`stride`. So every token is scored once, and where that many come before it, at least
`window` − `stride` tokens are its context. Later windows begin with BOS (or EOS) as well: families
such as Gemma predict nothing sensible without it.

Shapes: B windows of a batch, T tokens of the longest of them, D documents. A batch holds one
language; padding is on the right.

Tested in tests/evals/test_bits_per_byte.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadCorpus, BadModel, BadSetting
from babelpress.evals import EVALUATIONS, Document, one_sided, paired
from babelpress.models.accepted import translates
from babelpress.models.reading import positions_of
from babelpress.models.tokenizers import check_known, encode, vocabulary_of


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive tokens of a document; the last `scored` of them are scored here."""

    document: int
    ids_T: np.ndarray
    scored: int


class HasTokens(Protocol):
    """What is read at once."""

    @property
    def ids_T(self) -> np.ndarray: ...


Read = TypeVar("Read", bound=HasTokens)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Documents of one language as windows, shortest first, and the bytes that they account for."""

    documents: tuple[str, ...]
    bytes_D: np.ndarray
    windows: tuple[Window, ...]

    @property
    def tokens_D(self) -> np.ndarray:
        """How many tokens of every document are scored."""
        found_D = np.zeros(len(self.documents))
        for window in self.windows:
            found_D[window.document] += window.scored
        return found_D


def prepare(
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Document]],
    *,
    window: int,
    stride: int | None = None,
) -> dict[str, Prepared]:
    """Tokenise once for all models that share the tokenizer.

    `stride` is half a window if not given. Raises BadCorpus for a language without text to score,
    BadSetting for an impossible window.
    """
    step = window // 2 if stride is None else stride
    if not 1 <= step < window:
        raise BadSetting(
            f"a window of {window} tokens with a stride of {step} leaves tokens without context. "
            "Give a window of at least 2 and a stride from 1 to window - 1."
        )
    if not documents:
        raise BadCorpus("there is no language to score. Name one with --languages.")
    return {
        tag: _prepare_language(tokenizer, tag, texts, window, step)
        for tag, texts in documents.items()
    }


def _prepare_language(
    tokenizer: PreTrainedTokenizerBase,
    tag: str,
    documents: Sequence[Document],
    window: int,
    step: int,
) -> Prepared:
    prefix = prefix_of(tokenizer)
    texts = [document.text for document in documents]
    if not texts:
        raise no_text(tag)
    encoded = encode(tokenizer, texts, offsets=prefix is None)
    first = [] if prefix is None else [prefix]
    windows = [
        piece
        for index, ids in enumerate(encoded["input_ids"])
        for piece in _windows(index, np.array(first + ids, dtype=np.int64), window, step, prefix)
    ]
    bytes_D = np.array([len(text.encode()) for text in texts], dtype=np.float64)
    if prefix is None:
        bytes_D -= [_first_bytes(tokenizer, encoded, d, text) for d, text in enumerate(texts)]
    if not windows:
        raise no_text(tag)
    windows.sort(key=lambda piece: len(piece.ids_T))
    return Prepared(tuple(document.id for document in documents), bytes_D, tuple(windows))


def prefix_of(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that a document is scored after: BOS, else EOS, else none."""
    for special in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if special is not None:
            return cast(int, special)
    return None


def both_sided(kind: str) -> BadModel:
    """The error for a model that reads on both sides, where it is to predict what comes."""
    return BadModel(
        f"{kind} sees the tokens that it should predict. What it makes of masked ones is scored "
        "with --on masked, its sentences with --on retrieval."
    )


def check_kind(on: Sequence[str], config: Mapping[str, Any], *, both_sides: bool) -> None:
    """Raise BadModel where an evaluation cannot score a model of this kind, by its config.

    `both_sides` says whether it sees the tokens after the one that it predicts.
    """
    kind = str(config.get("model_type", ""))
    if translates(config):
        fitting = [name for name in EVALUATIONS.names() if paired(name)]
        for name in on:
            if name not in fitting:
                raise BadModel(
                    f"{kind} is an encoder-decoder, which {name} cannot score. Give --on "
                    f"{' or '.join(sorted(fitting, reverse=True))}."
                )
        return
    for name in on:
        if paired(name) == "only":
            raise BadModel(
                f"{kind} is no encoder-decoder, and only those are scored by {name}. Give another "
                "--on, such as bits_per_byte of a decoder or masked of an encoder."
            )
    if both_sides and any(map(one_sided, on)):
        raise both_sided(kind)


def no_text(tag: str) -> BadCorpus:
    """The error for a language without a test document."""
    return BadCorpus(
        f"{tag} has no text to score. Check that the corpus has test documents in it, or leave the "
        "language out with --languages."
    )


def _windows(
    document: int, ids_T: np.ndarray, window: int, step: int, prefix: int | None
) -> Iterator[Window]:
    start = done = 0
    while done < len(ids_T) - 1:
        end = min(start + window, len(ids_T) - 1)
        piece_T = ids_T[start : end + 1].copy()
        if prefix is not None:
            piece_T[0] = prefix
        yield Window(document, piece_T, end - done)
        start, done = start + step, end


def _first_bytes(
    tokenizer: PreTrainedTokenizerBase, encoded: BatchEncoding, document: int, text: str
) -> int:
    """The UTF-8 bytes of a text that its first token stands for."""
    ids, offsets = encoded["input_ids"][document], encoded["offset_mapping"][document]
    if not ids:
        return 0
    end = offsets[0][1]
    if len(ids) == 1 or offsets[1][0] >= end:
        return len(text[:end].encode())
    # The next token holds the rest of a character, so offsets are too coarse. Such tokens are byte
    # fallbacks, or of byte-level vocabularies, which write one character for each byte.
    token = tokenizer.convert_ids_to_tokens(ids[:1])[0]
    return 1 if token.startswith("<0x") else len(token)


def check_fit(model: PreTrainedModel, prepared: Mapping[str, Prepared], *, ahead: int = 1) -> None:
    """Raise where windows, less the `ahead` last tokens, are too long, or of another tokenizer."""
    if model.config.is_encoder_decoder:
        raise BadModel(
            f"{model.config.model_type} is an encoder-decoder. To be scored it must be a decoder "
            "that predicts the next token."
        )
    pieces = [piece.ids_T for one in prepared.values() for piece in one.windows]
    for tag, one in prepared.items():
        highest = max(int(piece.ids_T.max()) for piece in one.windows)
        check_known(highest, vocabulary_of(model), tag)
    limit = positions_of(model)
    longest = max(len(piece_T) for piece_T in pieces) - ahead
    if limit is not None and longest > limit:
        raise BadSetting(
            f"a window of {longest} tokens is more than the {limit} positions of the model. "
            f"Give --window {limit} or less."
        )


def check_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Document]],
) -> None:
    """Raise BadModel, before any is scored, where texts have tokens that the model has no row for.

    Texts are read only where the tokenizer has such tokens at all.
    """
    known = vocabulary_of(model)
    if max(tokenizer.get_vocab().values(), default=0) < known:
        return
    for tag, some in documents.items():
        ids = encode(tokenizer, [each.text for each in some])["input_ids"] if some else []
        highest = max((number for each in ids for number in each), default=0)
        check_known(max(highest, prefix_of(tokenizer) or 0), known, tag)


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """The model in evaluation mode, and then as it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def batches(windows: Sequence[Read], tokens: int) -> Iterator[list[Read]]:
    """Consecutive windows that take at most `tokens` with their padding, or one longer one."""
    batch: list[Read] = []
    for window in windows:  # shortest first, so the newest one sets the width
        if batch and (len(batch) + 1) * (len(window.ids_T) - 1) > tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def padded(batch: Sequence[Window]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Token ids, mask of real ones, targets, mask of scored targets; all of shape (B, T)."""
    length = max(len(window.ids_T) for window in batch) - 1
    ids_BT, target_BT = np.zeros((2, len(batch), length), dtype=np.int64)
    mask_BT, scored_BT = np.zeros((2, len(batch), length), dtype=bool)
    for row, window in enumerate(batch):
        size = len(window.ids_T) - 1
        ids_BT[row, :size] = window.ids_T[:-1]
        target_BT[row, :size] = window.ids_T[1:]
        mask_BT[row, :size] = True
        scored_BT[row, size - window.scored : size] = True
    ids, target, mask, scored = map(torch.from_numpy, (ids_BT, target_BT, mask_BT, scored_BT))
    return ids, mask.long(), target, scored
