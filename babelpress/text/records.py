"""Records out of one file: a mapping for each, with the line that it came from.

.jsonl, .ndjson   one JSON object a line
.json             the same, or one list of objects (or of strings), by itself or in an object
.csv, .tsv        one record a row, its fields named by the first one; nothing is quoted in .tsv
.txt              one record a line, or, where blank lines part them, for every block of lines
.parquet          one record a row, counted from 1

Endings count in any case. All but .parquet may be packed: .gz, .zst, .bz2, .xz after the ending.
Files are read as streams, a line or a batch of rows at a time, but for a .json that is one value.
Every fault is a BadCorpus of one line with the file and the line; so is a line, or a packed file,
that would fill the memory.

Tested in tests/text/test_corpus.py and tests/text/test_records.py.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from babelpress.errors import BadCorpus

# Where a record has no `text`: as Common Voice, FLEURS and MASSIVE call it.
TEXT_FIELDS = ("text", "sentence", "raw_transcription", "transcription", "utt", "content")
LONGEST = 256_000_000  # bytes of a line
ROWS = 4096  # of a parquet file at once
# What packs better is no text: that packs to a third, and the same sentence over and over to 1:250.
MOST_PACKED, PACKED_FROM = 400, 256_000_000  # bytes for a packed byte, once there are so many


class Record(NamedTuple):
    """One record, the file and the line (or row) where it begins, counted from 1."""

    place: str
    line: int
    fields: dict[str, object]


def ending(name: str, also: Sequence[str] = ()) -> str | None:
    """The ending by which a file is read, `.jsonl.gz` for one, or None where there is no reader.

    `also` are endings that somebody else has a reader of.
    """
    low = name.casefold()
    packed = next((each for each in PACKED if low.endswith(each)), "")
    kinds = (*READERS, *also)
    kind = next((each for each in kinds if low.removesuffix(packed).endswith(each)), None)
    return None if kind is None or (packed and kind == ".parquet") else kind + packed


def read(path: Path) -> Iterator[Record]:
    """The records of a file in order. Raises BadCorpus where it is empty or cannot be read."""
    empty = True
    for line, fields in _reader(path)(path):
        empty = False
        yield Record(str(path), line, fields)
    if empty:
        raise _empty(path)


def check(path: Path) -> None:
    """Raise BadCorpus for what the beginning of a file shows: damaged, or nothing in it."""
    if _reader(path) is _parquet:
        next(_parquet(path), None)
    elif next(lines(path), None) is None:
        raise _empty(path)


def text_of(fields: Mapping[str, object]) -> object:
    """The text of a record: its field `text`, else the first of TEXT_FIELDS that it has."""
    text = fields.get("text")
    return text if text is not None else next(filter(None, map(fields.get, TEXT_FIELDS)), None)


def first_line(error: Exception) -> str:
    """What an error of a library says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


Rows = Iterator[tuple[int, dict[str, object]]]


def _reader(path: Path) -> Callable[[Path], Rows]:
    found = ending(path.name)
    assert found is not None, path
    if path.exists() and not path.is_file():
        raise BadCorpus(f"{path} is not a file. Only files are read.")
    return READERS[next(kind for kind in READERS if found.startswith(kind))]


def _empty(path: Path) -> BadCorpus:
    return BadCorpus(f"{path} is empty. Put text into it or remove the file.")


# ---- kinds of files ------------------------------------------------------------------------


def _jsonl(path: Path) -> Rows:
    return _objects(path, lines(path))


def _objects(path: Path, numbered: Iterable[tuple[int, str]]) -> Rows:
    for number, line in numbered:
        if not line or line.isspace():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadCorpus(
                f"{path}, line {number} is not valid JSON: {first_line(error)}. "
                "Each line must be one JSON object."
            ) from error
        if not isinstance(fields, dict):
            raise BadCorpus(f"{path}, line {number} is not a JSON object. Write {{'text': ...}}.")
        yield number, cast(dict[str, object], fields)


def _json(path: Path) -> Rows:
    there = ((number, line) for number, line in lines(path) if line.strip())
    begin = list(islice(there, 2))
    if len(begin) == 2 and all(_is_object(line) for _, line in begin):
        yield from _objects(path, chain(begin, there))
        return
    whole = "".join(line for _, line in chain(begin, there))
    try:
        value = json.loads(whole) if whole else []
    except (ValueError, RecursionError) as error:
        raise BadCorpus(
            f"{path} is not valid JSON: {first_line(error)}. It must be one list of objects, or "
            "one object a line."
        ) from error
    for number, each in enumerate(_listed(value), 1):
        fields = {"text": each} if isinstance(each, str) else each
        if not isinstance(fields, dict):
            raise BadCorpus(
                f"{path}, item {number} is not a JSON object. Write a list of {{'text': ...}}."
            )
        yield number, cast(dict[str, object], fields)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _listed(value: object) -> list[object]:
    """The records of one JSON value: a list, the only list of objects in an object, or itself."""
    if isinstance(value, list):
        return cast(list[object], value)
    inside = list(cast(dict[str, object], value).values()) if isinstance(value, dict) else []
    lists = [each for each in inside if isinstance(each, list) and each]
    holds = [each for each in lists if isinstance(each[0], dict)]
    if len(holds) == 1 and isinstance(value, dict) and not isinstance(text_of(value), str):
        return cast(list[object], holds[0])
    return [value]


def _csv(path: Path) -> Rows:
    return _table(path, "")


def _tsv(path: Path) -> Rows:
    return _table(path, "\t")


def _table(path: Path, delimiter: str) -> Rows:
    texts = (line for _, line in lines(path))
    header = next(texts, "")
    # Spreadsheets write ; for , where a comma is in numbers.
    mark = delimiter or next((each for each in (",", ";", "\t") if each in header), ",")
    # The library's own limit is 131,072 bytes; ours is that of a line.
    csv.field_size_limit(LONGEST)
    quoting = csv.QUOTE_NONE if delimiter else csv.QUOTE_MINIMAL
    rows = csv.reader(chain([header], texts), delimiter=mark, quoting=quoting, strict=True)
    names: list[str] = []
    start = 1
    try:
        for row in rows:
            if not names:
                names = [name.strip() for name in row]
            elif row:
                _check_row(path, start, names, row)
                yield start, dict(zip(names, row, strict=True))
            start = rows.line_num + 1
    except csv.Error as error:
        raise BadCorpus(
            f"{path} cannot be read after line {start - 1}: {first_line(error)}."
        ) from error


def _check_row(path: Path, line: int, names: Sequence[str], row: Sequence[str]) -> None:
    if len(row) != len(names):
        raise BadCorpus(
            f"{path}, line {line} has {len(row)} fields, and the first line names {len(names)}. "
            "Put a text with commas in it between double quotes."
        )


def _txt(path: Path) -> Rows:
    """Lines wait until a blank one parts them from others; where none does, each is a record."""
    block: list[tuple[int, str]] = []
    parted = blank = False
    for number, line in lines(path):
        if not line.strip():
            blank = True
            continue
        if blank and block:
            yield block[0][0], {"text": "\n".join(text for _, text in block)}
            block, parted = [], True
        block.append((number, line.rstrip("\r\n")))
        blank = False
    if parted and block:
        yield block[0][0], {"text": "\n".join(text for _, text in block)}
    else:
        for number, text in block:
            yield number, {"text": text}


def _parquet(path: Path) -> Rows:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except UnicodeDecodeError as error:
        raise BadCorpus(f"{path} is not valid UTF-8 after row {number}.") from error
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
        raise BadCorpus(
            f"{path} cannot be read as parquet after row {number}: {first_line(error)}."
        ) from error


READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".txt": _txt,
    ".parquet": _parquet,
}


# ---- lines ---------------------------------------------------------------------------------


def _zst(path: Path) -> object:
    # Python has no reader of its own before 3.14; that of parquet is here anyway.
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")


PACKED: dict[str, Callable[[Path], object]] = {
    ".gz": gzip.open,
    ".zst": _zst,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of UTF-8 text, counted from 1; only a newline ends one, not every Unicode separator."""
    number, size = 0, 0
    try:
        most = max(PACKED_FROM, MOST_PACKED * path.stat().st_size)
        with _open(path) as file:
            while line := file.readline(LONGEST + 1):
                number += 1
                size += len(line)
                if len(line) > LONGEST:
                    raise BadCorpus(
                        f"{path}, line {number} is longer than {LONGEST:,} bytes. Break it up."
                    )
                if size > most:
                    raise BadCorpus(
                        f"{path} packs more than {size:,} bytes into {path.stat().st_size:,}, "
                        "which no text does: it would fill the memory. Remove it."
                    )
                # Editors of some systems put a byte order mark first, which is no text.
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise BadCorpus(
            f"{path}, line {number} is not valid UTF-8 (byte {error.start + 1} of the line). "
            "Save the file as UTF-8."
        ) from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise BadCorpus(
            f"{path} cannot be read after line {number}: {first_line(error)}. "
            "Restore the file, or leave it out."
        ) from error


def _open(path: Path) -> BinaryIO:
    unpack = PACKED.get(path.suffix.casefold())
    if unpack is None:
        return path.open("rb")
    # Unpackers find line ends in Python; a buffer around them finds them in C.
    return io.BufferedReader(cast(io.RawIOBase, unpack(path)), 1 << 18)
