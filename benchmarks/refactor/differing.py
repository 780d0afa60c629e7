"""Two folders file by file: what differs, and what may.

Tensors count one by one (name, type, shape, hash of their bytes), other files by SHA-256. Of JSON
the values of fields that both have must be equal, floats to the last bit; fields that one side has
alone are notes. Of manifests only numbers and shares count; cards, recipes and records are words.

Files of scores may name their corpus on one side and not on the other: `tallies/NAME.TAG.parquet`
is held against `tallies/NAME.KEY.TAG.parquet`, KEY of eight digits, and the same for `.json`.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

WORDS = ("README.md", "card.md", "babelpress.json", "recipe.yaml")  # may differ
LOOSE = ("seal", "seconds", "cost", "surroundings", "out")  # fields that say nothing of bytes
FACTS = ("ledger", "prediction", "blocks")  # of a manifest
CALIBRATED = ("languages", "tokens", "length", "seed")
KEYED = re.compile(r"((?:.*/)?tallies/[^/.]+)\.[0-9a-f]{8}(\..+)")  # a corpus in a name
PLACE = re.compile(r"\[\d+\]")
STEP = (
    *("damage", "zeros", "were_zero", "weights", "sites", "trace", "ledger"),
    *("unfolded", "experts"),
)


@dataclass(slots=True)
class Found:
    """What a comparison found; all places are words for people."""

    files: int = 0
    tensors: int = 0
    values: int = 0
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def differ(self, words: str) -> None:
        """A difference."""
        self.differences.append(words)

    def note(self, words: str) -> None:
        """Something that is no difference; of the rows of a list it is said once."""
        words = PLACE.sub("[…]", words)
        if words not in self.notes:
            self.notes.append(words)


def folders(old: Path, new: Path, found: Found) -> None:
    """Every file of two folders; none need be there, if both are not."""
    first, second = _paired(_files(old), _files(new))
    for name in sorted(first.keys() | second.keys()):
        if Path(name).name in WORDS:
            if (name in first) != (name in second):
                found.note(f"{name} only in {'OLD' if name in first else 'NEW'}")
        elif name not in second:
            found.differ(f"{name} only in OLD")
        elif name not in first:
            found.differ(f"{name} only in NEW")
        else:
            found.files += 1
            _file(name, first[name], second[name], found)


def documents(old: Mapping[str, Any], new: Mapping[str, Any], found: Found) -> None:
    """What two commands printed; sizes of files that hold words do not count."""
    first, second = (
        {**each, "results": [row for row in each["results"] if not _of_words(row)]}
        for each in (old, new)
    )
    values("printed", first, second, found)


def _of_words(row: Mapping[str, Any]) -> bool:
    return Path(row.get("file", "")).name in WORDS


def _paired(old: dict[str, Path], new: dict[str, Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """The files with names that pair: without a corpus where only one side has it."""
    return _renamed(old, new), _renamed(new, old)


def _renamed(files: dict[str, Path], other: dict[str, Path]) -> dict[str, Path]:
    """A name goes without its corpus where that is one of the other side's, and no two of ours."""
    found = dict(files)
    for name in files.keys() - other.keys():
        if match := KEYED.fullmatch(name):
            plain = "".join(match.groups())
            twins = [
                each
                for each in files
                if (m := KEYED.fullmatch(each)) and m.groups() == match.groups()
            ]
            if plain in other and plain not in files and len(twins) == 1:
                found[plain] = found.pop(name)
    return found


def _files(folder: Path) -> dict[str, Path]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _file(name: str, old: Path, new: Path, found: Found) -> None:
    """One file that both have."""
    if old.suffix == ".safetensors":
        _tensors(name, old, new, found)
    elif old.name == "results.jsonl":
        values(name, _lines(old), _lines(new), found)
    elif old.name in ("manifest.json", "report.json") and old.parent.name != "codes":
        values(name, _facts(_json(old)), _facts(_json(new)), found)
    elif old.suffix == ".json" and old.parent.name in ("tallies", "codes"):
        values(name, _json(old), _json(new), found)
    elif (first := _hash(old)) != (second := _hash(new)):
        found.differ(f"{name}: sha256 {first[:12]} and {second[:12]}")


def _hash(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# ---- tensors -------------------------------------------------------------------------------


def _tensors(name: str, old: Path, new: Path, found: Found) -> None:
    first, second = dict(_each_tensor(old)), dict(_each_tensor(new))
    values(f"{name} metadata", first.pop("__metadata__"), second.pop("__metadata__"), found)
    for tensor in sorted(first.keys() | second.keys()):
        if tensor not in second or tensor not in first:
            side = "OLD" if tensor in first else "NEW"
            found.differ(f"{name}: {tensor} only in {side}")
            continue
        found.tensors += 1
        if first[tensor] != second[tensor]:
            pair = (first[tensor], second[tensor])
            told = [f"{kind} {shape} {mark[:12]}" for kind, shape, mark in pair]
            found.differ(f"{name}: {tensor}: {' and '.join(told)}")
    if first == second and _hash(old) != _hash(new):
        found.note(f"{name}: equal tensors in files that differ (order or metadata)")


def _each_tensor(path: Path) -> Iterator[tuple[str, Any]]:
    """Type, shape and hash by name, and the metadata, read without any library's help."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        yield "__metadata__", header.pop("__metadata__", {})
        for name, about in header.items():
            begin, end = about["data_offsets"]
            file.seek(8 + size + begin)
            mark = sha256(file.read(end - begin)).hexdigest()
            yield name, (about["dtype"], about["shape"], mark)


# ---- values --------------------------------------------------------------------------------


def values(place: str, old: Any, new: Any, found: Found) -> None:
    """Values of JSON, down to the last: shared fields must be equal."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            if key in LOOSE:
                continue
            if key in old and key in new:
                values(f"{place} {key}", old[key], new[key], found)
            else:
                found.note(f"{place} {key} only in {'OLD' if key in old else 'NEW'}")
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            found.differ(f"{place}: {len(old)} and {len(new)} of them")
        for number, pair in enumerate(zip(old, new, strict=False)):
            values(f"{place}[{number}]", *pair, found)
    else:
        found.values += 1
        if old != new or _is_number(old) != _is_number(new):
            found.differ(f"{place}: {_shown(old)} and {_shown(new)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    digits = isinstance(value, float) and math.isfinite(value)
    return float(value).hex() + f" ({value})" if digits else text[:60]


def _facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a manifest, of moments or a run; a step's report is taken for a run of one."""
    steps = manifest.get("steps", [manifest] if "damage" in manifest else [])
    return {
        **{key: manifest[key] for key in FACTS if key in manifest},
        "calibration": _calibrated(manifest),
        "steps": [
            {
                **{key: step[key] for key in STEP if key in step},
                "shares": step.get("mixture", {}).get("shares", {}),
                "calibration": _calibrated(step),
            }
            for step in steps
        ],
    }


def _calibrated(holder: Mapping[str, Any]) -> dict[str, Any]:
    told = holder.get("calibration") or {}
    return {key: told[key] for key in CALIBRATED if key in told}
