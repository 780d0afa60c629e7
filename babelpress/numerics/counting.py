"""How many numbers of a tensor are not zero, at the speed of memory."""

import numpy as np
import torch
from torch import Tensor

_OF_16_BITS = (torch.bfloat16, torch.float16)


def nonzeros(tensor: Tensor) -> int:
    """The count; −0 is zero, and NaN is not."""
    if tensor.device.type != "cpu":
        return int(torch.count_nonzero(tensor))
    tensor = tensor.detach()
    if tensor.dtype in _OF_16_BITS:
        # Without the sign, only zero has no bits. NumPy counts integers some ten times as fast as
        # torch counts these.
        tensor = tensor.view(torch.int16) << 1
    return int(np.count_nonzero(tensor.numpy()))
