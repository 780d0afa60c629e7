"""A folder of modules as a registry: a file is an entry, its signature is its configuration.

Nothing is imported that is not asked for; a file whose name begins with an underscore is no entry.
What an entry declares (constants at its top) is read from its text, so that help, cards and
reports know of methods without importing what those compute with.
"""

import ast
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from babelpress.errors import BadSetting, UnknownName


@dataclass(frozen=True, slots=True)
class Registry:
    """The modules of a package: `path` is its `__path__`, `kind` what one of them is called.

    `functions` are the functions whose keyword arguments are an entry's options; the first is the
    one that `get` gives, the others an entry may lack. `between` stands between the words of a
    name, where a file has an underscore; `given` are keyword arguments that are no options.
    """

    package: str
    path: Iterable[str]
    kind: str
    functions: tuple[str, ...] = ()
    between: str = "_"
    given: frozenset[str] = frozenset()

    def names(self) -> list[str]:
        """Every entry, sorted."""
        found = (module.name for module in pkgutil.iter_modules(self.path))
        return sorted(n.replace("_", self.between) for n in found if not n.startswith("_"))

    def require(self, name: str) -> None:
        """Raise UnknownName, with near misses, for what is no entry."""
        self._module_name(name)

    def module(self, name: str) -> ModuleType:
        """The module of an entry. Raises UnknownName with near misses."""
        return importlib.import_module(self._module_name(name))

    def get(self, name: str) -> Callable[..., Any]:
        """The function of an entry. Raises UnknownName."""
        return getattr(self.module(name), self.functions[0])

    def optional(self, name: str, function: str) -> Callable[..., Any] | None:
        """A function that an entry may lack."""
        return vars(self.module(name)).get(function)

    def facts(self, name: str) -> dict[str, Any]:
        """The constants that an entry declares, by name: only those that are literals.

        The entry is read, not imported. Raises UnknownName.
        """
        found: dict[str, Any] = {}
        for node in self._tree(name).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                try:
                    found[node.targets[0].id] = ast.literal_eval(node.value)
                except ValueError:
                    continue  # computed, so nothing that is declared
        return found

    def about(self, name: str) -> str:
        """The docstring of an entry, which is read and not imported. Raises UnknownName."""
        return ast.get_docstring(self._tree(name)) or ""

    def defines(self, name: str, function: str) -> bool:
        """Whether an entry has a function, which is read and not imported. Raises UnknownName."""
        return any(
            isinstance(node, ast.FunctionDef) and node.name == function
            for node in self._tree(name).body
        )

    def options(self, name: str) -> dict[str, object]:
        """The options of an entry with their defaults, read from its signatures.

        It is imported only where a default is computed, or a function defined elsewhere.
        """
        found: dict[str, object] = {}
        for function in self.functions:
            declared = self._declared(name, function)
            if declared is None:
                module = vars(self.module(name))
                declared = options(module[function]) if function in module else {}
            found |= declared
        return {key: default for key, default in found.items() if key not in self.given}

    def _declared(self, name: str, function: str) -> dict[str, object] | None:
        """Those of one function, none where the entry has no such name.

        None where a default is computed, or the function is from elsewhere.
        """
        known = self.facts(name)
        for node in self._tree(name).body:
            if isinstance(node, ast.ImportFrom | ast.Assign) and function in _bound(node):
                return None
            if isinstance(node, ast.FunctionDef) and node.name == function:
                pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                asked = {
                    each.arg: default
                    for each, default in pairs
                    if default is not None and each.arg not in self.given
                }
                try:
                    return {key: _value(default, known) for key, default in asked.items()}
                except (ValueError, KeyError):
                    return None
        return {}

    def check_options(self, name: str, given: Mapping[str, object]) -> None:
        """Raise BadSetting for an option that an entry has not, naming those it has.

        And for one without effect: an entry may declare with which values of others an option has
        any, the first of them the one to name: ONLY_WITH = {"p": {"over": ("pnorm", "norm")}}.
        """
        known = self.options(name)
        if unknown := sorted(set(given) - set(known)):
            accepts = ", ".join(f"{key}={value}" for key, value in known.items()) or "no options"
            raise BadSetting(f"{name} has no option {', '.join(unknown)}. It accepts {accepts}.")
        asked = {**known, **given}
        for option, needs in self.facts(name).get("ONLY_WITH", {}).items():
            for other, values in needs.items():
                if option in given and asked[other] not in values:
                    raise BadSetting(
                        f"{name}'s {option} is for {other}={values[0]}, not for {asked[other]}. "
                        f"Leave it out, or take {other}={values[0]}."
                    )

    def check_values(self, name: str, given: Mapping[str, object]) -> None:
        """Raise BadSetting for the value of an option that is of another kind than its default.

        None stands for a whole number that is found where nobody gives one.
        """
        known = self.options(name)
        for option in sorted(set(given) & set(known)):
            _check_value(name, option, known[option], given[option])

    def _module_name(self, name: str) -> str:
        if name not in self.names():
            folder = f"{self.package.replace('.', '/')}/"
            raise UnknownName(self.kind, name, self.names(), folder)
        return f"{self.package}.{name.replace(self.between, '_')}"

    def _tree(self, name: str) -> ast.Module:
        spec = find_spec(self._module_name(name))
        assert spec is not None
        return _parsed(str(spec.origin))


def _check_value(entry: str, name: str, default: object, value: object) -> None:
    kind = int if default is None else type(default)
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        example = f", as {default}" if default not in (None, "") else ""
        raise BadSetting(
            f"{entry}'s option {name} must be of the type {kind.__name__}{example}; it is "
            f"{value!r}."
        ) from error
    if isinstance(value, float) and not math.isfinite(value):
        raise BadSetting(f"{entry}'s option {name} must be a finite number; it is {value}.")


def _bound(node: ast.ImportFrom | ast.Assign) -> set[str]:
    """The names that a statement gives a value."""
    if isinstance(node, ast.ImportFrom):
        return {each.asname or each.name for each in node.names}
    return {each.id for each in node.targets if isinstance(each, ast.Name)}


def _value(default: ast.expr, known: Mapping[str, object]) -> object:
    """The value of a default. Raises ValueError or KeyError for one that is computed."""
    return known[default.id] if isinstance(default, ast.Name) else ast.literal_eval(default)


@cache
def _parsed(path: str) -> ast.Module:
    return ast.parse(Path(path).read_text(encoding="utf-8"))


def options(function: Callable[..., Any]) -> dict[str, object]:
    """The keyword-only arguments of a function with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.default is not p.empty
    }


def taken(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that are of this function."""
    return {key: value for key, value in given.items() if key in options(function)}
