"""Export formats. The folder is the registry: `export/compressed_tensors.py` is the format
`compressed-tensors`; what begins with an underscore is none.

A format is a module with one function:

    def write(source, folder, *, option=default, ...) -> list[str]

It fills an empty folder and gives the lines to tell the user. The folder is the caller's: it is
renamed into place when `write` returns and removed when it raises. Writing twice gives the same
bytes. The keyword arguments are the format's options; the command line reads them from the
signature.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from babelpress import registry
from babelpress.codes import CodesFolder
from babelpress.files import write_json
from babelpress.opening import Opened
from babelpress.store import Store

RECORD = "babelpress.json"
KEPT = ("kind", "calibration", "mixture")  # what a record keeps of a step


@dataclass(frozen=True, slots=True)
class Source:
    """What an export reads.

    `opened` is the model, dequantized where it was quantized; `manifest` is that of the run, None
    for a plain model; `codes` is None where nothing was quantized; `shares` are the mixture's.
    """

    name: str
    opened: Opened
    manifest: Mapping[str, Any] | None = None
    codes: CodesFolder | None = None
    moments: Store | None = None
    shares: Mapping[str, float] | None = None


_FORMATS = registry.Registry(__name__, __path__, "export format", between="-")


def names() -> list[str]:
    """Every format, sorted."""
    return _FORMATS.names()


def get(name: str) -> Callable[..., list[str]]:
    """The function of a format. Raises UnknownName."""
    return _FORMATS.module(name).write


def options(name: str) -> dict[str, object]:
    """The options of a format with their defaults, read from its signature."""
    return registry.options(get(name))


def check_options(name: str, given: Mapping[str, object]) -> None:
    """Raise BadSetting for an option that the format has not, naming those it has."""
    registry.check_options(name, options(name), given)


def record(source: Source, folder: Path, form: str) -> None:
    """Write `babelpress.json`: how what lies beside it was made.

    The metadata of a safetensors file holds words only, so this is a file of its own: format,
    recipe, the mixture's shares, and calibration languages, tokens, hashes and seeds by step.
    """
    facts: dict[str, Any] = {
        "babelpress": version("babelpress"),
        "format": form,
        "model": source.name,
        "shares": None if source.shares is None else dict(source.shares),
    }
    if source.manifest is not None:
        steps = source.manifest["steps"]
        facts["recipe"] = source.manifest["recipe"]
        facts["steps"] = [{key: step[key] for key in KEPT if key in step} for step in steps]
    write_json(folder / RECORD, facts)
