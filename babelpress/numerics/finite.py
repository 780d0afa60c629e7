"""Whether all numbers of a tensor are finite, in one pass and without a copy."""

import torch
from torch import Tensor


def all_finite(tensor: Tensor) -> bool:
    """Whether no number is NaN or infinite; integers and an empty tensor have none."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return bool(torch.stack(tensor.aminmax()).isfinite().all())  # NaN is handed on by both
