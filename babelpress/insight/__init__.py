"""Analyses of what is inside a model. The folder is the registry: `insight/damage.py` is `damage`.

An analysis is a module with constants and functions:

    SPOKEN = "…"             its name as a reader says it
    READS = ("moments",)     what it reads, of PARTS; only that is opened, and is its identity
    RUNS = 1                 how many runs it needs at least
    LANGUAGES = 2            how many languages of a text it needs at least, where not one will do
    LIMITS = {"rate": {"gt": 0, "le": 1}}   what its options may be: gt, ge, lt and le of a number,
                             or of "languages", as many as the text has
    def measure(given, *, option=default, ...) -> rows of plain values
    def pictures(rows) -> what a page shows of them, each with its question and an answer
    def files(rows) -> further files by name, with their text; it may lack this one
    def check(given, *, option=default, ...) -> what only the model can tell of options: raises
                             before any analysis looks at text; it may lack this one too

Keyword arguments of `measure` are its options. It changes nothing in a model and writes nothing to
disk; a failure is an error, never an empty picture.
"""

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from babelpress.errors import BadSetting
from babelpress.registry import Registry
from babelpress.steps._pressing import check_options

ANALYSES = Registry(__name__, __path__, "analysis", ("measure",))
PARTS = ("dense", "runs", "moments", "beside", "text", "scores")
WITHIN = {
    "gt": (operator.gt, "over"),
    "ge": (operator.ge, "at least"),
    "lt": (operator.lt, "below"),
    "le": (operator.le, "at most"),
}
LANGUAGES = "languages"  # in place of a number among LIMITS

Row = dict[str, Any]


class Facts(NamedTuple):
    """What an analysis declares."""

    spoken: str
    reads: tuple[str, ...]
    runs: int
    languages: int
    limits: Mapping[str, Mapping[str, Any]]


def facts(name: str) -> Facts:
    """What an analysis declares; it is read, not imported. Raises UnknownName."""
    found = ANALYSES.facts(name)
    return Facts(
        found["SPOKEN"],
        tuple(found["READS"]),
        found["RUNS"],
        found.get("LANGUAGES", 1),
        found.get("LIMITS", {}),
    )


def options_of(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Which of the options that were given each analysis takes.

    Raises BadSetting for one that none of them has, and for a value of another kind or beyond
    what is allowed; what hangs on the number of languages `check_languages` tells.
    """
    known = {name: ANALYSES.options(name) for name in names}
    if lost := sorted(set(given) - {key for each in known.values() for key in each}):
        accepts = "; ".join(
            f"{name} has {', '.join(f'{k}={v}' for k, v in each.items()) or 'no options'}"
            for name, each in known.items()
        )
        raise BadSetting(f"no analysis asked for has an option {', '.join(lost)}: {accepts}.")
    own = {name: {key: given[key] for key in each if key in given} for name, each in known.items()}
    for name, values in own.items():
        check_options(ANALYSES, name, values)
        _check_limits(name, values)
    return own


def check_languages(
    names: Sequence[str], options: Mapping[str, Mapping[str, Any]], languages: int
) -> None:
    """Raise BadSetting where an analysis needs a text of more languages than there are."""
    for name in names:
        if languages < (least := facts(name).languages):
            raise BadSetting(
                f"{name} tells languages apart and needs {least} of them at least, not "
                f"{languages}. Name more with --languages, or leave {name} out of --on."
            )
        _check_limits(name, options[name], languages)


def _check_limits(name: str, given: Mapping[str, Any], languages: int | None = None) -> None:
    """Raise BadSetting for a value beyond its limits; those that are not known are not asked."""
    for key, limits in facts(name).limits.items():
        if key not in given:
            continue
        known: dict[str, Any] = {
            how: languages if bound == LANGUAGES else bound
            for how, bound in limits.items()
            if bound != LANGUAGES or languages is not None
        }
        if not all(WITHIN[how][0](given[key], bound) for how, bound in known.items()):
            allowed = " and ".join(
                f"{WITHIN[how][1]} {bound}"
                + (", the number of languages" if limits[how] == LANGUAGES else "")
                for how, bound in known.items()
            )
            default = ANALYSES.options(name)[key]
            raise BadSetting(
                f"{name}'s option {key} must be {allowed}; it is {given[key]}. "
                f"Write another, as in --option {key}={default}, which is the default."
            )


def check_runs(names: Sequence[str], runs: int) -> None:
    """Raise BadSetting where an analysis needs more runs than there are."""
    for name in names:
        if (least := facts(name).runs) > runs:
            raise BadSetting(
                f"{name} needs {least} run{'s' * (least > 1)} at least; {runs} "
                f"{'is' if runs == 1 else 'are'} named. Name more, or leave {name} out of --on."
            )
