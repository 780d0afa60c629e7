"""Texts as people really type them: with slips, without diacritics, in one case.

    typos       letters that are swapped, dropped, doubled, or taken for another of the same script
                and text; a letter is all of a grapheme (a consonant with its vowel sign), so that
                no mark is left without its base. No keyboard is assumed
    diacritics  without the marks that writers drop: see `plain`
    lower       small letters only, of scripts that have two cases; upper: capitals only

Blanks stay as they are, and so do digits and punctuation: a text keeps its words. What is drawn
hangs on the seed, the kind, the language and the name of the document alone.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from babelpress.errors import BadSetting
from babelpress.text import languages, scripts

TYPOS, DIACRITICS, LOWER, UPPER = KINDS = ("typos", "diacritics", "lower", "upper")
CASED = frozenset({"Latn", "Cyrl", "Grek", "Armn", "Copt"})  # Georgian has no capitals in use
MARKED = frozenset({"Latn", "Cyrl", "Grek", "Arab", "Hebr", "Deva"})
MARKS_GO = MARKED - {"Deva"}  # signs of vowels are no diacritics: without them a word is another
NUKTA, SOUNDS = "\u093c", "कखगजफ"  # the dot, and the letters on which writers of Hindi drop it
LETTERS = {"ё": "е", "Ё": "Е"}  # written with and without, as a habit of the writer
DOTTED = frozenset({"tur", "aze", "azj", "crh", "gag", "tat", "kaz"})  # i and ı are two letters
JOINERS = "\u200c\u200d"
T = TypeVar("T")


def applies(kind: str, tag: str) -> bool:
    """Whether a kind changes anything in a language's script. Raises BadSetting for no kind."""
    if kind not in KINDS:
        raise BadSetting(f"there is no perturbation '{kind}'. Choose one of {', '.join(KINDS)}.")
    script = languages.find(tag).script
    if kind == TYPOS:
        return True
    return script in (MARKED if kind == DIACRITICS else CASED)


def perturbed(kind: str, text: str, tag: str, *, name: str, rate: float, seed: int) -> str:
    """A text of a language with changes of one kind; `name` is that of its document.

    `rate` is the share of letters at which a slip happens, for typos. Raises BadSetting for a kind
    that is none.
    """
    change: dict[str, Callable[[], str]] = {
        TYPOS: lambda: typos(text, Random(f"{seed} {kind} {tag} {name}"), rate),
        DIACRITICS: lambda: plain(text),
        LOWER: lambda: lower(text, tag),
        UPPER: lambda: upper(text, tag),
    }
    applies(kind, tag)
    return change[kind]()


def words_changed(before: str, after: str) -> tuple[int, int]:
    """How many words differ, and how many there are: both texts have as many."""
    pairs = zip(before.split(), after.split(), strict=True)
    differ = [one != other for one, other in pairs]
    return sum(differ), len(differ)


# ---- typos ---------------------------------------------------------------------------------


def graphemes(text: str) -> list[str]:
    """Characters with the marks that belong to them."""
    found: list[str] = []
    for character in text:
        mark = unicodedata.category(character).startswith("M") or character in JOINERS
        if mark and found and not found[-1].isspace():
            found[-1] += character
        else:
            found.append(character)
    return found


def typos(text: str, random: Random, rate: float) -> str:
    """Slips at a share of the letters; no word loses its last one."""
    known = sorted({part for part in graphemes(text) if _is_letter(part)})
    pieces = re.split(r"(\s+)", text)
    return "".join(
        piece if piece.isspace() else _word(graphemes(piece), known, random, rate)
        for piece in pieces
    )


def _word(parts: Sequence[str], known: Sequence[str], random: Random, rate: float) -> str:
    """A word with slips; a swap takes the letter after with it."""
    out: list[str] = []
    left = sum(map(_is_letter, parts))
    place = 0
    while place < len(parts):
        part, taken = parts[place], 1
        made = [part]
        if _is_letter(part) and random.random() < rate:
            after = parts[place + 1] if place + 1 < len(parts) else ""
            made = _slip(part, after, _others(part, known), left > 1, random)
            taken = 2 if made == [after, part] else 1
        left += len(made) - taken
        out += made
        place += taken
    return "".join(out)


def _slip(
    part: str, after: str, others: Sequence[str], droppable: bool, random: Random
) -> list[str]:
    """What stands instead of a letter, or of it and the one after: each kind is as likely."""
    slips = [[part, part]]
    if _is_letter(after) and after != part:
        slips.append([after, part])
    if droppable:
        slips.append([])
    if others:
        slips.append([_drawn(others, random)])
    return _drawn(slips, random)


def _drawn(some: Sequence[T], random: Random) -> T:
    # random() is the same in all versions of Python, choice() is not.
    return some[int(random.random() * len(some))]


def _is_letter(part: str) -> bool:
    return part[:1].isalpha()


def _others(part: str, known: Sequence[str]) -> list[str]:
    """Other letters of a text in the same script and case."""
    script = scripts.of(part[0])
    return [
        each
        for each in known
        if each != part and scripts.of(each[0]) == script and each[0].isupper() == part[0].isupper()
    ]


# ---- diacritics ----------------------------------------------------------------------------


def plain(text: str) -> str:
    """A text without the diacritics that writers leave out where they are hard to type.

    Latin and Greek: accents, dots, horns, hooks and strokes (Yoruba ẹ̀ is e, Vietnamese đ is d,
    Hausa ɓ is b). Cyrillic: stress marks, and ё is е; й, ї and ґ are letters of their own. Arabic
    and Hebrew: vowel points. Devanagari: the dot of क़ख़ग़ज़फ़ and no sign of a vowel. Nothing in
    other scripts: a Thai or Tamil word is not written without its signs.
    """
    return "".join(map(_plain, graphemes(text)))


def _plain(part: str) -> str:
    whole = unicodedata.normalize("NFC", part)
    script = scripts.of(whole[0])
    if script == "Deva" and whole[0] in SOUNDS:
        return whole.replace(NUKTA, "")
    if script not in MARKS_GO:
        return part
    rest = "".join(each for each in whole[1:] if unicodedata.category(each) != "Mn")
    return _base(whole[0], script) + rest


def _base(character: str, script: str) -> str:
    """A letter without what it is WITH, by its name in Unicode."""
    if character in LETTERS:
        return LETTERS[character]
    name, with_, _ = unicodedata.name(character, "").partition(" WITH ")
    if not with_ or script not in ("Latn", "Grek"):
        return character
    try:
        return unicodedata.lookup(name)
    except KeyError:  # such as a ligature, which is no letter with a mark
        return character


# ---- case ----------------------------------------------------------------------------------


def lower(text: str, tag: str) -> str:
    """Small letters; I is ı, and İ is i, where these are two letters."""
    if tag.partition("_")[0] in DOTTED:
        text = text.replace("İ", "i").replace("I", "ı")
    return text.lower()


def upper(text: str, tag: str) -> str:
    """Capitals; i is İ where ı is another letter."""
    if tag.partition("_")[0] in DOTTED:
        text = text.replace("i", "İ")
    return text.upper()
