"""Analyses of what is inside a model. The folder is the registry: `insight/damage.py` is `damage`.

An analysis is a module with constants and functions:

    SPOKEN = "…"             its name as a reader says it
    READS = ("moments",)     what it reads, of PARTS; only that is opened, and is its identity
    RUNS = 1                 how many runs it needs at least
    def measure(given, *, option=default, ...) -> rows of plain values
    def pictures(rows) -> what a page shows of them, each with its question and an answer
    def files(rows) -> further files by name, with their text; it may lack this one

Keyword arguments of `measure` are its options. It changes nothing in a model and writes nothing to
disk; a failure is an error, never an empty picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from babelpress.errors import BadSetting
from babelpress.registry import Registry

ANALYSES = Registry(__name__, __path__, "analysis", ("measure",))
PARTS = ("dense", "runs", "moments", "beside", "text", "scores")

Row = dict[str, Any]


class Facts(NamedTuple):
    """What an analysis declares."""

    spoken: str
    reads: tuple[str, ...]
    runs: int


def facts(name: str) -> Facts:
    """What an analysis declares; it is read, not imported. Raises UnknownName."""
    found = ANALYSES.facts(name)
    return Facts(found["SPOKEN"], tuple(found["READS"]), found["RUNS"])


def options_of(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Which of the options that were given each analysis takes.

    Raises BadSetting for one that none of them has.
    """
    known = {name: ANALYSES.options(name) for name in names}
    if lost := sorted(set(given) - {key for each in known.values() for key in each}):
        accepts = "; ".join(
            f"{name} has {', '.join(f'{k}={v}' for k, v in each.items()) or 'no options'}"
            for name, each in known.items()
        )
        raise BadSetting(f"no analysis asked for has an option {', '.join(lost)}: {accepts}.")
    return {name: {key: given[key] for key in each if key in given} for name, each in known.items()}


def check_runs(names: Sequence[str], runs: int) -> None:
    """Raise BadSetting where an analysis needs more runs than there are."""
    for name in names:
        if (least := facts(name).runs) > runs:
            raise BadSetting(
                f"{name} needs {least} run{'s' * (least > 1)} at least; {runs} "
                f"{'is' if runs == 1 else 'are'} named. Name more, or leave {name} out of --on."
            )
