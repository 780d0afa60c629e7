"""Whether a model reads text on both sides of a token, as encoders do, or only before it.

Told by running it, never by names.
"""

import torch
from torch import Tensor
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


def same(a: Tensor, b: Tensor) -> bool:
    """Equal up to the noise of other kernels; NaN is equal to itself."""
    if a.shape != b.shape:
        return False
    noise = 8 * torch.finfo(a.dtype).eps * b.nan_to_num().abs().amax().item() if a.numel() else 0.0
    return torch.allclose(a, b, rtol=0, atol=noise, equal_nan=True)
