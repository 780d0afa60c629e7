"""How a model reads text: how much at once, and whether on both sides of a token, as encoders do.

Told by running it, never by names.

Tested in tests/models/test_walk.py.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from babelpress.models import experts
from babelpress.models.recording import other_text


@torch.inference_mode()
def sees_both_sides(model: PreTrainedModel) -> bool:
    """Whether another last token changes what the body of a model makes of those before it."""
    text_1T = other_text(model).to(model.device)
    other_1T = text_1T.clone()
    other_1T[0, -1] = text_1T[0, 0]
    with experts.computed(model):
        one, two = (
            model.base_model(ids, attention_mask=torch.ones_like(ids))[0]
            for ids in (text_1T, other_1T)
        )
    return not same(one[:, :-1], two[:, :-1])


def positions_of(model: PreTrainedModel) -> int | None:
    """How many tokens fit at once; None where the config sets no limit.

    A table of positions that has a row for padding, as those of RoBERTa's kind, begins after it.
    """
    limit: Any = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None:
        return None
    tables = (each for each in model.modules() if isinstance(each, nn.Embedding))
    found = (each.padding_idx for each in tables if each.num_embeddings == limit)
    return limit - max((index + 1 for index in found if index is not None), default=0)


def same(a: Tensor, b: Tensor) -> bool:
    """Equal up to the noise of other kernels; NaN is equal to itself."""
    if a.shape != b.shape:
        return False
    noise = 8 * torch.finfo(a.dtype).eps * b.nan_to_num().abs().amax().item() if a.numel() else 0.0
    return torch.allclose(a, b, rtol=0, atol=noise, equal_nan=True)
