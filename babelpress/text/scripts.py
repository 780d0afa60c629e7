"""Which scripts a text is written in, counted by character.

A character's script is read from its Unicode name (LATIN SMALL LETTER A), so there is no table of
code points to keep. Punctuation, digits and combining marks that scripts share count nowhere.
Simplified and traditional Chinese are one script here: their characters overlap too much to tell.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable

NAMED = {
    "ADLAM": "Adlm",
    "ANATOLIAN HIEROGLYPH": "Hluw",
    "ARABIC": "Arab",
    "ARMENIAN": "Armn",
    "BALINESE": "Bali",
    "BAMUM": "Bamu",
    "BATAK": "Batk",
    "BENGALI": "Beng",
    "BOPOMOFO": "Bopo",
    "BRAILLE": "Brai",
    "BUGINESE": "Bugi",
    "CANADIAN SYLLABICS": "Cans",
    "CHAKMA": "Cakm",
    "CHAM": "Cham",
    "CHEROKEE": "Cher",
    "CJK": "Hani",
    "COPTIC": "Copt",
    "CUNEIFORM": "Xsux",
    "CYRILLIC": "Cyrl",
    "DEVANAGARI": "Deva",
    "EGYPTIAN HIEROGLYPH": "Egyp",
    "ETHIOPIC": "Ethi",
    "GEORGIAN": "Geor",
    "GOTHIC": "Goth",
    "GREEK": "Grek",
    "GUJARATI": "Gujr",
    "GURMUKHI": "Guru",
    "HANGUL": "Hang",
    "HANIFI ROHINGYA": "Rohg",
    "HEBREW": "Hebr",
    "HIRAGANA": "Hira",
    "IDEOGRAPHIC": "Hani",
    "JAVANESE": "Java",
    "KANNADA": "Knda",
    "KATAKANA": "Kana",
    "KAYAH LI": "Kali",
    "KHMER": "Khmr",
    "LAO": "Laoo",
    "LATIN": "Latn",
    "LEPCHA": "Lepc",
    "LIMBU": "Limb",
    "LINEAR A": "Lina",
    "LISU": "Lisu",
    "MALAYALAM": "Mlym",
    "MANDAIC": "Mand",
    "MEETEI MAYEK": "Mtei",
    "MONGOLIAN": "Mong",
    "MYANMAR": "Mymr",
    "NEW TAI": "Talu",
    "NEWA": "Newa",
    "NKO": "Nkoo",
    "OL CHIKI": "Olck",
    "OLD HUNGARIAN": "Hung",
    "ORIYA": "Orya",
    "OSAGE": "Osge",
    "SAMARITAN": "Samr",
    "SAURASHTRA": "Saur",
    "SHAVIAN": "Shaw",
    "SIGNWRITING": "Sgnw",
    "SINHALA": "Sinh",
    "SUNDANESE": "Sund",
    "SYLOTI NAGRI": "Sylo",
    "SYRIAC": "Syrc",
    "TAI LE": "Tale",
    "TAI THAM": "Lana",
    "TAI VIET": "Tavt",
    "TAMIL": "Taml",
    "TANGUT": "Tang",
    "TELUGU": "Telu",
    "THAANA": "Thaa",
    "THAI": "Thai",
    "TIBETAN": "Tibt",
    "TIFINAGH": "Tfng",
    "VAI": "Vaii",
    "YI": "Yiii",
}
# Scripts of ISO 15924 that stand for several at once.
COMPOSITE = {
    "Aran": frozenset({"Arab"}),
    "Hang": frozenset({"Hang", "Hani"}),
    "Hani": frozenset({"Hani", "Bopo"}),
    "Hans": frozenset({"Hani"}),
    "Hant": frozenset({"Hani", "Bopo"}),
    "Hrkt": frozenset({"Hira", "Kana"}),
    "Jpan": frozenset({"Hani", "Hira", "Kana"}),
    "Kore": frozenset({"Hang", "Hani"}),
}


def counts(texts: Iterable[str]) -> Counter[str]:
    """How many characters of each script (ISO 15924) the texts have."""
    characters: Counter[str] = Counter()
    for text in texts:
        characters.update(text)
    scripts: Counter[str] = Counter()
    for character, count in characters.items():
        script = of(character)
        if script is not None:
            scripts[script] += count
    return scripts


def share(expected: str, found: Counter[str]) -> float | None:
    """The share of `found` that is in the expected script (Hans, Jpan, Kore: any of their parts).

    None where it cannot be told: no character of a known script, or a script that is not known.
    """
    parts = COMPOSITE.get(expected, frozenset({expected}))
    if not found.total() or not parts & set(NAMED.values()):
        return None
    return sum(found[part] for part in parts) / found.total()


def of(character: str) -> str | None:
    """The script (ISO 15924) of a character; None where it is of none, or of several."""
    name = unicodedata.name(character, "")
    words = name.removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ").replace("-", " ").split(" ")
    return NAMED.get(" ".join(words[:2]), NAMED.get(words[0]))
