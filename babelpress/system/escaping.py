"""Text made harmless: what cannot be seen is shown, Markdown means nothing, any terminal writes it.

Names of models, methods and languages come from folders and files of others.

Tested in tests/report/test_card.py and tests/system/test_escaping.py.
"""

import codecs
import re
import unicodedata

# Reordering marks could make a name read as something else; the others have no glyph.
BIDI_CONTROLS = frozenset(
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
)
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# What CommonMark and its table, math, link and strikethrough extensions read inside a line.
_MARKS = re.compile(r"[\\`*_{}\[\]#|~$^@]|:(?=//)|(?<=www)\.", re.IGNORECASE)

# How a terminal writes what it has no character for; letters lose their marks.
_NEAR = {
    **dict.fromkeys("–—−‐‑", "-"),
    "±": "+-",
    "×": "x",
    "·": ".",
    "•": "*",
    "…": "...",
    "→": "->",
    "←": "<-",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "≈": "~",
    "∞": "inf",
    "“": '"',
    "”": '"',
    "„": '"',
    "‘": "'",
    "’": "'",
    "«": '"',
    "»": '"',
    "│": "|",
    "─": "-",
    "━": "-",
    "ρ": "rho",
    "Δ": "delta ",
    "Σ": "sum ",
    "√": "sqrt ",
    "ß": "ss",
    "æ": "ae",
    "ø": "o",
    "đ": "d",
    "ı": "i",
    "ł": "l",
    "Æ": "AE",
    "Ø": "O",
    "Đ": "D",
    "Ł": "L",
    "œ": "oe",
    "Œ": "OE",
    "\u00a0": " ",
    "\u202f": " ",
}
NEAR = "babelpress.near"  # the same as a handler of errors, for streams


def writable(text: str, encoding: str) -> str:
    """The text with what an encoding lacks written near it: `-` for `–`, `o` for `ö`, else `?`."""
    return text.encode(encoding, NEAR).decode(encoding)


def _near(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_nearest(each, error.encoding) for each in lost), error.end


def _nearest(character: str, encoding: str) -> str:
    letters = "".join(
        each for each in unicodedata.normalize("NFKD", character) if not unicodedata.combining(each)
    )
    for near in (_NEAR.get(character), letters, "" if unicodedata.combining(character) else "?"):
        if near is not None and _has(near, encoding):
            return near
    return "?"


def _has(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


codecs.register_error(NEAR, _near)


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
