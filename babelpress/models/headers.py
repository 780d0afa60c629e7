"""What safetensors files hold, from their headers alone: names, types, shapes, places of tensors.

No tensor is read: headers tell what a model keeps, in which type, before anything heavy is
imported, and bytes go from file to file as they are.
"""

import json
import math
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from babelpress.errors import BadModel
from babelpress.models.names import INDEX, SINGLE
from babelpress.system.files import read_json, whole_file

METADATA = "__metadata__"
FLOATS = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32}
BITS |= dict.fromkeys(("BF16", "F16", "I16", "U16"), 16)
BYTE = 8  # bits of all other types, or fewer
PIECE = 1 << 24  # bytes that are copied at once


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of a file: its name and type there, and where its bytes are."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def bytes(self) -> int:
        """Its size in the file."""
        return self.end - self.start

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def files_of(folder: Path) -> list[Path]:
    """The files with the weights of a model folder: one, or those that its index names.

    Raises BadModel for an index that is damaged.
    """
    if (folder / SINGLE).exists() or not (folder / INDEX).exists():
        return [path for path in (folder / SINGLE,) if path.exists()]
    return [folder / name for name in shards(folder / INDEX)]


def shards(index: Path) -> list[str]:
    """The files that an index names, each once. Raises BadModel for one that is damaged."""
    found = read_json(index, error=BadModel)
    named = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(named, dict):
        raise BadModel(f"{index} has no weight_map: it is no index of a model.")
    return sorted(set(map(str, named.values())))


def entries(files: Iterable[Path]) -> list[Entry]:
    """Every tensor of some files. Raises BadModel for one that is missing or cut short."""
    found: list[Entry] = []
    for path in files:
        header, base = _header(path)
        try:
            found += [_entry(path, *row, base) for row in header.items() if row[0] != METADATA]
        except (KeyError, TypeError, ValueError) as error:
            raise BadModel(f"{path} is damaged: its header tells of no tensors.") from error
    return found


def main_dtype(found: Iterable[Entry]) -> str | None:
    """The float type, as torch calls it, that most numbers of a file have; None without floats."""
    counted: Counter[str] = Counter()
    for each in found:
        if each.dtype in FLOATS:
            counted[FLOATS[each.dtype]] += each.numbers
    return counted.most_common(1)[0][0] if counted else None


def write(path: Path, found: Sequence[Entry]) -> None:
    """Write tensors into one file, their bytes as they are. Raises BadRun where the disk refuses.

    The widest types come first, so that each begins where its type may.
    """
    ordered = sorted(found, key=lambda each: (-BITS.get(each.dtype, BYTE), each.name))
    header: dict[str, Any] = {METADATA: {"format": "pt"}}
    end = 0
    for each in ordered:
        start, end = end, end + each.bytes
        header[each.name] = {
            "dtype": each.dtype,
            "shape": each.shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path, end) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for each in ordered:
            with each.file.open("rb") as source:
                source.seek(each.start)
                _copy(source, file, each)


def _copy(source: BinaryIO, file: BinaryIO, each: Entry) -> None:
    left = each.bytes
    while left:
        piece = source.read(min(PIECE, left))
        if not piece:
            raise BadModel(f"{each.file} is cut short: {each.name} is not whole.")
        file.write(piece)
        left -= len(piece)


def _header(path: Path) -> tuple[Mapping[str, Any], int]:
    """The header of a file, and where its data begins."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("longer than its file")
            header = json.loads(file.read(length))
    except OSError as error:
        raise BadModel(f"cannot read {path}: {error.strerror}.") from error
    except (struct.error, ValueError, RecursionError) as error:
        raise BadModel(f"{path} is not a safetensors file, or is cut short.") from error
    if not isinstance(header, dict):
        raise BadModel(f"{path} is not a safetensors file, or is cut short.")
    return header, 8 + length


def _entry(path: Path, name: str, row: Mapping[str, Any], base: int) -> Entry:
    start, end = map(int, row["data_offsets"])
    return Entry(path, name, str(row["dtype"]), tuple(row["shape"]), base + start, base + end)
