"""Logits of tokens without all of them at once, and what they say together.

The body of a model runs once for a whole batch. Its output layer then makes the logits of the
scored positions for a slice of the vocabulary at a time, which stay in the processor's caches, by
the model's own `forward` with body and output layer replaced: that way scaled and soft-capped
logits (Gemma, Cohere, Granite) come out right without knowing the family.

Shapes: B windows of a batch, T tokens of the longest of them, N scored tokens, V vocabulary, or a
slice of it, H hidden size.

Tested in tests/evals/test_bits_per_byte.py.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from babelpress.evals._begun import Past
from babelpress.models.wide import WideLinear

# Rows and logits of a slice at once, in float32 4 and 256 MiB: on a processor they are to stay in
# its caches. Measured with vocabularies of 8,192 and 262,144.
SLICE_TOKENS = {"cpu": 512, "other": 4096}
SLICE_LOGITS = {"cpu": 1 << 20, "other": 1 << 26}
# An exponential of less, 2e-35, adds nothing, and would be a denormal number, which are slow.
LOWEST = -80.0


@dataclass(slots=True)
class Said:
    """What the logits so far say of N tokens, in float32.

    `target_N` are the tokens that came, `here_N` the logits of those, `best_N` the largest,
    `place_N` where the largest is, of equal ones the first, or -1 where ranks were not asked for;
    `sum_N` is Σ exp(logit - best). A logit that is NaN or +inf makes `log_sum_N` NaN.
    """

    target_N: Tensor
    here_N: Tensor
    best_N: Tensor
    place_N: Tensor
    sum_N: Tensor
    ranks: bool

    @classmethod
    def nothing(cls, target_N: Tensor, *, ranks: bool) -> "Said":
        """Of no logits yet."""
        lowest_N = torch.full(target_N.shape, -torch.inf, device=target_N.device)
        nowhere_N = torch.full_like(target_N, -1)
        return cls(
            target_N, lowest_N, lowest_N.clone(), nowhere_N, torch.zeros_like(lowest_N), ranks
        )

    @property
    def log_sum_N(self) -> Tensor:
        """ln Σ exp over the vocabulary."""
        return self.best_N + self.sum_N.log()

    def add(self, logits_NV: Tensor, start: int) -> None:
        """The logits of V tokens, from number `start` on; they are changed."""
        logits_NV = logits_NV.float()
        size = logits_NV.shape[1]
        if self.ranks:
            highest_N, place_N = logits_NV.max(1)
            self.place_N = torch.where(highest_N > self.best_N, place_N + start, self.place_N)
        else:
            highest_N = logits_NV.amax(1)
        own_N1 = (self.target_N - start).clamp(0, size - 1)[:, None]
        inside_N = (self.target_N >= start) & (self.target_N < start + size)
        here_N = logits_NV.gather(1, own_N1)[:, 0]
        self.here_N = torch.where(inside_N, here_N, self.here_N)
        best_N = torch.maximum(self.best_N, highest_N)
        # where all so far are masked, -inf, there is nothing to hold them against
        base_N = best_N.masked_fill(best_N == -torch.inf, 0.0)
        below_NV = logits_NV.sub_(base_N[:, None]).clamp_(min=LOWEST).exp_()
        before_N = (self.best_N - base_N).exp() * self.sum_N
        self.sum_N, self.best_N = before_N + below_NV.sum(1), best_N


Tell = Callable[[Said], Tensor]
"""What is told of N tokens that came: one number each (N,), or several (N, K)."""


class Logits(Protocol):
    """Logits of N tokens over the vocabulary, made when they are asked for."""

    @property
    def rows(self) -> Tensor:
        """N of what they are made of."""
        ...

    @property
    def vocabulary(self) -> int: ...

    @property
    def place(self) -> str:
        """`cpu` or `other`."""
        ...

    def all(self) -> Tensor:
        """(N, V)."""
        ...

    def slices(self, size: int) -> Iterator[tuple[int, Tensor]]:
        """Where each slice of `size` tokens of the vocabulary begins, and its logits, one's own."""
        ...

    def split(self, rows: int) -> "Sequence[Logits]":
        """Parts of that many tokens each."""
        ...


@dataclass(frozen=True, slots=True)
class _Whole:
    """Logits that a model has made."""

    rows: Tensor

    @property
    def vocabulary(self) -> int:
        return self.rows.shape[1]

    @property
    def place(self) -> str:
        return place_of(self.rows)

    def all(self) -> Tensor:
        return self.rows

    def slices(self, size: int) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, self.vocabulary, size):
            yield start, self.rows[:, start : start + size].clone()

    def split(self, rows: int) -> "Sequence[_Whole]":
        return [_Whole(some) for some in self.rows.split(rows)]


@dataclass(frozen=True, slots=True)
class _OfStates:
    """Logits by the model's own `forward`, with its body and its output layer replaced."""

    rows: Tensor
    model: PreTrainedModel
    body: ModelOutput

    @property
    def vocabulary(self) -> int:
        return len(_head(self.model).weight)

    @property
    def place(self) -> str:
        return place_of(self.rows)

    def all(self) -> Tensor:
        ((_, logits_NV),) = self.slices(self.vocabulary)
        return logits_NV

    def slices(self, size: int) -> Iterator[tuple[int, Tensor]]:
        head = _head(self.model)
        hidden_1NH = self.rows[None]
        given = type(self.body)(**{**self.body, "last_hidden_state": hidden_1NH})
        blank_1N = torch.zeros(hidden_1NH.shape[:2], dtype=torch.long, device=self.rows.device)
        for start in range(0, self.vocabulary, size):
            part = _some_of(head, slice(start, start + size))
            with _instead(self.model.base_model, lambda *_, **__: given), _instead(head, part):
                yield start, self.model(blank_1N, use_cache=False).logits[0]

    def split(self, rows: int) -> "Sequence[_OfStates]":
        return [_OfStates(some, self.model, self.body) for some in self.rows.split(rows)]


def streamed(tell: Tell, ranks: bool, logits: Logits, target_N: Tensor, most: int) -> Tensor:
    """What is told of tokens while slices of the vocabulary go by, `most` logits at a time."""
    most = min(most, SLICE_LOGITS[logits.place])
    rows = min(most, SLICE_TOKENS[logits.place])
    found = []
    for part, target_R in zip(logits.split(rows), target_N.split(rows), strict=True):
        said = Said.nothing(target_R, ranks=ranks)
        for start, logits_RV in part.slices(max(1, most // len(target_R))):
            said.add(logits_RV, start)
        found.append(tell(said))
    return torch.cat(found)


def of_model(
    model: PreTrainedModel,
    ids_BT: Tensor,
    mask_BT: Tensor,
    wanted_BT: Tensor,
    past: Past | None = None,
) -> Logits:
    """Logits of the wanted positions, all made at once; after a `past` of what follows it."""
    return _Whole(_run(model, ids_BT, mask_BT, past).logits[wanted_BT])


def of_states(
    model: PreTrainedModel,
    ids_BT: Tensor,
    mask_BT: Tensor,
    wanted_BT: Tensor,
    past: Past | None = None,
) -> Logits:
    """Logits of the wanted positions, made when they are asked for; `runs_apart` must hold."""
    body = _run(model.base_model, ids_BT, mask_BT, past)
    return _OfStates(body.last_hidden_state[wanted_BT], model, body)


def _run(module: Any, ids_BT: Tensor, mask_BT: Tensor, past: Past | None) -> Any:
    if past is None:
        return module(ids_BT, attention_mask=mask_BT, use_cache=False)
    return module(ids_BT, **past.given(module, mask_BT))


def runs_apart(model: PreTrainedModel, probe_BT: Tensor, logits_BTV: Tensor) -> bool:
    """Whether slices of the vocabulary, made from hidden states, are the model's own logits."""
    if model.base_model is model or not _plain(_head(model), logits_BTV.shape[-1]):
        return False
    everywhere_BT = torch.ones_like(probe_BT, dtype=torch.bool)
    third = -(-logits_BTV.shape[-1] // 3)
    slices = of_states(model, probe_BT, everywhere_BT.long(), everywhere_BT).slices(third)
    return same(torch.cat([each for _, each in slices], -1), logits_BTV.flatten(0, 1))


def _plain(head: Any, vocabulary: int) -> bool:
    """A linear of its own that has a row for every token, and has it here."""
    kind = type(head) in (nn.Linear, WideLinear)
    return kind and not head.weight.is_meta and len(head.weight) == vocabulary


def _head(model: PreTrainedModel) -> Any:
    return model.get_output_embeddings()


def place_of(there: Tensor | PreTrainedModel) -> str:
    """`cpu` or `other`."""
    return "cpu" if there.device.type == "cpu" else "other"


def same(a: Tensor, b: Tensor) -> bool:
    """Equal up to the noise of other kernels; NaN is equal to itself."""
    if a.shape != b.shape:
        return False
    noise = 8 * torch.finfo(a.dtype).eps * b.nan_to_num().abs().amax().item() if a.numel() else 0.0
    return torch.allclose(a, b, rtol=0, atol=noise, equal_nan=True)


def _some_of(head: nn.Linear, outputs: slice) -> Callable[[Tensor], Tensor]:
    if isinstance(head, WideLinear):
        return lambda x: head.some(x, outputs)
    bias_V = None if head.bias is None else head.bias[outputs]
    return lambda x: functional.linear(x, head.weight[outputs], bias_V)


@contextmanager
def _instead(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """Another `forward`; what stood there before, such as a hook of accelerate, comes back."""
    before = {"forward": module.__dict__["forward"]} if "forward" in module.__dict__ else {}
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        module.__dict__.update(before)
