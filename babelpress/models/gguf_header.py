"""What a GGUF file says of itself: its metadata, and the types, shapes and places of its tensors.

Read without torch or the gguf package, so that a wrong file is told in a moment. No tensor is read.
"""

import mmap
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from babelpress.errors import BadModel

SUFFIX = ".gguf"
MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32  # of tensors, where a file does not say
STRING, ARRAY = 8, 9
# Other values by their number: how they are packed.
PLAIN = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
AGAIN = "Get the file again."


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of tensor: weights of a block and its bytes, and what one weight is rounded to.

    `bits` of its code, 0 for floats, and `group`, how many of a row share a scale, 0 for codes that
    stand for several weights or no even steps (IQ and TQ).
    """

    name: str
    block: int
    bytes: int
    bits: int = 0
    group: int = 0


KINDS = {
    0: Kind("F32", 1, 4),
    1: Kind("F16", 1, 2),
    30: Kind("BF16", 1, 2),
    28: Kind("F64", 1, 8),
    2: Kind("Q4_0", 32, 18, 4, 32),
    3: Kind("Q4_1", 32, 20, 4, 32),
    6: Kind("Q5_0", 32, 22, 5, 32),
    7: Kind("Q5_1", 32, 24, 5, 32),
    8: Kind("Q8_0", 32, 34, 8, 32),
    10: Kind("Q2_K", 256, 84, 2, 16),
    11: Kind("Q3_K", 256, 110, 3, 16),
    12: Kind("Q4_K", 256, 144, 4, 32),
    13: Kind("Q5_K", 256, 176, 5, 32),
    14: Kind("Q6_K", 256, 210, 6, 16),
    16: Kind("IQ2_XXS", 256, 66, 2),
    17: Kind("IQ2_XS", 256, 74, 2),
    18: Kind("IQ3_XXS", 256, 98, 3),
    19: Kind("IQ1_S", 256, 50, 1),
    20: Kind("IQ4_NL", 32, 18, 4),
    21: Kind("IQ3_S", 256, 110, 3),
    22: Kind("IQ2_S", 256, 82, 2),
    23: Kind("IQ4_XS", 256, 136, 4),
    29: Kind("IQ1_M", 256, 56, 1),
    34: Kind("TQ1_0", 256, 54, 2),
    35: Kind("TQ2_0", 256, 66, 2),
}
FLOATS = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of a file: its shape as torch has it, and where its bytes begin."""

    kind: Kind
    shape: tuple[int, ...]
    start: int

    @property
    def bytes(self) -> int:
        """That it takes in the file."""
        return prod(self.shape) // self.kind.block * self.kind.bytes


@dataclass(frozen=True, slots=True)
class Header:
    """A GGUF file without its data."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Stored]

    @property
    def architecture(self) -> str:
        """What llama.cpp calls the family."""
        return str(self.metadata["general.architecture"])

    def own(self, key: str, default: Any = None) -> Any:
        """The value of a key of its architecture."""
        return self.metadata.get(f"{self.architecture}.{key}", default)

    @property
    def kinds(self) -> dict[str, dict[str, int]]:
        """How many matrices of each part of a block, and outside of blocks, have which type."""
        found: dict[str, Counter[str]] = {}
        for name, each in self.tensors.items():
            if len(each.shape) > 1:
                part = name.removesuffix(".weight").rpartition(".")[2]
                found.setdefault(part, Counter())[each.kind.name] += 1
        return {part: dict(counted) for part, counted in sorted(found.items())}

    def floats(self, name: str) -> tuple[float, ...]:
        """The numbers of a small F32 tensor, a norm or a bias."""
        each = self.tensors[name]
        with self.path.open("rb") as file:
            file.seek(each.start)
            data = file.read(4 * prod(each.shape))
        return struct.unpack(f"<{prod(each.shape)}f", data)


def is_gguf(where: str | Path) -> bool:
    """Whether a MODEL is a GGUF file, by its name: one that is there."""
    path = Path(where)
    return path.suffix.lower() == SUFFIX and path.is_file()


def has_magic(path: Path) -> bool:
    """Whether a file begins as GGUF does. Raises BadModel where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise BadModel(f"cannot read {path}: {error.strerror}.") from error


def read(path: str | Path) -> Header:
    """The header of a file. Raises BadModel for one that is none, damaged, a part, or no model."""
    path = Path(path)
    try:
        about = path.stat()
    except OSError as error:
        raise BadModel(f"cannot read {path}: {error.strerror}.") from error
    return _read(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=2)
def _read(path: Path, size: int, changed: int) -> Header:  # noqa: ARG001  # one that changed is another
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise BadModel(f"{path} does not begin as GGUF does: it is no such file. {AGAIN}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header = _parsed(path, _Reader(data))
    except OSError as error:
        raise BadModel(f"cannot read {path}: {error.strerror}.") from error
    except (struct.error, ValueError, OverflowError) as error:
        raise BadModel(f"{path} is damaged or cut short in its header. {AGAIN}") from error
    _check(header, size)
    return header


class _Reader:
    """Values one after the other. struct.error where the file ends."""

    def __init__(self, data: mmap.mmap):
        self.data, self.place = data, 4

    def some(self, code: str, count: int = 1) -> tuple[Any, ...]:
        if count * struct.calcsize(f"<{code}") > len(self.data) - self.place:
            raise struct.error("the file ends")
        found = struct.unpack_from(f"<{count}{code}", self.data, self.place)
        self.place += struct.calcsize(f"<{count}{code}")
        return found

    def one(self, code: str) -> Any:
        return self.some(code)[0]

    def text(self) -> str:
        length = self.one("Q")
        if length > len(self.data) - self.place:
            raise struct.error("the file ends")
        found = self.data[self.place : self.place + length]
        self.place += length
        return found.decode("utf-8", errors="replace")  # a token may be half a character

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            return self.one(PLAIN[kind]) if kind in PLAIN else _unknown(kind)
        inside, count = self.one("I"), self.one("Q")
        if inside == STRING:
            return [self.text() for _ in range(count)]
        return list(self.some(PLAIN[inside], count)) if inside in PLAIN else _unknown(inside)


def _unknown(kind: int) -> Any:
    raise ValueError(f"no value is of kind {kind}")


def _parsed(path: Path, reader: _Reader) -> Header:
    version = reader.one("I")
    if version not in VERSIONS:
        swapped = int.from_bytes(struct.pack("<I", version), "big")
        how = "big-endian" if swapped in VERSIONS else f"version {version}"
        raise BadModel(
            f"{path} is GGUF of another kind ({how}): read are versions 2 and 3, little-endian. "
            "Convert it with llama.cpp's gguf-py."
        )
    tensors, pairs = reader.some("Q", 2)
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        key = reader.text()
        metadata[key] = reader.value(reader.one("I"))
    table = [_entry(path, reader) for _ in range(tensors)]
    align = int(metadata.get("general.alignment", ALIGNMENT)) or ALIGNMENT
    base = -(-reader.place // align) * align
    found = {name: Stored(kind, shape, base + start) for name, kind, shape, start in table}
    return Header(path, metadata, found)


def _entry(path: Path, reader: _Reader) -> tuple[str, Kind, tuple[int, ...], int]:
    name = reader.text()
    shape = reader.some("Q", reader.one("I"))[::-1]
    number, start = reader.one("I"), reader.one("Q")
    kind = KINDS.get(number)
    if kind is None:
        raise BadModel(
            f"{path} keeps {name} in a type that is not known here (ggml's number {number}). Read "
            f"are {', '.join(each.name for each in KINDS.values())}."
        )
    return name, kind, shape, start


def _check(header: Header, size: int) -> None:
    path, metadata = header.path, header.metadata
    # the first key to look at: parts after the first have no others
    parts = metadata.get("split.count", 1)
    if not isinstance(parts, int) or parts > 1:
        raise BadModel(
            f"{path} is one of {parts} files of a model (split.count). Make one of them with "
            "llama.cpp's `llama-gguf-split --merge FIRST OUT`."
        )
    if metadata.get("general.type", "model") != "model" or "general.architecture" not in metadata:
        kind = metadata.get("general.type", "file of no architecture")
        raise BadModel(f"{path} is no model, but of kind {kind}. Give the GGUF file of a model.")
    for name, each in header.tensors.items():
        end = each.start + each.bytes
        if end > size:
            raise BadModel(
                f"{path} is cut short: its tensor {name} ends at byte {end:,}, and the file has "
                f"{size:,}. {AGAIN}"
            )
