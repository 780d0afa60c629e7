"""How many units stay: a share or a number as a user says it, rounded down to what engines take.

Tested in tests/shrink/test_sizes.py.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from babelpress.errors import BadSetting

PLAIN = re.compile(r"[0-9]{1,18}|[0-9]{0,18}\.[0-9]{1,18}")


def size(value: Any) -> str | None:
    """A size as a recipe has it: 0.75 is a share, 1536 a number. Raises BadSetting for neither."""
    if value is None:
        return None
    text = str(value).strip()
    number = Decimal(text) if PLAIN.fullmatch(text) else Decimal(0)
    if number <= 0:
        raise BadSetting(
            f"a size of '{text}' is neither a share nor a number. Write 0.75 for three quarters, "
            "or how many stay."
        )
    if not text.isdecimal() and number > 1:
        raise BadSetting(
            f"a share of {text} is above 1, and shrinking adds nothing. Write 0.75 for three "
            "quarters, or a whole number for how many stay."
        )
    return text


@dataclass(frozen=True, slots=True)
class Size:
    """What was asked of a structure: `flag` says how, `units` what is counted."""

    asked: str
    flag: str
    units: str

    def of(self, full: int, multiple: int = 1, called: str = "the multiple") -> int:
        """How many of `full` stay: at most as many as asked for, a multiple, or all of them.

        Raises BadSetting for more than there are, and for less than the multiple; `called` says
        what that is.
        """
        share = None if self.asked.isdecimal() else Fraction(self.asked)
        wanted = int(full * share) if share is not None else int(self.asked)
        if wanted > full:
            raise BadSetting(
                f"--{self.flag} {self.asked} is more than the {full:,} {self.units} there are. "
                f"Give fewer, or a share, as --{self.flag} 0.75."
            )
        found = full if wanted == full else wanted - wanted % multiple
        if not found:
            least = min(multiple, full)
            raise BadSetting(
                f"--{self.flag} {self.asked} of {full:,} {self.units} is fewer than {called}, "
                f"{multiple}, and none would be left. Give --{self.flag} {least} or more"
                f"{self._smaller(multiple)}."
            )
        return found

    def _smaller(self, multiple: int) -> str:
        return f", or a smaller --multiple than {multiple}" if self.flag in ("ffn", "width") else ""

    def rounded(self, full: int, found: int) -> str:
        """A line on what was rounded; nothing where nothing was."""
        share = None if self.asked.isdecimal() else Fraction(self.asked)
        exact = full * share if share is not None else Fraction(self.asked)
        if exact == found:
            return ""
        return f"--{self.flag} {self.asked} of {full:,} {self.units} was rounded down to {found:,}."
