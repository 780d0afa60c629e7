"""Languages: one row each in data/languages.csv, found by any name that a corpus or a model uses.

The canonical tag is ISO 639-3 with an ISO 15924 script: the FLORES-200 code where one exists
(zho_Hans, swh_Latn), else FineWeb-2's. A romanised language (hin_Latn) is a language of its own.

A name is looked up without regard to case, `-`, `_` and blanks; a tag goes before a code or other
alias, that before an English name, that before the language's own name. So `dan` is Danish,
although another language is called Dan.

What a wide code means: its FLORES-200 member (zh zho_Hans, no nob_Latn, sw swh_Latn, tl and fil
tgl_Latn, ar arb_Arab, qu quy_Latn). Without a script it is the script of FLORES-200, else the one
with most text in FineWeb-2 (sr is srp_Cyrl; write sr-Latn for the other). A name with no such
member (sh, rom, Sorbian) is ambiguous, which is an error that lists the candidates.

Resource level, from the UTF-8 bytes of the language in FineWeb-2 (data/distributions):
  high   at least 100 GB (10^11 bytes); English, which FineWeb-2 leaves out, is high
  mid    at least 10 GB
  low    less, or not in FineWeb-2
Traditional Chinese and Dari are counted there with Simplified Chinese and Persian, and take
their levels.

Families are the wide ones (niger-congo with Mande and Ubangian; creole and constructed stand for
families too; isolate has no relatives); an empty autonym or family is not recorded.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from babelpress.errors import AmbiguousName, BadSetting, UnknownName
from babelpress.system.files import DATA

COLUMNS = ("tag", "name", "autonym", "script", "family", "resource", "aliases")
_TABLE = DATA / "languages.csv"


@dataclass(frozen=True, slots=True)
class Language:
    """One row. `script` is ISO 15924; `resource` is high, mid or low; empty means not recorded."""

    tag: str
    name: str
    autonym: str
    script: str
    family: str
    resource: str
    aliases: tuple[str, ...]


@cache
def all_languages() -> tuple[Language, ...]:
    """Every language, ordered by tag."""
    with _TABLE.open(encoding="utf-8", newline="") as table:
        return tuple(_language(row) for row in csv.DictReader(table))


def find(name: str) -> Language:
    """The language that answers to `name`: tag, code, any alias, English name or autonym.

    Raises AmbiguousName with the candidates, or UnknownName with near misses.
    """
    folded = _fold(name)
    for names in _index():
        if found := names.get(folded):
            if len(found) > 1:
                raise AmbiguousName("language", name, (language.tag for language in found))
            return found[0]
    raise UnknownName("language", name, _every_name(), "babelpress/data/languages.csv")


def select(names: str | Iterable[str], among: Iterable[str] | None = None) -> list[str]:
    """Tags of languages and groups, in the order asked, each once.

    `names` is a list, or one string with commas. A group (see `groups`) stands for its members,
    or for those of `among` where given, in that order. A word that is both is the group: `latin`
    is the script; write `la` for the language. A group without members is a BadSetting.
    """
    asked = names.split(",") if isinstance(names, str) else names
    pool = all_languages() if among is None else [find(name) for name in among]
    tags = (tag for name in asked for tag in _members(name.strip(), pool))
    return list(dict.fromkeys(tags))


def groups() -> list[str]:
    """Names of groups that `select` knows: by script, resource level and family."""
    return sorted(_groups().values())


def _members(name: str, pool: Sequence[Language]) -> list[str]:
    group = _groups().get(_fold(name))
    if group is None:
        return [find(name).tag]
    if tags := [language.tag for language in pool if group in _groups_of(language)]:
        return tags
    raise BadSetting(
        f"none of these languages is in the group '{group}'. "
        f"They are: {', '.join(language.tag for language in pool)}. Leave the group out."
    )


@cache
def _groups() -> dict[str, str]:
    """Folded name to group. A script whose code is also a language (Thai, Lisu) is no group."""
    latin = {"latin", "non-latin"}
    found = {group for language in all_languages() for group in _groups_of(language)}
    known = [group for group in found if group in latin or not _is_language(group)]
    return {_fold(group): group for group in known}


def _groups_of(language: Language) -> set[str]:
    latin = "latin" if language.script == "Latn" else "non-latin"
    return {latin, f"{language.resource}-resource", language.family, language.script} - {""}


def _is_language(name: str) -> bool:
    return any(_fold(name) in names for names in _index())


@cache
def _index() -> tuple[dict[str, list[Language]], ...]:
    """Folded name to languages; one table per rank: tags, aliases, English names, autonyms."""
    ranks: tuple[dict[str, list[Language]], ...] = tuple(defaultdict(list) for _ in range(4))
    for language in all_languages():
        for names, rank in zip(_names(language), ranks, strict=True):
            for name in {_fold(name) for name in names if name}:
                rank[name].append(language)
    return tuple(dict(rank) for rank in ranks)


def _names(language: Language) -> tuple[tuple[str, ...], ...]:
    return (language.tag,), language.aliases, (language.name,), (language.autonym,)


def _every_name() -> list[str]:
    return [name for row in all_languages() for name in (row.tag, row.name, *row.aliases)]


def _fold(name: str) -> str:
    return name.strip().casefold().replace("-", "_").replace(" ", "_")


def _language(row: dict[str, str]) -> Language:
    *plain, aliases = (row[column] for column in COLUMNS)
    return Language(*plain, aliases=tuple(filter(None, aliases.split("|"))))
