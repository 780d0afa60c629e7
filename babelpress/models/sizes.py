"""How large the weights of a model are, as a whole: parameters, zeros, bytes compressed.

Zeros cost as much as other numbers in an ordinary file; compressed, as a download is, they do not.
Compressed means one stream of zstd at its first level over the weights as they are stored, one
tensor after another: what has codes over the files that hold these. It is what a file server or a
disk saves, and no engine reads it.
"""

import io
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from babelpress.models.experts import slice_names
from babelpress.models.headers import Entry

COMPRESSOR = "zstd"
PIECE = 1 << 24  # bytes that are given to the compressor at once


def measured(
    model: nn.Module,
    stored: torch.dtype,
    *,
    coded: Collection[str] = (),
    packed: Iterable[Path] = (),
    carried: Iterable[Entry] = (),
) -> dict[str, Any]:
    """`nonzero` parameters and `bytes_compressed` of a model whose file has the dtype `stored`.

    `coded` are the linears that have codes, by their full names, and `packed` the files with these.
    What is `carried` over counts as it lies in its files, all of it as not zero.
    """
    given = tuple(carried)
    nonzero = sum(entry.numbers for entry in given)
    for _, parameter in model.named_parameters():
        nonzero += int(torch.count_nonzero(parameter.detach().to(stored)))
    whole = _compressed(
        piece
        for pieces in (_of_model(model, stored, coded), *map(_of_file, packed), _carried(given))
        for piece in pieces
    )
    return {"nonzero": nonzero, "bytes_compressed": whole, "compressor": COMPRESSOR}


def _of_model(
    model: nn.Module, stored: torch.dtype, coded: Collection[str]
) -> Iterator[memoryview]:
    """The bytes of every parameter, or of its slices, that has no codes."""
    for name, parameter in model.named_parameters():
        names = slice_names(name, parameter)
        loose = [place for place, each in enumerate(names) if each not in coded]
        if len(loose) == len(names):
            yield from _bytes(parameter, stored)
        elif loose:
            for place in loose:
                yield from _bytes(parameter[place], stored)


def _bytes(tensor: Tensor, stored: torch.dtype) -> Iterator[memoryview]:
    flat = tensor.detach().to(stored).cpu().contiguous().reshape(-1)
    for piece in flat.split(max(1, PIECE // stored.itemsize)):
        bytes_: Any = piece.view(torch.uint8).numpy()
        yield memoryview(bytes_)


def _of_file(path: Path) -> Iterator[memoryview]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield memoryview(piece)


def _carried(entries: Iterable[Entry]) -> Iterator[memoryview]:
    for entry in entries:
        with entry.file.open("rb") as file:
            file.seek(entry.start)
            left = entry.bytes
            while left and (piece := file.read(min(PIECE, left))):
                left -= len(piece)
                yield memoryview(piece)


def _compressed(pieces: Iterable[memoryview]) -> int:
    """How many bytes a stream of these takes."""

    class Counted(io.RawIOBase):
        """A file that keeps nothing but how long it is."""

        size = 0

        def writable(self) -> bool:
            return True

        def write(self, data: Any, /) -> int:
            self.size += len(data)
            return len(data)

    sink = Counted()
    with pa.CompressedOutputStream(pa.PythonFile(sink, mode="w"), COMPRESSOR) as stream:
        for piece in pieces:
            stream.write(piece)
    return sink.size
