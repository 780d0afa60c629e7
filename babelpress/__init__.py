"""Make multilingual language models smaller without leaving a language behind.

    import babelpress as bp
    bp.calibrate("babel-mini", corpus="embedded", out="moments")
    bp.prune("babel-mini", moments="moments", mixture="uniform", out="run")
    bp.compare("dense", ["run"]).rows

One function for each command, same name, same options; `evaluate` is `eval` too. Nothing is
imported before it is asked for. Some commands have the name of a room: `bp.prune` is always the
function, and what is in the room is had by `from babelpress.prune import …`. What each function
takes stands in __init__.pyi, which `make docs` writes.
"""

import importlib
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

# The kinds of steps are commands too, whichever there are.
_KINDS = {path.stem for path in (Path(__file__).parent / "steps").glob("[!_]*.py")}
_PUBLIC = _KINDS | {
    *(
        "Outcome",
        "advise",
        "calibrate",
        "compare",
        "demo",
        "doctor",
        "eval",
        "evaluate",
        "export",
        "fit",
    ),
    *("gate", "insight", "languages", "mixture", "press", "report", "sweep", "write"),
}


class _Package(ModuleType):
    """This package, whose functions go before its rooms."""

    def __getattribute__(self, name: str) -> Any:
        if name in _PUBLIC:
            return getattr(importlib.import_module("babelpress.commands"), name)
        if name == "__version__":
            return version("babelpress")
        return super().__getattribute__(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_PUBLIC, "__version__"})


sys.modules[__name__].__class__ = _Package
