"""Logits of single positions: a model's own `forward`, with its body standing in.

Logits of all positions over a vocabulary of a quarter of a million would fill the memory. The body
runs once, and the model then makes those of some states alone: scaled and soft-capped logits come
out right that way, whatever the family.

Shapes: T positions, N positions whose logits are wanted, V vocabulary, H hidden size.

Tested in tests/train/test_reading.py.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from babelpress.models.recording import replaced

CLOSE = 8  # roundings that two ways to the same logits may be apart


def logits_of(model: PreTrainedModel, body: Any, rows_NH: Tensor) -> Tensor:
    """Logits (N, V) of states after the body, of which `body` is some output."""
    given = type(body)(**{**body, "last_hidden_state": rows_NH[None]})
    blank_1N = torch.zeros((1, len(rows_NH)), dtype=torch.long, device=rows_NH.device)
    with replaced({model.base_model: lambda *_, **__: given}):
        return model(blank_1N, use_cache=False).logits[0]


def is_apart(model: PreTrainedModel, ids_1T: Tensor, logits_1TV: Any, there_1T: Tensor) -> bool:
    """Whether logits of single positions are the model's own."""
    if model.base_model is model:
        return False
    body = model.base_model(ids_1T, attention_mask=there_1T.long(), use_cache=False)
    found = logits_of(model, body, body.last_hidden_state[there_1T])
    expected = logits_1TV[there_1T]
    largest = expected.nan_to_num().abs().amax().item()
    noise = CLOSE * torch.finfo(found.dtype).eps * largest
    same_shape = found.shape == expected.shape
    return same_shape and torch.allclose(found, expected, rtol=0, atol=noise, equal_nan=True)
