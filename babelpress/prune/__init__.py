"""Pruning methods. The folder is the registry: `prune/wanda.py` is the method `wanda`.

A method is a module with one function, and constants where they hold:

    def prune(weight_OI, stats, pattern, *, option=default, ...) -> weight_OI
    NEEDS_GRAM = True   it reads `stats.gram_II`
    READS = ("sumabs",) it reads `stats.mean_abs_I`; "sum" and "positive" for the mean and firing
    STACKS = True       the rows of all linears of a site come at once, with a `Stacked` pattern

It is pure: it returns a new weight of the same dtype, in which exactly as many weights are zero as
the pattern asks, and touches neither its arguments nor the disk.
Its keyword arguments are its options; the command line and recipes read them from the signature.

Shapes: O outputs, I inputs of one linear.
"""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from babelpress import registry
from babelpress.errors import NotFinite
from babelpress.finite import all_finite
from babelpress.moments import Blend
from babelpress.sparsity import Pattern

_METHODS = registry.Registry(__name__, __path__, "pruning method")


def names() -> list[str]:
    """Every method, sorted."""
    return _METHODS.names()


def get(name: str) -> Callable[..., Tensor]:
    """The function of a method. Raises UnknownName."""
    return _METHODS.module(name).prune


def needs_gram(name: str) -> bool:
    """Whether a method reads the Gram matrix."""
    return vars(_METHODS.module(name)).get("NEEDS_GRAM", False)


def reads(name: str) -> Sequence[str]:
    """The vectors of moments that a method reads besides the squares and the largest."""
    return vars(_METHODS.module(name)).get("READS", ())


def stacks(name: str) -> bool:
    """Whether a method wants the rows of all linears of a site at once."""
    return vars(_METHODS.module(name)).get("STACKS", False)


def options(name: str) -> dict[str, object]:
    """The options of a method with their defaults, read from its signature."""
    return registry.options(get(name))


def check_options(name: str, given: Mapping[str, object]) -> None:
    """Raise BadSetting for an option that the method has not, naming those it has."""
    registry.check_options(name, options(name), given)


def zero_lowest(weight_OI: Tensor, score_OI: Tensor, stats: Blend, pattern: Pattern) -> Tensor:
    """The weight without those that score lowest; the others stay as they are.

    Raises NotFinite, with the place, where a weight or a score is NaN or infinite.
    """
    weight_OI, score_OI = weight_OI.detach(), score_OI.detach()
    for kind, values in {"weight": weight_OI, "score": score_OI}.items():
        if not all_finite(values):
            raise NotFinite(f"a {kind} of {stats.where} is NaN or infinite.")
    # A product takes a quarter of the time of masked_fill; adding 0 makes +0 of the −0 it leaves.
    return (weight_OI * pattern.keep(score_OI)).add_(0)
