"""What does not fit in memory lies on disk: hidden states, and blocks that were pressed.

A tensor is held in a mapped file. The system writes its pages out when memory runs short and reads
them back when they are used, so nothing else has to know. Weights that were never changed need
none of this: they are mapped from the model's own files.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from babelpress.errors import BadRun

Hold = Callable[[Tensor], Tensor]


def in_memory(tensor: Tensor) -> Tensor:
    """Nothing is moved."""
    return tensor


def on_disk(folder: Path) -> Hold:
    """A function that gives a tensor back with its numbers in a file of `folder`.

    The file has no name any more when it returns, so that nothing is left when the process ends,
    however it ends. Raises BadRun where the disk is full.
    """

    def hold(tensor: Tensor) -> Tensor:
        number, path = tempfile.mkstemp(dir=folder)
        try:
            # A mapped page that the disk has no room for kills the process: take the room first.
            os.posix_fallocate(number, 0, max(1, tensor.nbytes))
            held = torch.from_file(path, shared=True, size=tensor.numel(), dtype=tensor.dtype)
        except OSError as error:
            raise BadRun(
                f"cannot hold {tensor.nbytes:,} bytes in {folder}: {error.strerror}. Give a folder "
                "with more room, or run without --offload."
            ) from error
        finally:
            os.close(number)
            Path(path).unlink()
        return held.view(tensor.shape).copy_(tensor)

    return hold


def hold_weights(module: nn.Module, hold: Hold) -> None:
    """Hold every parameter of a module; parameters that are shared stay shared."""
    for parameter in module.parameters():
        parameter.data = hold(parameter.data)
