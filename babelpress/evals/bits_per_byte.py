"""Bits per byte: how well a model predicts a text, comparable across tokenizers.

Negative log-likelihood in nats / ln 2 / UTF-8 bytes of the text, summed over a document and then
over documents. Text is tokenised without special tokens; its first token is scored after BOS, else
after EOS, and where the tokenizer has neither it is left out together with its bytes.
A document longer than a window is scored in overlapping ones: the first scores `window` tokens,
each later one the next `stride`. So every token is scored once, and where that many come before
it, at least `window` − `stride` tokens are its context. Later windows begin with BOS (or EOS) as
well: families such as Gemma predict nothing sensible without it.

Not comparable across languages: one byte carries less in Devanagari than in Latin script.
Compare a pressed model with its parent in the same language.

Shapes: B windows of a batch, T tokens of the longest of them, N scored tokens, V vocabulary,
D documents. A batch holds one language; padding is on the right.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.generic import ModelOutput

from babelpress.corpus import Document
from babelpress.errors import BadCorpus, BadModel, BadSetting, NotFinite
from babelpress.tally import Tally

METRIC = "bits_per_byte"
LOWER_IS_BETTER = True

# Measured with 8M parameters: on a processor more than this leaves the caches and pads more.
_BATCH_TOKENS = {"cpu": 2048, "other": 16384}
_CHUNK_TOKENS = {"cpu": 128, "other": 4096}
# Logits as the model gives them, their float32 copy, and what log-softmax and a soft cap add.
_BYTES_PER_LOGIT = 16

Progress = Callable[[int, int], None]


def _silent(_done: int, _total: int) -> None:
    """The progress of those who do not ask."""


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive tokens of a document; the last `scored` of them are scored here."""

    document: int
    ids_T: np.ndarray
    scored: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """Documents of one language as windows, shortest first, and the bytes that they account for."""

    documents: tuple[str, ...]
    bytes_D: np.ndarray
    windows: tuple[Window, ...]


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Document]],
    *,
    window: int,
    stride: int | None = None,
    memory_mb: int = 256,
    progress: Progress = _silent,
) -> dict[str, Tally]:
    """Return one Tally of bits over bytes per language: `prepare`, then `score`."""
    prepared = prepare(tokenizer, documents, window=window, stride=stride)
    return score(model, prepared, memory_mb=memory_mb, progress=progress)


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


@torch.inference_mode()
def score(
    model: PreTrainedModel,
    prepared: Mapping[str, Prepared],
    *,
    memory_mb: int = 256,
    progress: Progress = _silent,
) -> dict[str, Tally]:
    """Score prepared documents; logits in memory never exceed `memory_mb` (2^20 bytes each).

    `progress` is called after each batch with the tokens done and the tokens in all. The batch size
    changes a score by rounding only. Raises NotFinite with the language and the document,
    BadModel where the model sees later tokens or does not fit the tokenizer.
    """
    check_fit(model, prepared)
    total = sum(w.scored for one in prepared.values() for w in one.windows)
    done, tallies = 0, {}
    with evaluating(model):
        scorer = _scorer(model, prepared, memory_mb << 20)
        for tag, one in prepared.items():
            nats_D = np.zeros(len(one.documents))
            for batch in batches(one.windows, scorer.batch_tokens):
                for window, nats in zip(batch, scorer.nats(batch), strict=True):
                    if not math.isfinite(nats):
                        raise _not_finite(tag, one.documents[window.document])
                    nats_D[window.document] += nats
                done += sum(w.scored for w in batch)
                progress(done, total)
            tallies[tag] = Tally(one.documents, nats_D / math.log(2), one.bytes_D)
    return tallies


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
        raise _no_text(tag)
    encoded = tokenizer(
        texts,
        add_special_tokens=False,
        return_attention_mask=False,
        return_offsets_mapping=prefix is None,
        split_special_tokens=True,  # a text that spells "</s>" is still text
        verbose=False,
    )
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
        raise _no_text(tag)
    windows.sort(key=lambda piece: len(piece.ids_T))
    return Prepared(tuple(document.id for document in documents), bytes_D, tuple(windows))


def prefix_of(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that a document is scored after: BOS, else EOS, else none."""
    for special in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if special is not None:
            return cast(int, special)
    return None


def _no_text(tag: str) -> BadCorpus:
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
            f"{model.config.model_type} is an encoder-decoder. Bits per byte needs a decoder that "
            "predicts the next token."
        )
    pieces = [piece.ids_T for one in prepared.values() for piece in one.windows]
    known = _vocabulary(model)
    if (highest := max(piece_T.max() for piece_T in pieces)) >= known:
        raise BadModel(
            f"the tokenizer gave token {highest}, but the model knows {known} tokens. Use the "
            "tokenizer that belongs to the model."
        )
    # Models without a table of positions, such as BLOOM, do not have the setting.
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(len(piece_T) for piece_T in pieces) - ahead
    if limit is not None and longest > limit:
        raise BadSetting(
            f"a window of {longest} tokens is more than the {limit} positions of the model. "
            f"Give --window {limit} or less."
        )


def _vocabulary(model: PreTrainedModel) -> int:
    return cast(nn.Embedding, model.get_input_embeddings()).weight.shape[0]


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """The model in evaluation mode, and then as it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def batches(windows: Sequence[Window], tokens: int) -> Iterator[list[Window]]:
    """Consecutive windows that take at most `tokens` with their padding, or one longer one."""
    batch: list[Window] = []
    for window in windows:  # shortest first, so the newest one sets the width
        if batch and (len(batch) + 1) * (len(window.ids_T) - 1) > tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _not_finite(tag: str, document: str) -> NotFinite:
    return NotFinite(
        f"the score of document '{document}' in {tag} is NaN or infinite. Likely causes: (a) a "
        "weight of the model is; (b) the model overflows in float16: load it in bfloat16."
    )


@dataclass(frozen=True, slots=True)
class _Scorer:
    """Sums of negative log-likelihoods, in nats, with at most `rows` rows of logits at a time.

    The body of the model runs once for a whole batch. Its head then runs on slices of the hidden
    states that are scored, by the model's own `forward` with the body replaced: that way scaled
    and soft-capped logits (Gemma, Cohere, Granite) come out right without knowing the family.
    """

    model: PreTrainedModel
    rows: int
    sliced: bool

    @property
    def batch_tokens(self) -> int:
        return _BATCH_TOKENS[_place(self.model)] if self.sliced else 1

    def nats(self, batch: Sequence[Window]) -> list[float]:
        """One sum per window, float32 in each token, float64 over tokens."""
        ids_BT, mask_BT, target_BT, scored_BT = (x.to(self.model.device) for x in _pad(batch))
        target_N = target_BT[scored_BT]
        if self.sliced:
            body = self.model.base_model(ids_BT, attention_mask=mask_BT, use_cache=False)
            loss_N = self._sliced_loss(body, body.last_hidden_state[scored_BT], target_N)
        else:
            logits_BTV = self.model(ids_BT, attention_mask=mask_BT, use_cache=False).logits
            loss_N = _loss(logits_BTV[scored_BT], target_N)
        sum_B = torch.zeros(len(batch), dtype=torch.float64, device=loss_N.device)
        return sum_B.index_add_(0, scored_BT.nonzero()[:, 0], loss_N.double()).tolist()

    def _sliced_loss(self, body: ModelOutput, hidden_NH: Tensor, target_N: Tensor) -> Tensor:
        rows = min(self.rows, _CHUNK_TOKENS[_place(self.model)])
        return torch.cat(
            [
                _loss(
                    _head(self.model, body, hidden_NH[i : i + rows][None])[0],
                    target_N[i : i + rows],
                )
                for i in range(0, len(hidden_NH), rows)
            ]
        )


def _place(model: PreTrainedModel) -> str:
    return "cpu" if model.device.type == "cpu" else "other"


def _scorer(model: PreTrainedModel, prepared: Mapping[str, Prepared], memory: int) -> _Scorer:
    """Try the model on a short text: is it causal, and may its head run apart from its body?"""
    windows = [window for one in prepared.values() for window in one.windows]
    longest = max(windows, key=lambda window: len(window.ids_T))
    vocabulary = _vocabulary(model)
    rows = memory // (vocabulary * _BYTES_PER_LOGIT)
    _check_memory(memory, rows, 4, vocabulary)
    probe_2T = torch.from_numpy(longest.ids_T[: min(8, rows // 2)]).repeat(2, 1).to(model.device)
    probe_2T[1, -1] = 1 - probe_2T[1, -1].clamp(max=1)
    logits_2TV = model(probe_2T, use_cache=False).logits
    if not _same(logits_2TV[0, :-1], logits_2TV[1, :-1]):
        raise BadModel(
            f"{model.config.model_type} sees the tokens that it should predict. Bits per byte "
            "needs a decoder that predicts the next token."
        )
    sliced = _head_runs_apart(model, probe_2T, logits_2TV)
    if not sliced:
        _check_memory(memory, rows, len(longest.ids_T) - 1, vocabulary)
    return _Scorer(model, rows, sliced)


def _check_memory(memory: int, rows: int, needed: int, vocabulary: int) -> None:
    if rows < needed:
        raise BadSetting(
            f"{memory >> 20} MB are too little for the logits of {needed} tokens over a vocabulary "
            f"of {vocabulary}. "
            f"Give at least {(needed * vocabulary * _BYTES_PER_LOGIT >> 20) + 1} MB."
        )


def _head_runs_apart(model: PreTrainedModel, probe_BT: Tensor, logits_BTV: Tensor) -> bool:
    if model.base_model is model:
        return False
    body = model.base_model(probe_BT, use_cache=False)
    return _same(_head(model, body, body.last_hidden_state), logits_BTV)


def _head(model: PreTrainedModel, body: ModelOutput, hidden_BTH: Tensor) -> Tensor:
    """The logits that the model's own `forward` makes of these states, in place of `body`'s."""
    base = model.base_model
    given = type(body)(**{**body, "last_hidden_state": hidden_BTH})
    blank_BT = torch.zeros(hidden_BTH.shape[:2], dtype=torch.long, device=hidden_BTH.device)
    # Accelerate's hooks live in the same place, so what stood there before comes back.
    before = {"forward": base.__dict__["forward"]} if "forward" in base.__dict__ else {}
    base.forward = lambda *_, **__: given
    try:
        return model(blank_BT, use_cache=False).logits
    finally:
        del base.forward
        base.__dict__.update(before)


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal up to the noise of other kernels; the next check of NaN is where the place is known."""
    noise = 8 * torch.finfo(a.dtype).eps * b.nan_to_num().abs().amax().item() if a.numel() else 0.0
    return torch.allclose(a, b, rtol=0, atol=noise, equal_nan=True)


def _loss(logits_NV: Tensor, target_N: Tensor) -> Tensor:
    logits_NV = logits_NV.float()
    at_N = logits_NV.gather(1, target_N.to(logits_NV.device)[:, None])[:, 0]
    return logits_NV.logsumexp(1) - at_N


def _pad(batch: Sequence[Window]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
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
