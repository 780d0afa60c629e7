"""Text from outside, made harmless: what cannot be seen is shown, and Markdown means nothing in it.

Names of models, methods and languages come from folders and files of others.

Tested in tests/report/test_card.py.
"""

import re
import unicodedata

# Reordering marks could make a name read as something else; the others have no glyph.
BIDI_CONTROLS = frozenset(
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
)
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# What CommonMark and its table, math, link and strikethrough extensions read inside a line.
_MARKS = re.compile(r"[\\`*_{}\[\]#|~$^@]|:(?=//)|(?<=www)\.", re.IGNORECASE)


def clean(text: str) -> str:
    """The text with every control, reordering mark and lone surrogate shown as U+FFFD."""
    return "".join("\ufffd" if _invisible(character) else character for character in text)


def markdown(text: str) -> str:
    """One line of Markdown that reads as exactly this text; line breaks become spaces."""
    line = clean(" ".join(text.split()))
    plain = _MARKS.sub(lambda mark: f"\\{mark[0]}", line)
    return re.sub("[&<>]", lambda mark: _HTML[mark[0]], plain)


def fence(text: str) -> str:
    """Backticks that no run of backticks in the text can close."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)


def _invisible(character: str) -> bool:
    if character in "\n\t":
        return False
    return character in BIDI_CONTROLS or unicodedata.category(character) in ("Cc", "Cs")
