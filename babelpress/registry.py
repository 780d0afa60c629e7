"""A folder of modules as a registry: a file is a method, its signature is its configuration.

Nothing is imported that is not asked for; a file whose name begins with an underscore is no entry.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from babelpress.errors import BadSetting, UnknownName


@dataclass(frozen=True, slots=True)
class Registry:
    """The modules of a package: `path` is its `__path__`, `kind` what one of them is called.

    `between` stands between the words of a name, where a file has an underscore.
    """

    package: str
    path: Iterable[str]
    kind: str
    between: str = "_"

    def names(self) -> list[str]:
        """Every entry, sorted."""
        found = (module.name for module in pkgutil.iter_modules(self.path))
        return sorted(n.replace("_", self.between) for n in found if not n.startswith("_"))

    def module(self, name: str) -> ModuleType:
        """The module of an entry. Raises UnknownName with near misses."""
        if name not in self.names():
            folder = f"{self.package.replace('.', '/')}/"
            raise UnknownName(self.kind, name, self.names(), folder)
        return importlib.import_module(f"{self.package}.{name.replace(self.between, '_')}")


def options(function: Callable[..., Any]) -> dict[str, object]:
    """The keyword-only arguments of a function with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def check_options(name: str, known: Mapping[str, object], given: Mapping[str, object]) -> None:
    """Raise BadSetting for an option that is not known, naming those that are."""
    if unknown := sorted(set(given) - set(known)):
        accepts = ", ".join(f"{key}={value}" for key, value in known.items()) or "no options"
        raise BadSetting(f"{name} has no option {', '.join(unknown)}. It accepts {accepts}.")
