"""What an export reads, and the record of how it was made.

Tested in tests/export/test_every_export.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from babelpress.models.open import Opened
from babelpress.moments.store import Store
from babelpress.press.codes import CodesFolder
from babelpress.runs.manifest import Manifest
from babelpress.system.files import write_json
from babelpress.system.progress import Progress, silent

RECORD = "babelpress.json"
KEPT = {"kind", "calibration", "mixture"}  # what a record keeps of a step


@dataclass(frozen=True, slots=True)
class Source:
    """What an export reads.

    `opened` is the model, dequantized where it was quantized; `manifest` is that of the run, None
    for a plain model; `codes` is None where nothing was quantized; `shares` are the mixture's;
    `progress` is told what takes long.
    """

    name: str
    opened: Opened
    manifest: Manifest | None = None
    codes: CodesFolder | None = None
    moments: Store | None = None
    shares: Mapping[str, float] | None = None
    progress: Progress = silent


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
        facts["recipe"] = source.manifest.recipe
        if source.manifest.earlier:
            facts["earlier"] = list(source.manifest.earlier)
        facts["steps"] = [
            step.model_dump(mode="json", include=KEPT) for step in source.manifest.chain
        ]
    write_json(folder / RECORD, facts)
