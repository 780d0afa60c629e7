"""The text of a folder: which of its files are of which language, and which are left out and why.

Folders inside are looked into; what their names may say stands in paths.py, what files may be in
records.py. Hidden files and folders, and pages about the data (README, LICENSE), are no text.

Tested in tests/text/test_folders.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from babelpress.errors import BadCorpus
from babelpress.text import records
from babelpress.text.paths import Said, said
from babelpress.text.readers import NO_NAME, Found, LeftOut, LocalFiles, by_split, kinds

DEEPEST = 4  # folders inside one another that are looked into
ABOUT = {
    *("authors", "changelog", "checksums", "citation", "contributing", "copying", "credits"),
    *("dataset_dict", "dataset_info", "dataset_infos", "licence", "license", "licenses"),
    *("manifest", "notice", "readme", "sha256sums", "sources"),
}


@dataclass(slots=True)
class _Files:
    """Files of one language, by their split, and by what says so."""

    said: list[tuple[Path, Said]] = field(default_factory=list)

    def add(self, path: Path, new: Said) -> None:
        """Raise BadCorpus where another file says the same, so that one may be a copy of it."""
        for other, old in self.said:
            together = old.by == new.by and _stem(other) != _stem(path)
            apart = None not in (old.split, new.split) and old.split != new.split
            locales = old.variety != new.variety
            if not (together or apart or locales):
                raise BadCorpus(
                    f"{other} and {path.name} are both {new.tag}. Join them into one file, or move "
                    "one out of the folder."
                )
        self.said.append((path, new))


def folder_files(
    folder: Path, language: Callable[[str], str | None], also: Sequence[str] = ()
) -> Found:
    """The sources of a folder by tag, and what is left out of it.

    `language` gives the tag that a name stands for, or None; `also` are endings of files that are
    read besides those of a corpus. Raises BadCorpus where there is no folder, where no file of it
    is read, or where two files say that they are the same.
    """
    if not folder.is_dir():
        raise BadCorpus(
            f"there is no folder {folder}. A corpus is 'embedded', hub:ID or a folder of {kinds()}."
        )
    files: dict[str, _Files] = {}
    left_out: list[LeftOut] = []
    for path, why in _walk(folder, 0, set()):
        name = path.relative_to(folder).as_posix()
        ending = records.ending(path.name, also)
        found = said(name[: -len(ending)], language) if ending and not why else None
        if found is not None:
            files.setdefault(found.tag, _Files()).add(path, found)
        elif why or ending is None:
            left_out.append(LeftOut(name, why or f"is not read: {_kind(path)}"))
        else:
            left_out.append(LeftOut(name, NO_NAME, _named(name[: -len(ending)])))
    if not files:
        raise BadCorpus(_nothing(folder, left_out))
    return Found({tag: _source(each) for tag, each in files.items()}, left_out, _several(files))


def _walk(folder: Path, depth: int, above: set[Path]) -> Iterator[tuple[Path, str]]:
    """Files of a folder and of those in it, in order of names, and why one is not looked into."""
    here = above | {folder.resolve()}
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield folder, f"cannot be opened: {error.strerror}"
        return
    for path in entries:
        if path.name.startswith((".", "__")):
            continue
        if not path.is_dir():
            if path.name.partition(".")[0].casefold() not in ABOUT:
                yield path, "" if path.exists() else "is a link that leads nowhere"
        elif depth == DEEPEST:
            yield path, f"is a folder {depth + 1} deep, and {DEEPEST} are looked into"
        elif path.resolve() in here:
            yield path, "is a link to a folder that it lies in"
        else:
            yield from _walk(path, depth + 1, here)


def _source(files: _Files) -> LocalFiles:
    grouped: dict[str | None, list[Path]] = {}
    for path, each in files.said:
        grouped.setdefault(each.split, []).append(path)
    return LocalFiles(by_split(grouped))


def _several(files: Mapping[str, _Files]) -> dict[str, tuple[str, ...]]:
    """The names of languages that go by more than one."""
    names = {tag: dict.fromkeys(each.name for _, each in of.said) for tag, of in files.items()}
    return {tag: tuple(found) for tag, found in names.items() if len(found) > 1}


def _named(stem: str) -> str:
    """The part of a path that should be a language: the file's name, unless that is a split."""
    return next((part for part in reversed(PurePosixPath(stem).parts) if part), stem)


def _stem(path: Path) -> str:
    return str(path)[: -len(records.ending(path.name) or "")]


def _kind(path: Path) -> str:
    return f"no reader of {path.suffix.casefold()}" if path.suffix else "it has no ending"


def _nothing(folder: Path, left_out: list[LeftOut]) -> str:
    words = f"{folder} holds no text. It needs files named {kinds()}."
    return f"{words} Not read and {LeftOut.words(left_out)}" if left_out else words
