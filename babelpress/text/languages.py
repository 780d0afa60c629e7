"""Languages: one row each in data/languages.csv, found by any name that a corpus or a model uses.

The canonical tag is ISO 639-3 with an ISO 15924 script: the FLORES-200 code where one exists
(zho_Hans, swh_Latn), else FineWeb-2's. A romanised language (hin_Latn) is a language of its own.

A name is looked up without regard to case, `-`, `_`, blanks and Unicode's ways to write the same
letter; a tag goes before a code or other alias, that before an English name, that before the
language's own name. So `dan` is Danish, although another language is called Dan. What is none of
these may be a locale (locales.py): `sw-KE` is Swahili, `zh_hant_hk` Traditional Chinese. A script
that it asks for, by itself or by its region, is never exchanged for another.

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

What is no language, such as source code, is the row zxx, as in ISO 639; its script is not known.

A direction of translation, `en>sw`, answers as a language does: its tag is eng_Latn>swh_Latn, its
name English to Swahili, its script and family those of what is written (of what is read, where that
is English), its resource level the lower of both.

Families are the wide ones (niger-congo with Mande and Ubangian; creole and constructed stand for
families too; isolate has no relatives); an empty autonym or family is not recorded.
"""

import csv
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from babelpress.errors import AmbiguousName, BadSetting, UnknownName
from babelpress.system.files import DATA
from babelpress.text import locales

COLUMNS = ("tag", "name", "autonym", "script", "family", "resource", "aliases")
_TABLE = DATA / "languages.csv"
INTO = ">"  # between the languages of a direction
ENGLISH = "eng_Latn"
LEVELS = ("low", "mid", "high")


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
    """The language that answers to `name`: tag, code, any alias, English name, autonym or locale.

    A name with a `>` is a direction. Raises AmbiguousName with the candidates, or UnknownName with
    near misses.
    """
    if INTO in name:
        source, _, target = name.partition(INTO)
        return _direction(find(source.strip()), find(target.strip()))
    found = _answering(name)
    if len(found) > 1:
        raise AmbiguousName("language", name, (language.tag for language in found))
    if not found:
        raise _unknown(name)
    return found[0]


def known(name: str) -> Language | None:
    """The language that answers to `name` alone, else None: `find` for what may be no language."""
    found = _answering(name)
    return found[0] if len(found) == 1 else None


def sides(tag: str) -> tuple[str, ...]:
    """The languages of a direction, source first; of a language itself."""
    return tuple(tag.split(INTO))


def both_ways(tags: Iterable[str]) -> list[str]:
    """Every language out of English and into it."""
    others = [tag for tag in tags if tag != ENGLISH]
    return [way for tag in others for way in (f"{ENGLISH}{INTO}{tag}", f"{tag}{INTO}{ENGLISH}")]


def select(names: str | Iterable[str], among: Iterable[str] | None = None) -> list[str]:
    """Tags of languages and groups, in the order asked, each once.

    `names` is a list, or one string with commas. A group (see `groups`) stands for its members,
    or for those of `among` where given, in that order. A word that is both is the group: `latin`
    is the script; write `la` for the language. A group without members is a BadSetting. Where
    `among` are directions, a language stands for those of them that it is a side of.
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
        if INTO not in name and not _answering(name):
            raise _unknown(name, groups())
        own = find(name).tag
        ways = [each.tag for each in pool if INTO in each.tag and own in sides(each.tag)]
        return ways or [own]
    if tags := [language.tag for language in pool if group in _groups_of(language)]:
        return tags
    raise BadSetting(
        f"none of these languages is in the group '{group}'. "
        f"They are: {', '.join(language.tag for language in pool)}. Leave the group out."
    )


def _direction(source: Language, target: Language) -> Language:
    if source.tag == target.tag:
        raise BadSetting(f"{source.tag}{INTO}{target.tag} is no direction: name two languages.")
    if INTO in source.tag + target.tag:
        raise BadSetting(f"{source.tag}{INTO}{target.tag} has more than two languages.")
    level = min(LEVELS.index(each.resource) for each in (source, target))
    return Language(
        f"{source.tag}{INTO}{target.tag}",
        f"{source.name} to {target.name}",
        "",
        target.script,
        source.family if target.tag == ENGLISH else target.family,
        LEVELS[level],
        (),
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


@lru_cache(maxsize=4096)
def _answering(name: str) -> tuple[Language, ...]:
    """All languages of the first rank that has the name, else those of the locale that it is."""
    folded = _fold(name)
    for names in _index():
        if found := names.get(folded):
            return tuple(found)
    locale = locales.parse(name)
    return _of_locale(locale) if locale else ()


def _of_locale(locale: locales.Locale) -> tuple[Language, ...]:
    """Languages of a locale, in the script that it asks for; none where there is none in that."""
    script = locale.asks_script()
    if not script:
        return _of_code(locale)
    for names in _index()[:2]:
        for code in locale.codes():
            if found := names.get(_fold(f"{code}_{script}")):
                return tuple(found)
    codes = {language.tag[:3] for language in _of_code(locale)}
    return tuple(row for row in all_languages() if row.tag[:3] in codes and row.script == script)


def _of_code(locale: locales.Locale) -> tuple[Language, ...]:
    """The languages of a locale's code alone. Names do not count: Ama is not what `ama` means."""
    for code in locale.codes():
        # Codes are written small in the table, and names are not.
        if found := tuple(row for row in _index()[1].get(code, ()) if code in row.aliases):
            return found
    return tuple(row for row in all_languages() if row.tag[:3] == locale.language)


def _unknown(name: str, more: Iterable[str] = ()) -> UnknownName:
    """Why nothing answers to a name: near misses, or the scripts that its language is in."""
    where = "babelpress/data/languages.csv"
    locale = locales.parse(name)
    if locale and (there := _of_code(locale)):
        codes = {language.tag[:3] for language in there}
        tags = [language.tag for language in all_languages() if language.tag[:3] in codes]
        how = f"{locale.language} is there as {', '.join(tags)}, not in {locale.asks_script()}."
        return UnknownName("language", name, tags, where, how)
    how = "Write a code (sw, swh), a tag (swh_Latn), an English name or a locale (sw-KE)."
    names = [each for row in all_languages() for each in (row.tag, row.name, *row.aliases)]
    return UnknownName("language", name, [*names, *more], where, how)


def _fold(name: str) -> str:
    whole = unicodedata.normalize("NFC", name.strip())
    return whole.casefold().replace("-", "_").replace(" ", "_")


def _language(row: dict[str, str]) -> Language:
    *plain, aliases = (row[column] for column in COLUMNS)
    return Language(*plain, aliases=tuple(filter(None, aliases.split("|"))))
