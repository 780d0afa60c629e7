"""What models wrote, read again: a report needs neither a model nor torch for that.

Tested in tests/judge/test_generations.py.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from babelpress.errors import BadRun
from babelpress.system.files import unsealed

FILE = "generations.jsonl"


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model wrote after a prompt, which is the beginning of a test document."""

    language: str
    corpus: str
    document: str
    prompt: str
    text: str
    reference: str
    weights: str

    def row(self) -> dict[str, Any]:
        """As it is kept."""
        return asdict(self)


def read(folder: Path) -> list[Generation]:
    """What is kept beside a model's scores; nothing where none is. BadRun for a broken line."""
    path = folder / FILE
    if not path.exists():
        return []
    found: list[Generation] = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
            row = unsealed(json.loads(line), f"{path} line {number}", BadRun)
            found.append(_generation(row, f"{path} line {number}"))
    except (ValueError, RecursionError) as error:  # also what no UTF-8 raises
        raise BadRun(
            f"{path} line {len(found) + 1} is not JSON. Make it again: "
            f"babelpress eval {folder} --generate 40"
        ) from error
    return found


def _generation(row: Any, where: str) -> Generation:
    names = [field.name for field in fields(Generation)]
    if not isinstance(row, Mapping) or not all(isinstance(row.get(name), str) for name in names):
        raise BadRun(f"{where} is nothing that a model wrote. Remove the file, and eval again.")
    return Generation(**{name: row[name] for name in names})
