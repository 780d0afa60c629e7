"""When two texts count as the same: a key to compare by. No text is ever changed by it.

A sentence that was tested may stand in train text in another normalization, with no-break or
zero-width spaces, or with marks that steer a line's direction: it looks the same and is.
"""

import re
import unicodedata

# Code points that are not to be seen (Default_Ignorable_Code_Point of Unicode 16, and control
# characters that are no white space). Joiners tell words of Persian or Malayalam apart, but no
# two sentences; of a variation selector the letter before it stays.
UNSEEN = (
    *((0x00, 0x08), (0x0E, 0x1B), (0x7F, 0x84), (0x86, 0x9F)),
    *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5)),
    *((0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164)),
    *((0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8)),
    *((0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
_UNSEEN = re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in UNSEEN)}]")


def key(text: str) -> str:
    """The text in NFC, without what is not to be seen, and one blank for any run of white space."""
    return " ".join(filter(None, keys(text)))


def keys(text: str) -> list[str]:
    """The key of every line of a text, in order; at once, since there may be millions."""
    if not (text.isascii() and text.replace("\n", "").isprintable()):
        # Before NFC: what is not seen may stand between a letter and its mark.
        text = unicodedata.normalize("NFC", _UNSEEN.sub("", text))
    return [_one_blank(line) for line in text.split("\n")]


def _one_blank(line: str) -> str:
    # Of white space only the blank can be printed. Most lines are so, and cutting words is slow.
    if line.isprintable() and "  " not in line:
        return line.strip()
    return " ".join(line.split())
