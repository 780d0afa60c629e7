"""Evaluations. The folder is the registry: `evals/bits_per_byte.py` is `bits_per_byte`.

An evaluation is a module with two constants and one function, and a third constant where it needs
to know what calibration saw:

    METRIC: str              the name of what is measured
    LOWER_IS_BETTER: bool    which direction is a loss
    measure(model, tokenizer, documents, *, ...) -> one Tally per language
    NEEDS_RANGES = True      `measure` also takes `ranges`, the largest activations of every site by
                             name, and `detail`, which it tells each language's score at every site

It changes nothing in the model and writes nothing to disk; a failure is an error, never a zero.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Protocol, cast

from babelpress.errors import UnknownName
from babelpress.tally import Tally


class Evaluation(Protocol):
    """What every module in this folder offers."""

    METRIC: str
    LOWER_IS_BETTER: bool
    measure: Callable[..., dict[str, Tally]]


def names() -> list[str]:
    """The evaluations that can be asked for, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def needs_ranges(name: str) -> bool:
    """Whether an evaluation asks what calibration saw. Raises UnknownName."""
    return vars(get(name)).get("NEEDS_RANGES", False)


def get(name: str) -> Evaluation:
    """The module of an evaluation; raise UnknownName for one that does not exist."""
    if name not in names():
        raise UnknownName("evaluation", name, names(), "babelpress/evals/")
    return cast(Evaluation, importlib.import_module(f"{__name__}.{name}"))
