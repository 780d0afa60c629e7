"""What the path of a file says of the text in it: which language, which split.

Folders and data sets on the hub are laid out alike, and all of these are read:

sw.jsonl  sw-KE.txt  20231101.sw.csv            a language, by any of its names
sw.train.jsonl  test_sw.tsv                     with a split before or after it
sw/train.jsonl  data/sw_ke/dev/0.parquet        a folder for a language
train/sw.jsonl                                  a folder for a split
sw-00000-of-00002.parquet                       one of several files

The name that is nearest to the file decides.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from babelpress.text import locales

SPLITS = ("train", "valid", "test")
SPLIT_NAMES = {
    **{split: split for split in SPLITS},
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "devtest": "test",
}
# Folders of data sets, some of which would do as the name of a language.
NO_LANGUAGES = {
    *(*SPLIT_NAMES, "all", "data", "default", "main", "raw", "text"),
    *("bin", "doc", "lib", "log", "old", "out", "src", "tar", "tmp"),
}
SHARD = re.compile(r"-\d+-of-\d+(-\w+)?$")
_SPLIT = "|".join(SPLIT_NAMES)
WORDS = re.compile(
    rf"(?:(?P<first>{_SPLIT})(?:[-_.]|$))?(?P<rest>.*?)(?:(?:^|[-_.])(?P<last>{_SPLIT}))?",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a path says: the tag of its language, and its split where it names one.

    `name` is how it says the language, and `variety` what that says beside the language and its
    script, as US of en-US; `by` is the part of the path, up to and with that name:
    the folder whose files belong together, or the file.
    """

    tag: str
    split: str | None
    name: str
    by: str

    @property
    def variety(self) -> str:
        locale = locales.parse(self.name)
        return locale.variety if locale else ""


def said(path: str, language: Callable[[str], str | None]) -> Said | None:
    """What a path without its ending says; None where no part of it names a language.

    `language` gives the tag that a name stands for, or None.
    """
    parts = PurePosixPath(path).parts
    for place in reversed(range(len(parts))):
        name = _language_in(parts[place], language)
        if name is not None:
            tag = language(name)
            assert tag is not None
            by = PurePosixPath(*parts[:place], SHARD.sub("", parts[place]))
            # A folder and a file of one name are two things.
            return Said(tag, _split_of(path), name, f"{by}{'/' * (place < len(parts) - 1)}")
    return None


def _split_of(path: str) -> str | None:
    """The split that a path names, nearest to the file."""
    for part in reversed(PurePosixPath(path).parts):
        found = _words(part)
        if word := found["first"] or found["last"]:
            return SPLIT_NAMES[word.casefold()]
    return None


def _language_in(part: str, language: Callable[[str], str | None]) -> str | None:
    """The words of a part of a path that name a language."""
    rest = _words(part)["rest"]
    # A configuration may carry a date before its language: 20231101.sw.
    for name in (rest, rest.rpartition(".")[2]):
        if name and name.casefold() not in NO_LANGUAGES and language(name) is not None:
            return name
    return None


def _words(part: str) -> re.Match[str]:
    found = WORDS.fullmatch(SHARD.sub("", part))
    assert found is not None  # the rest takes whatever there is
    return found
