"""Moments on disk: a folder with a manifest and one safetensors file a block.

`block_000.safetensors` holds tensors `SITE/LANGUAGE/NAME` and, in its metadata, the sites. Files
are written one by one and whole; a folder that was left half-way is resumed where its manifest
tells of the same work, and refused where it does not.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from babelpress.errors import BadMoments
from babelpress.files import load_tensors, read_json, save_tensors, sha256_file, write_json
from babelpress.models import Site
from babelpress.moments import Moments

BlockMoments = dict[Site, dict[str, Moments]]  # by site, by language

MANIFEST = "manifest.json"
FORMAT = 1
# What must agree for moments to be used, and what each is called in a sentence.
MUST_AGREE = {"model": "model", "tokenizer": "tokenizer", "dtype": "dtype"}


class Store:
    """A moments folder, new, half-way or finished."""

    def __init__(self, folder: Path, manifest: dict[str, Any]):
        self.folder, self.manifest = folder, manifest

    @classmethod
    def resume(cls, folder: Path, identity: Mapping[str, Any], num_blocks: int) -> "Store":
        """A folder for the work that `identity` describes; blocks already there are kept.

        Raises BadMoments when the folder holds moments of other work, naming what differs.
        """
        path = folder / MANIFEST
        if path.exists():
            store = cls.open(folder, finished=False)
            old = store.manifest["identity"]
            differ = [key for key in identity if old.get(key) != identity[key]]
            if differ:
                raise BadMoments(
                    f"{folder} holds moments that differ in {', '.join(differ)}. "
                    "Choose another --out, or remove the folder."
                )
            return store
        if folder.exists() and any(p for p in folder.iterdir() if p.name != ".lock"):
            raise BadMoments(f"{folder} is not empty and no moments folder. Choose another --out.")
        manifest = {"format": FORMAT, "identity": dict(identity), "blocks": num_blocks}
        write_json(path, manifest)
        return cls(folder, manifest)

    @classmethod
    def open(cls, folder: Path, *, finished: bool = True) -> "Store":
        """An existing folder. Raises BadMoments where it is none, or half-way and not to be."""
        path = folder / MANIFEST
        if not path.exists():
            raise BadMoments(f"{folder} has no {MANIFEST}: it is no moments folder.")
        manifest = read_json(path, error=BadMoments)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise BadMoments(f"{path} is not a moments manifest of format {FORMAT}.")
        if finished and "files" not in manifest:
            raise BadMoments(
                f"{folder} is half-written: run the same `babelpress calibrate` again to finish it."
            )
        return cls(folder, manifest)

    @property
    def identity(self) -> dict[str, Any]:
        """What these moments are of: model, tokenizer, dtype, text, seed, settings."""
        return self.manifest["identity"]

    @property
    def finished(self) -> bool:
        """Whether every block is there and the folder was closed."""
        return "files" in self.manifest

    def check(self, **now: str) -> None:
        """Raise BadMoments, with the reason, where model, tokenizer or dtype are other ones."""
        for key, word in MUST_AGREE.items():
            if self.identity[key] != now[key]:
                raise BadMoments(
                    f"{self.folder} holds moments of another {word} "
                    f"({self.identity[key][:12]}, not {now[key][:12]}; they were taken of "
                    f"{self.identity['model_name']}). Calibrate this model first."
                )

    def path(self, index: int) -> Path:
        """Where the moments of a block are."""
        return self.folder / f"block_{index:03d}.safetensors"

    def done(self, index: int) -> bool:
        """Whether a block's file is there."""
        return self.path(index).exists()

    def save(self, index: int, moments: BlockMoments) -> None:
        """Write a block's moments, whole or not at all."""
        tensors = {
            f"{site.name}/{language}/{name}": tensor
            for site, by_language in moments.items()
            for language, each in by_language.items()
            for name, tensor in each.tensors().items()
        }
        sites = [{"name": s.name, "linears": s.linears, "inputs": s.inputs} for s in moments]
        save_tensors(self.path(index), tensors, {"sites": json.dumps(sites)})

    def load(self, index: int) -> BlockMoments:
        """A block's moments. Raises BadMoments where the file is damaged or another one."""
        path = self.path(index)
        expected = self.manifest["files"].get(path.name)
        if not path.exists() or sha256_file(path) != expected:
            raise BadMoments(
                f"{path} is missing or not the file that was written. Remove {self.folder} and "
                "calibrate again."
            )
        tensors = load_tensors(path, error=BadMoments)
        with safe_open(path, "pt") as file:
            rows = json.loads(file.metadata()["sites"])
        sites = {r["name"]: Site(r["name"], tuple(r["linears"]), r["inputs"]) for r in rows}
        parts: dict[tuple[str, str], dict[str, Any]] = {}
        for key, tensor in tensors.items():
            site, language, name = key.rsplit("/", 2)
            parts.setdefault((site, language), {})[name] = tensor
        found: BlockMoments = {site: {} for site in sites.values()}
        for (site, language), each in parts.items():
            found[sites[site]][language] = Moments.from_tensors(each)
        return found

    def finish(self, **facts: Any) -> None:
        """Close the folder: hash every file, note the facts. The last write of a calibration."""
        paths = [self.path(index) for index in range(self.manifest["blocks"])]
        files = {path.name: sha256_file(path) for path in paths}
        self.manifest = {**self.manifest, **facts, "files": files}
        write_json(self.folder / MANIFEST, self.manifest)
