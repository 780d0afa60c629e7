"""The integers of a quantized run on disk, which exports read.

    codes/manifest.json            one row a linear: file, bits, symmetric, group, shape
    codes/block_000.safetensors    NAME/codes, NAME/scale, NAME/zero of a block's linears
    codes/other.safetensors        those of embedding and head

NAME is the module's name in the whole model.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from babelpress.errors import BadRun
from babelpress.files import read_json, save_tensors, write_json
from babelpress.grids import Codes

FOLDER = "codes"
MANIFEST = "manifest.json"
OTHER = "other"


@dataclass(frozen=True, slots=True)
class CodesFolder:
    """Codes by the names of their linears; a linear is read when it is asked for."""

    folder: Path
    rows: Mapping[str, Mapping[str, Any]]

    @classmethod
    def open(cls, folder: Path) -> "CodesFolder":
        """The codes of a run. Raises BadRun where there are none or the list is damaged."""
        path = folder / MANIFEST
        if not path.exists():
            raise BadRun(f"{folder} holds no codes: nothing was quantized there.")
        return cls(folder, read_json(path)["linears"])

    def names(self) -> list[str]:
        """The linears that have codes, sorted."""
        return list(self.rows)

    def row(self, name: str) -> Mapping[str, Any]:
        """bits, symmetric, group and shape of a linear."""
        return self.rows[name]

    def load(self, name: str) -> Codes:
        """The codes of a linear. Raises BadRun for a damaged file."""
        row = self.rows[name]
        path = self.folder / row["file"]
        try:
            with safe_open(path, "pt") as file:
                parts = {key: file.get_tensor(f"{name}/{key}") for key in Codes.PARTS}
        except (OSError, SafetensorError) as error:
            raise BadRun(f"{path} is missing or damaged: quantize again.") from error
        return Codes.from_tensors(row["bits"], row["symmetric"], parts)


def save(folder: Path, codes: Mapping[str, Codes], path_of_blocks: str) -> None:
    """Write codes by full name; the list of them last."""
    files: dict[str, dict[str, Codes]] = defaultdict(dict)
    for name, each in codes.items():
        files[_file(name, path_of_blocks)][name] = each
    rows: dict[str, dict[str, Any]] = {}
    for file, inside in sorted(files.items()):
        tensors = {
            f"{name}/{key}": tensor
            for name, each in inside.items()
            for key, tensor in each.tensors().items()
        }
        save_tensors(folder / file, tensors, None)
        for name, each in inside.items():
            rows[name] = {
                "file": file,
                "bits": each.bits,
                "symmetric": each.symmetric,
                "group": each.group,
                "shape": list(each.codes_OI.shape),
            }
    write_json(folder / MANIFEST, {"linears": rows})


def _file(name: str, path_of_blocks: str) -> str:
    inside = name.removeprefix(f"{path_of_blocks}.")
    stem = OTHER if inside == name else f"block_{int(inside.partition('.')[0]):03d}"
    return f"{stem}.safetensors"
