"""Errors that a user can act on. The command line prints them as one line, without a traceback.

BabelpressError    exit code 2: the user must mend something
  UnknownName      a method, language, distribution or evaluation that does not exist
  AmbiguousName    a name that more than one thing answers to
  BadSetting       a value outside what is accepted
  BadLayer         a layer that the method cannot treat
  BadModel         a model that cannot be opened, walked or trusted
  BadCorpus        text that is missing, unreadable or leaks between splits
  BadMoments       moments of another model, tokenizer or dtype, or half-written ones
  BadRun           a run folder that is incomplete, locked or does not fit
  NotFinite        NaN or infinity in weights, moments or scores
  MissingPackage   a part of the toolkit whose package is not installed

BabelpressWarning is no error: a library call gives it to `warnings`, the command line prints it.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

LISTED = 12  # a longer list of known names helps nobody
SENTENCES = re.compile(r"(?<=[.?!]) (?=[A-Z])")


class BabelpressError(Exception):
    """Base of every error that this toolkit raises on purpose: always one line."""

    exit_code = 2

    def __init__(self, line: str = ""):
        super().__init__(" ".join(line.splitlines()))

    @property
    def next(self) -> str:
        """What to do: a line says it in its last sentence; "" where it has only one."""
        *before, last = SENTENCES.split(str(self))
        return last if before else ""


class BabelpressWarning(UserWarning):
    """What was done is whole, but somebody should know this of it: always one line."""


class UnknownName(BabelpressError):
    """Nothing of this kind has this name; the message gives near misses and where to add one.

    `how` says how names are written, where they are too many to list any.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str, how: str = ""):
        known = sorted(set(known))
        self._near, self._known = _did_you_mean(name, known), how or f"Known: {_listed(known)}."
        super().__init__(
            f"no {kind} is called '{name}'. {self._near}{self._known} Add one in {where}."
        )

    @property
    def next(self) -> str:
        """A name that is near, else the known ones."""
        return self._near.strip() or self._known


class AmbiguousName(BabelpressError):
    """More than one thing of this kind answers to this name."""

    def __init__(self, kind: str, name: str, candidates: Iterable[str]):
        candidates = sorted(set(candidates))
        super().__init__(
            f"'{name}' can mean more than one {kind}: {_listed(candidates)}. Write one of these."
        )


class BadSetting(BabelpressError):
    """A value outside what is accepted."""


class BadLayer(BabelpressError):
    """A layer that the method cannot treat."""


class BadModel(BabelpressError):
    """A model that cannot be opened, walked or trusted."""


class BadCorpus(BabelpressError):
    """Text that is missing, unreadable or leaks between splits."""


class BadMoments(BabelpressError):
    """Moments of another model, tokenizer or dtype, or half-written ones."""


class BadRun(BabelpressError):
    """A run folder that is incomplete, locked or does not fit."""


class NotFinite(BabelpressError):
    """NaN or infinity in weights, moments or scores; the message names the place."""


class MissingPackage(BabelpressError):
    """A part of the toolkit whose package is not installed; the message says how to install it."""

    def __init__(self, package: str, extra: str = ""):
        wanted = f"'babelpress[{extra}]'" if extra else package
        super().__init__(
            f"this needs the package {package}, which is not installed. "
            f"Install it with: pip install {wanted}"
        )


def _did_you_mean(name: str, known: list[str]) -> str:
    folded = {candidate.casefold(): candidate for candidate in known}
    near = [folded[key] for key in get_close_matches(name.casefold(), folded, n=3)]
    return f"Did you mean {' or '.join(repr(n) for n in near)}? " if near else ""


def _listed(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
