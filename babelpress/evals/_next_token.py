"""Sums over documents of what a model's logits say of every next token.

Shapes: B windows of a batch, T tokens of the longest of them, N scored tokens, V vocabulary,
H hidden size, D documents, K numbers a token.

Tested in tests/evals/test_bits_per_byte.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from babelpress.errors import BadModel, BadSetting, NotFinite
from babelpress.evals._windows import (
    Prepared,
    Window,
    batches,
    check_fit,
    evaluating,
    padded,
)
from babelpress.models.tokenizers import vocabulary_of
from babelpress.system.progress import Progress

Say = Callable[[Tensor, Tensor], Tensor]
"""What logits (N, V) say of the tokens (N,) that came, NaN where they are: one number each (N,), or
several (N, K)."""

# Measured with 8M parameters: on a processor more than this leaves the caches and pads more.
BATCH_TOKENS = {"cpu": 2048, "other": 16384}
CHUNK_TOKENS = {"cpu": 128, "other": 4096}
# Logits as the model gives them, their float32 copy, and what log-softmax and a soft cap add.
BYTES_PER_LOGIT = 16
CACHED = 1 << 18  # logits, in float32 a mebibyte


@torch.inference_mode()
def sums(
    model: PreTrainedModel,
    prepared: Mapping[str, Prepared],
    say: Say,
    *,
    what: str,
    memory_mb: int,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """By language the sum over each document, (D,) or (D, K) as `say` has it.

    Logits take at most `memory_mb` (2^20 bytes).

    `what` is told to progress after each batch, with the tokens done and the tokens in all. The
    batch size changes a sum by rounding only. Raises NotFinite with the language and the document,
    BadModel where the model sees later tokens or does not fit the tokenizer.
    """
    check_fit(model, prepared)
    total = sum(w.scored for one in prepared.values() for w in one.windows)
    done = 0
    found: dict[str, np.ndarray] = {}
    with evaluating(model):
        scorer = _scorer(model, prepared, say, memory_mb << 20)
        for tag, one in prepared.items():
            for batch in batches(one.windows, scorer.batch_tokens):
                for window, number in zip(batch, scorer.sums(batch), strict=True):
                    if not np.isfinite(number).all():
                        raise _not_finite(tag, one.documents[window.document])
                    if tag not in found:
                        found[tag] = np.zeros((len(one.documents), *np.shape(number)))
                    found[tag][window.document] += number
                done += sum(w.scored for w in batch)
                progress(what, done, total)
    return found


def nats(logits_NV: Tensor, target_N: Tensor) -> Tensor:
    """Negative log-likelihoods (N,), in nats.

    On a processor a few rows at a time: what is added up over a vocabulary of 262,144 tokens stays
    in its caches then, which is three times as fast.
    """
    target_N = target_N.to(logits_NV.device)
    rows = max(1, CACHED // logits_NV.shape[1]) if logits_NV.device.type == "cpu" else None
    if rows is None or rows >= len(logits_NV):
        return _nats_of(logits_NV, target_N)
    slices = zip(logits_NV.split(rows), target_N.split(rows), strict=True)
    return torch.cat([_nats_of(some, target) for some, target in slices])


def _nats_of(logits_NV: Tensor, target_N: Tensor) -> Tensor:
    logits_NV = logits_NV.float()
    return logits_NV.logsumexp(1) - logits_NV.gather(1, target_N[:, None])[:, 0]


def _not_finite(tag: str, document: str) -> NotFinite:
    return NotFinite(
        f"the score of document '{document}' in {tag} is NaN or infinite. Likely causes: (a) a "
        "weight of the model is; (b) the model overflows in float16: load it in bfloat16."
    )


@dataclass(frozen=True, slots=True)
class _Scorer:
    """Sums over windows, with at most `rows` rows of logits at a time.

    The body of the model runs once for a whole batch. Its head then runs on slices of the hidden
    states that are scored, by the model's own `forward` with the body replaced: that way scaled
    and soft-capped logits (Gemma, Cohere, Granite) come out right without knowing the family.
    """

    model: PreTrainedModel
    say: Say
    rows: int
    sliced: bool

    @property
    def batch_tokens(self) -> int:
        return BATCH_TOKENS[_place(self.model)] if self.sliced else 1

    def sums(self, batch: Sequence[Window]) -> np.ndarray:
        """One sum per window, (B,) or (B, K), float32 in each token, float64 over tokens."""
        ids_BT, mask_BT, target_BT, scored_BT = (x.to(self.model.device) for x in padded(batch))
        target_N = target_BT[scored_BT]
        if self.sliced:
            body = self.model.base_model(ids_BT, attention_mask=mask_BT, use_cache=False)
            said_N = self._sliced(body, body.last_hidden_state[scored_BT], target_N)
        else:
            logits_BTV = self.model(ids_BT, attention_mask=mask_BT, use_cache=False).logits
            said_N = self.say(logits_BTV[scored_BT], target_N)
        said_N = said_N.double()
        sum_B = said_N.new_zeros(len(batch), *said_N.shape[1:])
        return sum_B.index_add_(0, scored_BT.nonzero()[:, 0], said_N).cpu().numpy()

    def _sliced(self, body: ModelOutput, hidden_NH: Tensor, target_N: Tensor) -> Tensor:
        rows = min(self.rows, CHUNK_TOKENS[_place(self.model)])
        return torch.cat(
            [
                self.say(
                    _head(self.model, body, hidden_NH[i : i + rows][None])[0],
                    target_N[i : i + rows],
                )
                for i in range(0, len(hidden_NH), rows)
            ]
        )


def _place(model: PreTrainedModel) -> str:
    return "cpu" if model.device.type == "cpu" else "other"


def _scorer(
    model: PreTrainedModel, prepared: Mapping[str, Prepared], say: Say, memory: int
) -> _Scorer:
    """Try the model on a short text: is it causal, and may its head run apart from its body?"""
    windows = [window for one in prepared.values() for window in one.windows]
    longest = max(windows, key=lambda window: len(window.ids_T))
    vocabulary = vocabulary_of(model)
    rows = memory // (vocabulary * BYTES_PER_LOGIT)
    _check_memory(memory, rows, 4, vocabulary)
    probe_2T = torch.from_numpy(longest.ids_T[: min(8, rows // 2)]).repeat(2, 1).to(model.device)
    probe_2T[1, -1] = 1 - probe_2T[1, -1].clamp(max=1)
    logits_2TV = model(probe_2T, use_cache=False).logits
    if not _same(logits_2TV[0, :-1], logits_2TV[1, :-1]):
        raise BadModel(
            f"{model.config.model_type} sees the tokens that it should predict. To be scored "
            "it must be a decoder that predicts the next token."
        )
    sliced = _head_runs_apart(model, probe_2T, logits_2TV)
    if not sliced:
        _check_memory(memory, rows, len(longest.ids_T) - 1, vocabulary)
    return _Scorer(model, say, rows, sliced)


def _check_memory(memory: int, rows: int, needed: int, vocabulary: int) -> None:
    if rows < needed:
        raise BadSetting(
            f"{memory >> 20} MB are too little for the logits of {needed} tokens over a vocabulary "
            f"of {vocabulary}. "
            f"Give at least {(needed * vocabulary * BYTES_PER_LOGIT >> 20) + 1} MB."
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
