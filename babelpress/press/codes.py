"""The integers of a quantized run on disk, which exports read.

    codes/manifest.json            one row a linear: file, bits, symmetric, group, shape
    codes/block_000.safetensors    NAME/codes, NAME/scale, NAME/zero of a block's linears
    codes/other.safetensors        those of embedding and head

NAME is the module's name in the whole model.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from babelpress.errors import BadRun
from babelpress.numerics.finite import all_finite
from babelpress.numerics.grids import BITS, Codes
from babelpress.system.files import check_hashes, hashes, read_json, save_tensors, write_sealed

FOLDER = "codes"
MANIFEST = "manifest.json"
OTHER = "other"

IndexOf = Callable[[str], int | None]  # the block that a linear is in, by its full name


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
        manifest = read_json(path)
        if not (isinstance(manifest, dict) and _are_rows(manifest.get("linears"))):
            raise BadRun(f"{path} is no list of codes: quantize again.")
        check_hashes(folder, manifest.get("files", {}))
        return cls(folder, manifest["linears"])

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
        codes = Codes.from_tensors(row["bits"], row["symmetric"], parts)
        if not _fit(codes, row):
            raise BadRun(f"{path} holds no codes of {name} as {MANIFEST} has it: quantize again.")
        return codes


def _are_rows(rows: object) -> bool:
    """Whether this is what `save` writes of linears; a file is named by its name alone."""
    kinds = {"file": str, "bits": int, "symmetric": bool, "group": int, "shape": list}
    return isinstance(rows, dict) and all(
        isinstance(row, dict)
        and all(isinstance(row.get(key), kind) for key, kind in kinds.items())
        and Path(row["file"]).name == row["file"]
        and row["bits"] in BITS
        for row in rows.values()
    )


def _fit(codes: Codes, row: Mapping[str, Any]) -> bool:
    """Whether tensors are the codes that a row tells of."""
    rows, inputs = [*row["shape"], None, None][:2]
    group = row["group"]
    if list(codes.codes_OI.shape) != row["shape"] or group < 1 or not inputs or inputs % group:
        return False
    groups = torch.Size([rows, inputs // group])
    return (
        codes.scale_OG.shape == codes.zero_OG.shape == groups
        and codes.codes_OI.dtype == codes.zero_OG.dtype == torch.uint8
        and codes.scale_OG.dtype == torch.float32
        and all_finite(codes.scale_OG)
        and int(max(codes.codes_OI.max(), codes.zero_OG.max())) < 2**codes.bits
    )


class Writer:
    """Writes the codes of a run, block by block; the list of them last.

    `rows` is that list so far: bits, symmetric, group and shape by full name.
    """

    def __init__(self, folder: Path, index_of: IndexOf):
        self.folder, self._index_of = folder, index_of
        self.rows: dict[str, dict[str, Any]] = {}

    def add(self, codes: Mapping[str, Codes]) -> None:
        """Write codes by full name; those of one file come together."""
        for file, inside in _by_file(codes, self._index_of).items():
            tensors = {
                f"{name}/{key}": tensor
                for name, each in inside.items()
                for key, tensor in each.tensors().items()
            }
            save_tensors(self.folder / file, tensors, None)
            self.rows |= {name: {"file": file, **row(each)} for name, each in inside.items()}

    def close(self) -> None:
        """Write the list; nothing where there are no codes."""
        if self.rows:
            manifest = {"linears": self.rows, "files": hashes(self.folder)}
            write_sealed(self.folder / MANIFEST, manifest)


def row(codes: Codes) -> dict[str, Any]:
    """What is known of the codes of a linear without reading them."""
    return {
        "bits": codes.bits,
        "symmetric": codes.symmetric,
        "group": codes.group,
        "shape": list(codes.codes_OI.shape),
    }


def save(folder: Path, codes: Mapping[str, Codes], index_of: IndexOf) -> None:
    """Write all codes of a run by full name."""
    writer = Writer(folder, index_of)
    writer.add(codes)
    writer.close()


def _by_file(codes: Mapping[str, Codes], index_of: IndexOf) -> dict[str, dict[str, Codes]]:
    files: dict[str, dict[str, Codes]] = defaultdict(dict)
    for name, each in codes.items():
        files[_file(index_of(name))][name] = each
    return dict(sorted(files.items()))


def _file(block: int | None) -> str:
    stem = OTHER if block is None else f"block_{block:03d}"
    return f"{stem}.safetensors"
