"""Records out of text: one mapping for a record, with the line that it came from.

A LocalFile is
.jsonl, .jsonl.gz   one JSON object a line
.txt                one record for every block of lines between blank lines; its only field is text
.parquet            one record a row, counted from 1
HubFiles are the parquet files of one language in a data set on the hub, pinned to one commit.

All are read as streams, a line or a batch of rows at a time. Every fault is a BadCorpus of one
line with the file and the line; so is a line, or a .gz file, that would fill the memory.

Tested in tests/text/test_corpus.py.
"""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

from babelpress.errors import BadCorpus
from babelpress.system.files import fingerprint, sha256_file

SPLITS = ("train", "valid", "test")
SPLIT_NAMES = {**{split: split for split in SPLITS}, "validation": "valid", "dev": "valid"}
HUB_CHARACTERS = 8_000_000  # read of a language and file split from the hub, from its beginning
# Folders of data sets, some of which would do as the name of a language.
NO_LANGUAGES = {*SPLIT_NAMES, "all", "data", "default", "main", "raw", "text"}
LISTED = 12
LONGEST = 256_000_000  # bytes of a line
ROWS = 4096  # of a parquet file at once
# What packs better is no text: that packs to a third, and the same sentence over and over to 1:250.
MOST_PACKED, PACKED_FROM = 400, 256_000_000  # bytes for a byte of .gz, once there are so many


class Record(NamedTuple):
    """One record and the line (or row) where it begins, counted from 1."""

    line: int
    fields: dict[str, object]


class Source(Protocol):
    """Where the text of one language comes from."""

    @property
    def name(self) -> str: ...
    def records(self) -> Iterable[Record]: ...
    def fingerprint(self) -> str: ...


@dataclass(frozen=True, slots=True)
class LocalFile:
    """The text of one language in one file."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def records(self) -> Iterable[Record]:
        return read(self.path)

    def fingerprint(self) -> str:
        return sha256_file(self.path)


@dataclass(frozen=True, slots=True)
class HubFiles:
    """The text of one language in parquet files of a hub data set, by the split they stand for.

    Files without a split in their path, or of a language that has train files only, are of the
    split None, and their documents are split by hash.
    """

    dataset: str
    revision: str
    paths: tuple[tuple[str | None, tuple[str, ...]], ...]

    @property
    def name(self) -> str:
        return f"hub:{self.dataset}@{self.revision}"

    def records(self) -> Iterable[Record]:
        number = 0
        for split, paths in self.paths:
            read = 0
            for fields in _stream(self.dataset, self.revision, paths):
                number += 1
                read += len(str(fields.get("text") or ""))
                yield Record(number, {"split": split, **fields})
                if read >= HUB_CHARACTERS:
                    break

    def fingerprint(self) -> str:
        return fingerprint([self.dataset, self.revision, self.paths, HUB_CHARACTERS])


def suffix(path: Path) -> str | None:
    """The ending by which a file is read, `.jsonl.gz` for one, or None where there is no reader."""
    return next((ending for ending in READERS if path.name.endswith(ending)), None)


def read(path: Path) -> Iterator[Record]:
    """The records of a file in order. Raises BadCorpus where it is empty or cannot be read."""
    ending = suffix(path)
    assert ending is not None, path
    if path.exists() and not path.is_file():
        raise BadCorpus(f"{path} is not a file. Only files are read.")
    empty = True
    for record in READERS[ending](path):
        empty = False
        yield record
    if empty:
        raise BadCorpus(f"{path} is empty. Put text into it or remove the file.")


def hub_files(place: str, language: Callable[[str], str | None]) -> tuple[str, dict[str, HubFiles]]:
    """What `hub:ID[@REVISION]` holds: `hub:ID@COMMIT` and the files of each language by its tag.

    `language` gives the tag that a name stands for, or None. Raises BadCorpus where the hub does
    not answer or no parquet file's path names a language.
    """
    from huggingface_hub import HfApi

    dataset, _, revision = place.removeprefix("hub:").partition("@")
    try:
        info = HfApi().dataset_info(dataset, revision=revision or None)
    except _hub_errors() as error:
        raise BadCorpus(
            f"the hub has not given {place}: {_first_line(error)}. Check its name and revision, "
            "accept its terms on its page and log in (hf auth login) if it is gated, or use a "
            "local folder."
        ) from error
    assert info.sha is not None
    paths = [each.rfilename for each in info.siblings or [] if each.rfilename.endswith(".parquet")]
    grouped = _by_language(sorted(paths), language)
    if not grouped:
        raise BadCorpus(
            f"{place} has no parquet file whose path names a language (parquet files: "
            f"{listed(paths) or 'none'}). Only parquet is read; save the text to a folder instead."
        )
    files = {tag: HubFiles(dataset, info.sha, paths) for tag, paths in grouped.items()}
    return f"hub:{dataset}@{info.sha}", files


def listed(tags: Iterable[str]) -> str:
    """Names for a message: the first few, and how many more there are."""
    names = list(tags)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _jsonl(path: Path) -> Iterator[Record]:
    for number, line in _lines(path):
        if not line or line.isspace():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadCorpus(
                f"{path}, line {number} is not valid JSON: {_first_line(error)}. "
                "Each line must be one JSON object."
            ) from error
        if not isinstance(fields, dict):
            raise BadCorpus(f"{path}, line {number} is not a JSON object. Write {{'text': ...}}.")
        yield Record(number, cast(dict[str, object], fields))


def _txt(path: Path) -> Iterator[Record]:
    block: list[str] = []
    start = 0
    for number, line in _lines(path):
        if line.strip():
            start = start if block else number
            block.append(line.rstrip("\r\n"))
        elif block:
            yield Record(start, {"text": "\n".join(block)})
            block = []
    if block:
        yield Record(start, {"text": "\n".join(block)})


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(number, row)
    except UnicodeDecodeError as error:
        raise BadCorpus(f"{path} is not valid UTF-8 after row {number}.") from error
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
        raise BadCorpus(
            f"{path} cannot be read as parquet after row {number}: {_first_line(error)}."
        ) from error


READERS: dict[str, Callable[[Path], Iterable[Record]]] = {
    ".jsonl.gz": _jsonl,
    ".jsonl": _jsonl,
    ".txt": _txt,
    ".parquet": _parquet,
}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
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
    except (OSError, EOFError, zlib.error) as error:
        raise BadCorpus(
            f"{path} cannot be read after line {number}: {_first_line(error)}."
        ) from error


def _open(path: Path) -> BinaryIO:
    if path.suffix != ".gz":
        return path.open("rb")
    # GzipFile finds line ends in Python; a buffer around it finds them in C.
    return io.BufferedReader(cast(io.RawIOBase, gzip.open(path)), 1 << 18)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _by_language(
    paths: Sequence[str], language: Callable[[str], str | None]
) -> dict[str, tuple[tuple[str | None, tuple[str, ...]], ...]]:
    grouped: dict[str, dict[str | None, list[str]]] = {}
    for path in paths:
        tag = _hub_language(path, language)
        if tag is not None:
            grouped.setdefault(tag, {}).setdefault(_hub_split(path), []).append(path)
    return {tag: _settle(by_split) for tag, by_split in grouped.items()}


def _settle(
    by_split: Mapping[str | None, list[str]],
) -> tuple[tuple[str | None, tuple[str, ...]], ...]:
    if set(by_split) <= {None, "train"}:
        together = sorted(path for paths in by_split.values() for path in paths)
        return ((None, tuple(together)),)
    return tuple((split, tuple(by_split[split])) for split in sorted(by_split, key=str))


def _hub_language(path: str, language: Callable[[str], str | None]) -> str | None:
    """The language that a path names: its file name or the nearest folder that is one."""
    for part in reversed(PurePosixPath(path).with_suffix("").parts):
        # A configuration may carry a date before its language: 20231101.sw.
        for name in (part, part.rpartition(".")[2]):
            if name.casefold() in NO_LANGUAGES or any(map(str.isdigit, name)):
                continue
            tag = language(name)
            if tag is not None:
                return tag
    return None


def _hub_split(path: str) -> str | None:
    """The split that a path names: train/0.parquet or train-00000-of-00001.parquet."""
    parts = PurePosixPath(path).with_suffix("").parts
    return next(
        (SPLIT_NAMES[word] for part in parts if (word := part.partition("-")[0]) in SPLIT_NAMES),
        None,
    )


def _stream(dataset: str, revision: str, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    from datasets import load_dataset

    files = [_address(dataset, revision, path) for path in paths]
    try:
        yield from load_dataset(
            "parquet", data_files={"train": files}, split="train", streaming=True
        )
    except _hub_errors() as error:
        raise BadCorpus(
            f"hub:{dataset}@{revision} cannot be read: {_first_line(error)}. Try again, or save "
            "its text to a folder."
        ) from error


def _hub_errors() -> tuple[type[Exception], ...]:
    from datasets.exceptions import DatasetsError
    from huggingface_hub import errors
    from pyarrow import ArrowException

    # The hub's library raises what its own web client raises; which client that is has changed.
    web = errors.HTTPError  # pyright: ignore[reportPrivateImportUsage]
    return (OSError, ArrowException, DatasetsError, errors.HFValidationError, web)


def _address(dataset: str, revision: str, path: str) -> str:
    return f"hf://datasets/{dataset}@{revision}/{path}"
