"""All weights of a model: whether they are finite, and their fingerprint.

Tested in tests/models/test_open.py.
"""

from hashlib import sha256

import torch
from torch import nn

from babelpress.errors import NotFinite
from babelpress.numerics.finite import all_finite


def check_finite(model: nn.Module) -> None:
    """Raise NotFinite naming the first tensor that holds NaN or infinity."""
    for name, parameter in model.named_parameters():
        if not all_finite(parameter):
            raise NotFinite(
                f"the weight {name} holds NaN or infinity: the file is damaged or the training "
                "diverged. Get a sound copy of the model."
            )


def weights_hash(model: nn.Module) -> str:
    """sha256 over names, shapes, dtypes and bytes of all weights."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
