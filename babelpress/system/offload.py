"""What does not fit in memory lies on disk: hidden states, and blocks that were pressed.

A tensor is written to a file and mapped from there: the system drops its pages when memory runs
short and reads them back when they are used, so nothing else has to know. Weights that were never
changed need none of this: they are mapped from the model's own files.

Pages that are yet to be written cannot be dropped, and a memory cgroup of version 1 kills the
process rather than wait for them. So what is held is on its way to the disk as soon as it is
written, and a block is changed in memory and held when it is done.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from babelpress.errors import BadRun, BadSetting
from babelpress.system.memory import give_back_at_once

Hold = Callable[[Tensor], Tensor]

AT_ONCE = 4 << 20  # bytes written before the disk is let begin with them


def in_memory(tensor: Tensor) -> Tensor:
    """Nothing is moved."""
    return tensor


def on_disk(folder: Path) -> Hold:
    """A function that gives a tensor back with its numbers in a file of `folder`.

    The file has no name any more when it returns, so that nothing is left when the process ends,
    however it ends. Raises BadRun where the disk is full, BadSetting for a tensor of a GPU.
    """
    give_back_at_once()

    def hold(tensor: Tensor) -> Tensor:
        if tensor.device.type != "cpu":
            raise BadSetting(
                f"--offload keeps the memory of the machine free, not that of {tensor.device}. "
                "Use --device cpu, or run without --offload (of a sweep --one-pass)."
            )
        number, path = tempfile.mkstemp(dir=folder)
        try:
            # A mapped page that the disk has no room for kills the process: take the room first.
            os.posix_fallocate(number, 0, max(1, tensor.nbytes))
            _write(number, tensor)
            held = torch.from_file(path, shared=True, size=tensor.numel(), dtype=tensor.dtype)
        except OSError as error:
            raise BadRun(
                f"cannot hold {tensor.nbytes:,} bytes in {folder}: {error.strerror}. Give a folder "
                "with more room, or run without --offload (of a sweep --one-pass)."
            ) from error
        finally:
            os.close(number)
            Path(path).unlink()
        return held.view(tensor.shape)

    return hold


def _write(number: int, tensor: Tensor) -> None:
    """Write a tensor's numbers into an open file, and let the disk begin with them at once."""
    for some in tensor.detach().reshape(-1).split(AT_ONCE // tensor.itemsize):
        rest = memoryview(some.contiguous().view(torch.uint8).numpy().data)
        while rest:
            rest = rest[os.write(number, rest) :]
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def changing(module: nn.Module, hold: Hold) -> Iterator[None]:
    """Inside, the parameters of a module may be changed; then they are held.

    Before that they lie in memory of their own: what is changed in a mapped file of the model would
    stay in memory as long as the model does. Parameters that are shared stay shared.
    """
    if hold is not in_memory:
        _move(module, torch.clone)
    yield
    _move(module, hold)


def turn(module: nn.Module, dtype: torch.dtype, hold: Hold) -> None:
    """Let the parameters of a module be of another dtype, one by one; what changed is held."""
    _move(module, lambda tensor: tensor if tensor.dtype == dtype else hold(tensor.to(dtype)))


def _move(module: nn.Module, to: Hold) -> None:
    for parameter in module.parameters():
        parameter.data = to(parameter.data)
