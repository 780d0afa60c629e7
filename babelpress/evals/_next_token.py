"""Sums over documents of what a model's logits say of every next token.

Shapes: B windows of a batch, T tokens of the longest of them, N scored tokens, V vocabulary,
D documents, K numbers a token.

Tested in tests/evals/test_bits_per_byte.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from babelpress.errors import BadSetting, NotFinite
from babelpress.evals._begun import Batch, batches_of, begun_alike, goes_on, past_of
from babelpress.evals._head import (
    Logits,
    Said,
    Tell,
    of_model,
    of_states,
    place_of,
    runs_apart,
    streamed,
)
from babelpress.evals._windows import (
    Prepared,
    Window,
    batches,
    both_sided,
    check_fit,
    evaluating,
    padded,
)
from babelpress.models.reading import sees_both_sides
from babelpress.models.tokenizers import vocabulary_of
from babelpress.system.progress import Progress

Say = Callable[[Tensor, Tensor], Tensor]
"""What logits (N, V) say of the tokens (N,) that came, NaN where they are: one number each (N,), or
several (N, K)."""
Read = Callable[[Logits, Tensor, int], Tensor]

# Measured with 8M parameters: on a processor more than this leaves the caches and pads more.
BATCH_TOKENS = {"cpu": 2048, "other": 16384}
CHUNK_TOKENS = {"cpu": 128, "other": 4096}  # rows of whole logits at once
# Logits as the model gives them, their float32 copy, and what log-softmax and a soft cap add.
BYTES_PER_LOGIT = 16


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
    return _sums(model, prepared, partial(_whole, say), what, memory_mb << 20, progress)


def told_sums(
    model: PreTrainedModel,
    prepared: Mapping[str, Prepared],
    tell: Tell,
    *,
    what: str,
    memory_mb: int,
    progress: Progress,
    ranks: bool = False,
    alike: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, np.ndarray]:
    """The same of what needs no more than a `Said`, with `ranks` the place of the largest in it.

    `alike` says by language of every window which others it begins like (`_begun.py`).
    """
    read = partial(streamed, tell, ranks)
    return _sums(model, prepared, read, what, memory_mb << 20, progress, alike)


def nats(said: Said) -> Tensor:
    """Negative log-likelihoods (N,), in nats."""
    return said.log_sum_N - said.here_N


def _whole(say: Say, logits: Logits, target_N: Tensor, most: int) -> Tensor:
    rows = max(1, min(most // logits.vocabulary, CHUNK_TOKENS[logits.place]))
    parts = zip(logits.split(rows), target_N.split(rows), strict=True)
    return torch.cat([say(part.all(), target_R) for part, target_R in parts])


@torch.inference_mode()
def _sums(
    model: PreTrainedModel,
    prepared: Mapping[str, Prepared],
    read: Read,
    what: str,
    memory: int,
    progress: Progress,
    alike: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, np.ndarray]:
    check_fit(model, prepared)
    total = sum(w.scored for one in prepared.values() for w in one.windows)
    done = 0
    found: dict[str, np.ndarray] = {}
    with evaluating(model):
        scorer = _scorer(model, prepared, read, memory)
        for tag, one in prepared.items():
            for batch in scorer.batches(one.windows, (alike or {}).get(tag, ())):
                for window, number in zip(batch.windows, scorer.sums(batch), strict=True):
                    if not np.isfinite(number).all():
                        raise not_finite(tag, one.documents[window.document])
                    if tag not in found:
                        found[tag] = np.zeros((len(one.documents), *np.shape(number)))
                    found[tag][window.document] += number
                done += sum(w.scored for w in batch.windows)
                progress(what, done, total)
    return found


def not_finite(tag: str, document: str) -> NotFinite:
    """The error for a document whose score is no number."""
    return NotFinite(
        f"the score of document '{document}' in {tag} is NaN or infinite. Likely causes: (a) a "
        "weight of the model is; (b) the model overflows in float16: load it in bfloat16."
    )


@dataclass(frozen=True, slots=True)
class _Scorer:
    """Sums over windows; at most `logits` logits at a time where the output layer runs apart.

    Keys and values of beginnings take at most as many bytes.
    """

    model: PreTrainedModel
    read: Read
    logits: int
    apart: bool

    def batches(self, windows: Sequence[Window], alike: Sequence[int]) -> Iterator[Batch]:
        """Windows read together; those that begin alike side by side, if the model can go on."""
        tokens = BATCH_TOKENS[place_of(self.model)] if self.apart else 1
        if alike and self.apart:
            groups, alone = begun_alike(windows, alike)
            if groups and (size := goes_on(self.model, groups)):
                yield from batches_of(groups, tokens, self.logits * BYTES_PER_LOGIT // size)
                windows = alone
        shortest_first = sorted(windows, key=lambda window: len(window.ids_T))
        yield from map(Batch, batches(shortest_first, tokens))

    def sums(self, batch: Batch) -> np.ndarray:
        """One sum per window, (B,) or (B, K), float32 in each token, float64 over tokens."""
        past = past_of(self.model, batch) if batch.begun else None
        read = padded(batch.rest if batch.begun else batch.windows)
        ids_BT, mask_BT, target_BT, scored_BT = (x.to(self.model.device) for x in read)
        run = of_states if self.apart else of_model
        logits = run(self.model, ids_BT, mask_BT, scored_BT, past=past)
        target_N = target_BT[scored_BT].to(logits.rows.device)
        said_N = self.read(logits, target_N, self.logits).double()
        sum_B = said_N.new_zeros(len(batch.windows), *said_N.shape[1:])
        window_N = scored_BT.nonzero()[:, 0].to(said_N.device)
        return sum_B.index_add_(0, window_N, said_N).cpu().numpy()


def _scorer(
    model: PreTrainedModel, prepared: Mapping[str, Prepared], read: Read, memory: int
) -> _Scorer:
    """Try the model on a short text: is it causal, and may its output layer run apart from it?"""
    windows = [window for one in prepared.values() for window in one.windows]
    longest = max(windows, key=lambda window: len(window.ids_T))
    vocabulary = vocabulary_of(model)
    logits = memory // BYTES_PER_LOGIT
    _check_memory(memory, logits // vocabulary, 4, vocabulary)
    if sees_both_sides(model):
        raise both_sided(model.config.model_type)
    tried_T = longest.ids_T[: min(8, logits // vocabulary // 2)]
    probe_2T = torch.from_numpy(tried_T).repeat(2, 1).to(model.device)
    probe_2T[1, -1] = 1 - probe_2T[1, -1].clamp(max=1)
    logits_2TV = model(probe_2T, use_cache=False).logits
    apart = runs_apart(model, probe_2T, logits_2TV)
    if not apart:
        _check_memory(memory, logits // vocabulary, len(longest.ids_T) - 1, vocabulary)
    return _Scorer(model, read, logits, apart)


def _check_memory(memory: int, rows: int, needed: int, vocabulary: int) -> None:
    if rows < needed:
        least = (needed * vocabulary * BYTES_PER_LOGIT >> 20) + 1
        raise BadSetting(
            f"{memory >> 20} MiB are too little for the logits of {needed} tokens over a "
            f"vocabulary of {vocabulary}. Give at least {least} MiB with --memory-mb."
        )
