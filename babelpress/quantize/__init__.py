"""Quantization methods. The folder is the registry: `quantize/gptq.py` is the method `gptq`.

A method is a module with one function, and constants and a second function where it has them:

    def quantize(weight_OI, stats, grid, keep_OI, *, option=default, ...) -> Codes
    NEEDS_GRAM = True   it reads `stats.gram_II`
    READS = ("sumabs",) it reads `stats.mean_abs_I`; "sum" and "positive" for the mean and firing
    def scale_inputs(weight_OI, stats, grid, *, option=default, ...) -> scale_I
                        inputs are to be divided by this in the layer before, and weights
                        multiplied by it, before `quantize` sees them

The rows of all linears of a site come at once; every row has its own grid, so they stay apart.
`keep_OI` is False where the code must stand for exactly zero. A method is pure: it touches neither
its arguments nor the disk. The keyword arguments of both functions are the method's options; the
command line and recipes read them from the signatures.

Shapes: O outputs, I inputs of one site.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from babelpress import registry
from babelpress.grids import Codes

_METHODS = registry.Registry(__name__, __path__, "quantization method")


def names() -> list[str]:
    """Every method, sorted."""
    return _METHODS.names()


def get(name: str) -> Callable[..., Codes]:
    """The function of a method. Raises UnknownName."""
    return _METHODS.module(name).quantize


def scaler(name: str) -> Callable[..., Tensor] | None:
    """The function that scales inputs, where a method has one."""
    return vars(_METHODS.module(name)).get("scale_inputs")


def needs_gram(name: str) -> bool:
    """Whether a method reads the Gram matrix."""
    return vars(_METHODS.module(name)).get("NEEDS_GRAM", False)


def reads(name: str) -> Sequence[str]:
    """The vectors of moments that a method reads besides the squares and the largest."""
    return vars(_METHODS.module(name)).get("READS", ())


def options(name: str) -> dict[str, object]:
    """The options of a method with their defaults, read from its signatures."""
    scale = scaler(name)
    return registry.options(get(name)) | (registry.options(scale) if scale else {})


def check_options(name: str, given: Mapping[str, object]) -> None:
    """Raise BadSetting for an option that the method has not, naming those it has."""
    registry.check_options(name, options(name), given)


def taken(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that are of this function."""
    return {key: value for key, value in given.items() if key in registry.options(function)}
