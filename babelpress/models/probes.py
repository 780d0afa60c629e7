"""Text that tells tokenizers apart: every script, every normal form, every way to put a space.

Code points are taken from all over Unicode, so there is no list of scripts to keep.

Tested in tests/models/test_tokenizers.py.
"""

import unicodedata
from collections.abc import Iterator
from functools import cache

LAST = 0x1FB00  # beyond it come ideographs that nothing but their number tells from others
RUN = 128  # code points that lie together, mostly of one script
STEP = 9
WIDE = 4  # runs of every so many, where a script has thousands of characters
MANY = range(0x3400, 0xD7B0)  # ideographs, Yi, Hangul

# Words, marks above and below, numbers, contractions, case, code, and spaces wherever one may be.
LINES = (
    "Habari ya asubuhi, rafiki! Mtoto anasoma kitabu.",
    " Ọmọ náà ńkàwé ní ilé-ẹ̀kọ́. ",
    "  Où est l'école ? « là-bas », straße, ŒUVRE, ﬁn  ",
    "I'm sure they'll SAY it's 1234567.89 or ½, 3³, x²; don't WE'RE",
    "Привет, мир! Ёлка, ещё. Καλημέρα, ἄνθρωπος; Բարեւ գիտություն",
    "नमस्ते दुनिया, पढ़ना। বাংলা ভাষা, ਪੰਜਾਬੀ, தமிழ் மொழி, తెలుగు, ಕನ್ನಡ, മലയാളം, සිංහල",
    "สวัสดีชาวโลก ภาษาไทย ພາສາລາວ မြန်မာဘာသာ ភាសាខ្មែរ བོད་སྐད།",
    "سلام دنیا، می‌روم؛ العَرَبِيَّة ١٢٣۴ שָׁלוֹם עולם ሰላም ልዑል፣ ⵜⴰⵎⴰⵣⵉⵖⵜ",
    "你好，世界！今日は、カタカナ ﾊﾝｶｸ　全角ＡＢＣ１２３ 안녕하세요 한국어",
    "def f(x):\n    return x['a'] += 1  # https://a.example/b?c=d&e=%20\r\n\n\n\tend\n",
    "\n\nzwei\u00a0Wörter\u200bmit\u2009\u3000Lücken\ufeff, e\u0301 q\u0307\u0323 \u0958 🙂👩‍🚀🇰🇪 ",
    "▁a ▁▁b _c __d Ġe ##f <g> [h] &amp; \\n",
    " ",
    "    ",
    "\n",
    "a",
    " a",
    "A",
)


@cache
def texts() -> tuple[str, ...]:
    """All of it, in composed and in decomposed form."""
    plain = (*LINES, *_runs())
    forms = (unicodedata.normalize(form, text) for form in ("NFC", "NFD") for text in plain)
    return tuple(dict.fromkeys((*plain, *forms)))


def _runs() -> Iterator[str]:
    """Some characters of every run of code points, each beside a space now and then."""
    for number, start in enumerate(range(0, LAST, RUN)):
        if start in MANY and number % WIDE:
            continue
        found = [chr(code) for code in range(start, start + RUN, STEP)]
        some = [each for each in found if unicodedata.category(each)[0] in "LMNPS"]
        if some:
            yield "".join(some) + " " + " ".join(some[:3])
