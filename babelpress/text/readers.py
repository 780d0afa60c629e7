"""Where the text of a language comes from: files of a folder, or of a data set on the hub.

LocalFiles are the files of one language by the split that their paths stand for.
HubFiles are the parquet files of one language in a data set on the hub, pinned to one commit.

Files without a split in their path, or of a language that has train files only, are of the split
None, and their documents are split by hash. What is found beside them is left out with its reason.

Tested in tests/text/test_corpus.py.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

from babelpress.errors import BabelpressError, BadCorpus
from babelpress.system.files import fingerprint, sha256_file
from babelpress.text import languages, records
from babelpress.text.paths import said
from babelpress.text.records import Record, first_line, text_of

HUGGINGFACE = b"huggingface"  # where a parquet file has what `datasets` knows of its columns
HUB_CHARACTERS = 8_000_000  # read of a language and file split from the hub, from its beginning
LISTED = 12
EXPLAINED = 3  # of what is left out by their names, with near misses
NO_NAME = "is not named after a language"

File = TypeVar("File", str, Path)
BySplit = tuple[tuple[str | None, tuple[File, ...]], ...]


class Source(Protocol):
    """Where the text of one language comes from."""

    def records(self) -> Iterable[Record]: ...
    def fingerprint(self) -> str: ...
    def check(self) -> None:
        """Raises BadCorpus for what can be seen to be damaged without reading it."""
        ...


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or folder that is not read: its path in the corpus, and why.

    `name` is what should have named a language, where that is why.
    """

    path: str
    why: str
    name: str = ""

    @staticmethod
    def says(name: str, left_out: Sequence["LeftOut"]) -> tuple[str, ...]:
        """The same with what it lay in before it; none where all is read."""
        words = LeftOut.words(left_out)
        return (f"{name}: {words}",) if words else ()

    @staticmethod
    def words(left_out: Sequence["LeftOut"]) -> str:
        """A sentence for the user: what is left out and why; empty for nothing."""
        if not left_out:
            return ""
        # Looking for near misses among thousands of names takes its time.
        said = [
            f"{each.path} {each.reason() if place < EXPLAINED else each.why}"
            for place, each in enumerate(left_out[:LISTED])
        ]
        more = f"; and {len(left_out) - LISTED} more" if len(left_out) > LISTED else ""
        return f"left out: {'; '.join(said)}{more}."

    def reason(self) -> str:
        """Why it is left out, with what its name may have been meant for."""
        if self.name:
            try:
                languages.find(self.name)
            except BabelpressError as error:
                return f"{self.why}: {str(error).removesuffix('.')}"
        return self.why


@dataclass(frozen=True, slots=True)
class Found:
    """The sources of a corpus by tag, what is left out, and the languages of several names."""

    sources: Mapping[str, Source]
    left_out: Sequence[LeftOut] = ()
    several: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """The text of one language in files, by the split they stand for."""

    files: BySplit[Path]

    def records(self) -> Iterator[Record]:
        for split, paths in self.files:
            for path in paths:
                for each in records.read(path):
                    yield each._replace(fields=_in_split(each.fields, split)) if split else each

    def fingerprint(self) -> str:
        hashes = [[split, *map(sha256_file, paths)] for split, paths in self.files]
        # A language in one file has had the hash of its bytes for a fingerprint from the first.
        alone = len(hashes) == 1 and len(hashes[0]) == 2 and hashes[0][0] is None
        return str(hashes[0][1]) if alone else fingerprint(hashes)

    def check(self) -> None:
        for _, paths in self.files:
            for path in paths:
                records.check(path)

    def classes(self, column: str) -> tuple[str, ...]:
        """The names of numbers in a column of parquet files, where these say them."""
        from pyarrow import parquet

        names = [p for _, paths in self.files for p in paths if p.suffix.casefold() == ".parquet"]
        return _classes(_features_in(parquet.read_schema(names[0])), column) if names else ()


@dataclass(frozen=True, slots=True)
class HubFiles:
    """The text of one language in parquet files of a hub data set, by the split they stand for."""

    dataset: str
    revision: str
    paths: BySplit[str]

    def records(self) -> Iterator[Record]:
        place = f"hub:{self.dataset}@{self.revision}"
        number = 0
        for split, paths in self.paths:
            read = 0
            for fields in _stream(self.dataset, self.revision, paths):
                number += 1
                read += len(str(text_of(fields) or ""))
                yield Record(place, number, _in_split(fields, split))
                if read >= HUB_CHARACTERS:
                    break

    def fingerprint(self) -> str:
        return fingerprint([self.dataset, self.revision, self.paths, HUB_CHARACTERS])

    def check(self) -> None:
        """Nothing of it is here to be looked at."""

    def classes(self, column: str) -> tuple[str, ...]:
        """The names of numbers in a column, where the files say them."""
        paths = [path for _, some in self.paths for path in some]
        return _classes(_loaded(self.dataset, self.revision, paths).features, column)


def hub_files(place: str, language: Callable[[str], str | None]) -> tuple[str, Found]:
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
            f"the hub has not given {place}: {first_line(error)}. Check its name and revision, "
            "accept its terms on its page and log in (hf auth login) if it is gated, or use a "
            "local folder."
        ) from error
    assert info.sha is not None
    names = sorted(each.rfilename for each in info.siblings or [])
    paths = [name for name in names if name.endswith(".parquet")]
    grouped = _by_language(paths, language)
    if not grouped:
        raise BadCorpus(
            f"{place} has no parquet file whose path names a language (parquet files: "
            f"{listed(paths) or 'none'}). Only parquet is read; save the text to a folder instead."
        )
    files = {tag: HubFiles(dataset, info.sha, each) for tag, each in grouped.items()}
    found = Found(files, _left_on_hub(names, language), _several(paths, language))
    return f"hub:{dataset}@{info.sha}", found


def of_split(
    source: "LocalFiles | HubFiles",
    folder: Path | None,
    language: Callable[[str], str | None],
    split: str,
    *,
    unsplit: bool = False,
    also: Sequence[str] = (),
) -> "LocalFiles | HubFiles":
    """The same with only the files of one split; with `unsplit`, else those that name none.

    `folder` is where local files lie, `also` what `folder_files` was given. Whether a file is train
    is seen in its path: a source with no test split calls it unsplit.
    """
    if isinstance(source, HubFiles):
        names = {path: _bare(path) for _, paths in source.paths for path in paths}
        return replace(source, paths=((None, tuple(_chosen(names, language, split, unsplit))),))
    assert folder is not None
    here = {
        path: _bare(path.relative_to(folder).as_posix(), also)
        for _, some in source.files
        for path in some
    }
    return replace(source, files=((None, tuple(_chosen(here, language, split, unsplit))),))


def _chosen(
    names: Mapping[File, str], language: Callable[[str], str | None], split: str, unsplit: bool
) -> list[File]:
    """Those files whose path names the split, else, where asked, those that name none."""
    splits: dict[str | None, list[File]] = {}
    for path, name in names.items():
        found = said(name, language)
        splits.setdefault(found.split if found else None, []).append(path)
    return splits.get(split) or (splits.get(None, []) if unsplit else [])


def listed(tags: Iterable[str]) -> str:
    """Names for a message: the first few, and how many more there are."""
    names = list(tags)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def kinds() -> str:
    """How files of a folder are to be named, for a message."""
    packed = ", ".join(records.PACKED)
    return f"<language>{', '.join(records.READERS)} (all but .parquet also with {packed})"


def by_split(grouped: Mapping[str | None, list[File]]) -> BySplit[File]:
    """Files in their order by split; all of the split None where there are train files only."""
    if set(grouped) <= {None, "train"}:
        return ((None, tuple(sorted(path for paths in grouped.values() for path in paths))),)
    return tuple((split, tuple(grouped[split])) for split in sorted(grouped, key=str))


def _in_split(fields: dict[str, object], split: str | None) -> dict[str, object]:
    """A record with the split of its file, unless it says its own."""
    return fields if split is None or fields.get("split") else {**fields, "split": split}


def _by_language(
    paths: Sequence[str], language: Callable[[str], str | None]
) -> dict[str, BySplit[str]]:
    grouped: dict[str, dict[str | None, list[str]]] = {}
    for path in paths:
        found = said(_bare(path), language)
        if found is not None:
            grouped.setdefault(found.tag, {}).setdefault(found.split, []).append(path)
    return {tag: by_split(each) for tag, each in grouped.items()}


def _left_on_hub(paths: Sequence[str], language: Callable[[str], str | None]) -> list[LeftOut]:
    """Folders (files, at the top) of text that no language is known of, or that is no parquet."""
    found: dict[str, LeftOut] = {}
    for path in paths:
        parquet, known = path.endswith(".parquet"), said(_bare(path), language)
        if records.ending(path) is None or (parquet and known) or not (parquet or known):
            continue
        parent = PurePosixPath(path).parent.as_posix()
        where = path if parent == "." else parent
        why = "is no parquet, which alone is read of the hub" if known else NO_NAME
        found.setdefault(where, LeftOut(where, why))
    return list(found.values())


def _several(
    paths: Sequence[str], language: Callable[[str], str | None]
) -> dict[str, tuple[str, ...]]:
    names: dict[str, dict[str, None]] = {}
    for found in (said(_bare(path), language) for path in paths):
        if found is not None:
            names.setdefault(found.tag, {})[found.name] = None
    return {tag: tuple(each) for tag, each in names.items() if len(each) > 1}


def _bare(path: str, also: Sequence[str] = ()) -> str:
    """A path without its ending."""
    return path[: len(path) - len(records.ending(path, also) or "")]


def _loaded(dataset: str, revision: str, paths: Sequence[str]) -> Any:
    from datasets import load_dataset

    files = [_address(dataset, revision, path) for path in paths]
    try:
        return load_dataset("parquet", data_files={"train": files}, split="train", streaming=True)
    except _hub_errors() as error:
        raise _unread(dataset, revision, error) from error


def _stream(dataset: str, revision: str, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        yield from _loaded(dataset, revision, paths)
    except _hub_errors() as error:
        raise _unread(dataset, revision, error) from error


def _unread(dataset: str, revision: str, error: Exception) -> BadCorpus:
    return BadCorpus(
        f"hub:{dataset}@{revision} cannot be read: {first_line(error)}. Try again, or save its "
        "text to a folder."
    )


def _hub_errors() -> tuple[type[Exception], ...]:
    from datasets.exceptions import DatasetsError
    from huggingface_hub import errors
    from pyarrow import ArrowException

    # The hub's library raises what its own web client raises; which client that is has changed.
    web = errors.HTTPError  # pyright: ignore[reportPrivateImportUsage]
    return (OSError, ArrowException, DatasetsError, errors.HFValidationError, web)


def _address(dataset: str, revision: str, path: str) -> str:
    return f"hf://datasets/{dataset}@{revision}/{path}"


def _features_in(schema: Any) -> Any:
    """What `datasets` wrote of the columns of a parquet file; None where it wrote nothing."""
    from datasets import Features

    there = HUGGINGFACE in (schema.metadata or {})
    return Features.from_arrow_schema(schema) if there else None


def _classes(features: Any, column: str) -> tuple[str, ...]:
    """The names of a column of classes, or of lists of them; nothing where it is none."""
    found = (features or {}).get(column)
    found = getattr(found, "feature", found)
    return tuple(getattr(found, "names", None) or ())
