"""Press a model to see what comes of it, and have it back as it was.

What is pressed is a copy. The weights themselves stay where they are: of a model that was opened
from files mapped there, so that the copy is all that memory holds beyond what a pressing takes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

from babelpress.system.offload import Hold, in_memory


@contextmanager
def undone(blocks: Iterable[nn.Module], hold: Hold) -> Iterator[None]:
    """Inside, parameters of blocks may be changed in place; then they are those of before.

    Where what is changed does not stay in memory, blocks are copied one by one as they are changed
    (system/offload.py), and not here.
    """
    every = (parameter for block in blocks for parameter in block.parameters())
    kept = {id(each): (each, each.data) for each in every}  # a block may stand twice
    if hold is in_memory:
        for parameter, dense in kept.values():
            parameter.data = dense.clone()
    try:
        yield
    finally:
        for parameter, dense in kept.values():
            parameter.data = dense
