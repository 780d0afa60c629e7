"""Names of locales in their parts: `en-US`, `yue_hant_hk`, `es-419`, `sr_RS@latin`.

FLEURS, MASSIVE, Common Voice and systems name languages so: language[-script][-region][-variant]
(BCP 47), with `_` for `-`, in any case. Scripts, regions and variants are checked against the
registry, so that `en_train` or `sw-new` is no locale.

A region says which script is meant where a language has several: Chinese of Taiwan is in Hant,
Punjabi of Pakistan in Arab. Which those are comes from CLDR's likely subtags (langcodes).
"""

import re
from dataclasses import dataclass

# What is the same for whoever reads: a table has one of the two.
SAME_SCRIPT = {"Kore": "Hang", "Aran": "Arab", "Latf": "Latn", "Latg": "Latn"}
# CLDR takes `ku` for Kurmanji, in Latin script, wherever it is spoken.
ALSO_LIKELY = {("ku", "IQ"): "Arab", ("ku", "IR"): "Arab"}
MODIFIERS = {"latin": "Latn", "cyrillic": "Cyrl", "arabic": "Arab", "devanagari": "Deva"}
SHAPE = re.compile(
    r"(?P<tag>[a-z]{2,3}(?:[-_][a-z0-9]+)*)(?:\.utf-?8)?(?:@(?P<modifier>[a-z]+))?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Locale:
    """The parts of a name; empty where it has none. `script` is ISO 15924, as written."""

    language: str
    script: str = ""
    region: str = ""
    variants: tuple[str, ...] = ()

    @property
    def variety(self) -> str:
        """What it says beside language and script: `US`, `valencia`."""
        return "-".join(filter(None, (self.region, *self.variants)))

    def asks_script(self) -> str:
        """The script that is written in it, else the one that its region alone stands for."""
        if self.script or not self.region:
            return SAME_SCRIPT.get(self.script, self.script)
        likely = _likely_script(self.language, self.region)
        return likely if likely != _likely_script(self.language, "") else ""

    def codes(self) -> tuple[str, ...]:
        """The language's code as written, and its shortest one."""
        from langcodes import Language

        shortest = Language.get(self.language).language or self.language
        return tuple(dict.fromkeys((self.language, shortest)))


def parse(name: str) -> Locale | None:
    """The parts of a name, or None where it is not one of a locale."""
    from langcodes import Language
    from langcodes.tag_parser import LanguageTagError

    shape = SHAPE.fullmatch(name.strip())
    if shape is None:
        return None
    modifier = (shape["modifier"] or "").lower()
    tag = re.sub(r"[-_]posix$", "", shape["tag"], flags=re.IGNORECASE)
    try:
        found = Language.get(tag, normalize=False)
    except LanguageTagError:
        return None
    parts = {
        "script": found.script or MODIFIERS.get(modifier),
        "territory": found.territory,
        "variants": found.variants,
    }
    if found.extlangs or not found.language or len(found.language) > 3:
        return None
    if not Language.make(language="und", **parts).is_valid():
        return None
    return Locale(
        found.language, parts["script"] or "", found.territory or "", tuple(found.variants or ())
    )


def _likely_script(language: str, region: str) -> str:
    from langcodes import Language

    short = Language.get(language).language
    known = ALSO_LIKELY.get((short or "", region))
    return known or Language.make(language=short, territory=region or None).maximize().script or ""
