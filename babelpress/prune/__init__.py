"""Pruning methods. The folder is the registry: `prune/wanda.py` is the method `wanda`.

A method is a module with one function, and two constants where they are true:

    def prune(weight_OI, stats, pattern, *, option=default, ...) -> weight_OI
    NEEDS_GRAM = True   it reads `stats.gram_II`
    STACKS = True       the rows of all linears of a site come at once, with a `Stacked` pattern

It is pure: it returns a new weight of the same dtype, in which exactly as many weights are zero as
the pattern asks, and touches neither its arguments nor the disk.
Its keyword arguments are its options; the command line and recipes read them from the signature.

Shapes: O outputs, I inputs of one linear.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType

import torch
from torch import Tensor

from babelpress.errors import BadSetting, NotFinite, UnknownName
from babelpress.moments import Blend
from babelpress.sparsity import Pattern


def names() -> list[str]:
    """Every method, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def get(name: str) -> Callable[..., Tensor]:
    """The function of a method. Raises UnknownName."""
    return _module(name).prune


def needs_gram(name: str) -> bool:
    """Whether a method reads the Gram matrix."""
    return vars(_module(name)).get("NEEDS_GRAM", False)


def stacks(name: str) -> bool:
    """Whether a method wants the rows of all linears of a site at once."""
    return vars(_module(name)).get("STACKS", False)


def options(name: str) -> dict[str, object]:
    """The options of a method with their defaults, read from its signature."""
    parameters = inspect.signature(get(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def check_options(name: str, given: Mapping[str, object]) -> None:
    """Raise BadSetting for an option that the method has not, naming those it has."""
    known = options(name)
    if unknown := sorted(set(given) - set(known)):
        accepts = ", ".join(f"{key}={value}" for key, value in known.items()) or "no options"
        raise BadSetting(f"{name} has no option {', '.join(unknown)}. It accepts {accepts}.")


def zero_lowest(weight_OI: Tensor, score_OI: Tensor, stats: Blend, pattern: Pattern) -> Tensor:
    """The weight without those that score lowest; the others stay as they are.

    Raises NotFinite, with the place, where a weight or a score is NaN or infinite.
    """
    weight_OI, score_OI = weight_OI.detach(), score_OI.detach()
    for kind, values in {"weight": weight_OI, "score": score_OI}.items():
        lowest, highest = torch.aminmax(values)
        if not (lowest.isfinite() and highest.isfinite()):
            raise NotFinite(f"a {kind} of {stats.where} is NaN or infinite.")
    return weight_OI.masked_fill(~pattern.keep(score_OI), 0)


def _module(name: str) -> ModuleType:
    if name not in names():
        raise UnknownName("pruning method", name, names(), "babelpress/prune/")
    return importlib.import_module(f"{__name__}.{name}")
