"""Moments on disk: a folder with a manifest and one safetensors file a block.

`block_000.safetensors` holds tensors `SITE/LANGUAGE/NAME` and, in its metadata, the sites. Gram
matrices are folded to half their size (`numerics/triangles.py`); in folders of format 1, which are
read and finished as they are, they are whole. Tensors are mapped from the files, and a matrix is
unfolded by whoever looks at it, when he does. Where tokens are weighed by the loss the format is 3:
the same, and `mass`, `nats` and, if it was kept, `slope` beside, which older versions would read
past.

Files are written one by one and whole, and their hashes noted; a folder that was left half-way is
resumed where its manifest tells of the same work, and refused where it does not. A block that is no
longer as it was written is gathered again while the folder is half-way, and refused once it is
finished.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from babelpress.errors import BadMoments
from babelpress.models.sites import Site
from babelpress.moments.moments import Moments
from babelpress.numerics.triangles import folded, folded_shape, whole
from babelpress.system.files import load_tensors, read_json, save_tensors, sha256_file, write_sealed
from babelpress.text.settings import EVENLY, LOSS

BlockMoments = dict[Site, dict[str, Moments]]  # by site, by language

MANIFEST = "manifest.json"
WHOLE, FOLDED, WEIGHED = 1, 2, 3  # formats: how Gram matrices lie; folded, and weighed by the loss
FORMAT = FOLDED  # of new folders, but for those that are weighed
GRAM = "gram"
DONE = "done"  # hashes of the blocks of a folder that is half-way
# What must agree for moments to be used; dtype first, as it is part of a model's fingerprint.
MUST_AGREE = ("dtype", "tokenizer", "model")
NAMES = ("model_name", "corpus")  # what things were called decides nothing
FORMATS = (WHOLE, FOLDED, WEIGHED)
HASH_LENGTH = 64
# What reading a file that holds something else can raise.
NO_MOMENTS = (KeyError, TypeError, ValueError, RuntimeError, OverflowError, BadMoments)
SHOWN = 12  # characters of a hash that are enough for a message


class Store:
    """A moments folder, new, half-way or finished."""

    def __init__(self, folder: Path, manifest: dict[str, Any]):
        self.folder, self.manifest = folder, manifest
        self._sound: set[str] = set()  # files whose hash was found right

    @classmethod
    def resume(
        cls,
        folder: Path,
        identity: Mapping[str, Any],
        surroundings: Mapping[str, Any],
        num_blocks: int,
    ) -> "Store":
        """A folder for the work that `identity` describes; blocks already there are kept.

        A half-written folder must agree in the surroundings too: they decide the last bits.
        Raises BadMoments when the folder holds moments of other work, naming what differs.
        """
        path = folder / MANIFEST
        if path.exists():
            store = cls.open(folder, finished=False)
            differ = _differences(_complete(store.identity), _complete(identity))
            if not store.finished:
                differ += _differences(store.manifest["surroundings"], surroundings)
            if differ:
                raise BadMoments(
                    f"{folder} holds moments that differ in {', '.join(differ)}. "
                    "Choose another --out, or remove the folder."
                )
            return store
        manifest = {
            "format": WEIGHED if weigh_of(identity) == LOSS else FORMAT,
            "identity": dict(identity),
            "surroundings": dict(surroundings),
            "blocks": num_blocks,
        }
        write_sealed(path, manifest)
        return cls(folder, manifest)

    @classmethod
    def open(cls, folder: Path, *, finished: bool = True) -> "Store":
        """An existing folder. Raises BadMoments where it is none, or half-way and not to be."""
        path = folder / MANIFEST
        if not path.exists():
            raise BadMoments(f"{folder} has no {MANIFEST}: it is no moments folder.")
        manifest = read_json(path, error=BadMoments)
        if not isinstance(manifest, dict) or manifest.get("format") not in FORMATS:
            known = f"{WHOLE}, {FOLDED} or {WEIGHED}"
            raise BadMoments(f"{path} is not a moments manifest of format {known}.")
        if not _is_manifest(manifest):
            raise BadMoments(f"{path} is damaged: it lacks what a manifest has. Calibrate again.")
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
    def weigh(self) -> str:
        """What tokens count: evenly, or by the loss."""
        return weigh_of(self.identity)

    @property
    def first_order(self) -> bool:
        """Whether gradients of the loss by the weights are kept."""
        return bool(self.identity.get("first_order", False))

    @property
    def finished(self) -> bool:
        """Whether every block is there and the folder was closed."""
        return "files" in self.manifest

    def check(self, **now: str) -> None:
        """Raise BadMoments, with the reason, where model, tokenizer or dtype are other ones."""
        for key in MUST_AGREE:
            if self.identity[key] != now[key]:
                raise BadMoments(
                    f"{self.folder} holds moments of another {key} "
                    f"({_short(self.identity[key])}, not {_short(now[key])}; they were taken of "
                    f"{self.identity['model_name']}). Calibrate this model first."
                )

    def path(self, index: int) -> Path:
        """Where the moments of a block are."""
        return self.folder / f"block_{index:03d}.safetensors"

    def done(self, index: int) -> bool:
        """Whether a block's file is there, as it was written."""
        return self._is_sound(self.path(index))

    def save(self, index: int, moments: BlockMoments) -> None:
        """Write a block's moments, whole or not at all."""
        laid = whole if self.manifest["format"] == WHOLE else folded
        tensors = {
            f"{site.name}/{language}/{name}": laid(tensor) if name == GRAM else tensor
            for site, by_language in moments.items()
            for language, each in by_language.items()
            for name, tensor in each.tensors().items()
        }
        sites = [{"name": s.name, "linears": s.linears, "inputs": s.inputs} for s in moments]
        path = self.path(index)
        save_tensors(path, tensors, {"sites": json.dumps(sites)})
        self.manifest = {**self.manifest, DONE: {**self._hashes, path.name: sha256_file(path)}}
        write_sealed(self.folder / MANIFEST, self.manifest)
        self._sound.add(path.name)

    def load(self, index: int) -> BlockMoments:
        """A block's moments. Raises BadMoments where the file is damaged or another one."""
        path = self.path(index)
        if not self._is_sound(path):
            raise BadMoments(
                f"{path} is missing or not the file that was written. Remove {self.folder} and "
                "calibrate again."
            )
        tensors = load_tensors(path, error=BadMoments)
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        try:
            return _parsed(metadata, tensors, self.manifest["format"])
        except NO_MOMENTS as error:
            raise BadMoments(f"{path} holds no moments of a block. Calibrate again.") from error

    @property
    def _hashes(self) -> dict[str, str]:
        """SHA-256 by name of the files of a finished folder, or of a half-way one."""
        return self.manifest.get("files", self.manifest.get(DONE, {}))

    def _is_sound(self, path: Path) -> bool:
        """Whether a file is, byte for byte, the one that was written; it is hashed once."""
        expected = self._hashes.get(path.name)
        if path.name not in self._sound:
            if expected is None or not path.is_file() or sha256_file(path) != expected:
                return False
            self._sound.add(path.name)
        return True

    def finish(self, **facts: Any) -> None:
        """Close the folder and note the facts. The last write of a calibration."""
        manifest = {key: value for key, value in self.manifest.items() if key != DONE}
        self.manifest = {**manifest, **facts, "files": self._hashes}
        write_sealed(self.folder / MANIFEST, self.manifest)


def weigh_of(identity: Mapping[str, Any]) -> str:
    """What tokens count in moments of this identity; those of before say nothing."""
    return identity.get("weigh", EVENLY)


def _complete(identity: Mapping[str, Any]) -> dict[str, Any]:
    """With what is not written where it is as it always was."""
    return {"weigh": EVENLY, "first_order": False, **identity}


def _is_manifest(value: Mapping[str, Any]) -> bool:
    """Whether a manifest has all that is read of one, of the kinds that it has."""
    kinds = {"identity": dict, "surroundings": dict, "blocks": int}
    if "files" in value:
        kinds |= {"files": dict, "calibration": dict}
    identity = value.get("identity")
    return (
        all(isinstance(value.get(key), kind) for key, kind in kinds.items())
        and isinstance(value.get(DONE, {}), dict)
        and isinstance(identity, dict)
        and isinstance(identity.get("gram"), bool)
        and isinstance(identity.get("languages"), list)
        and all(isinstance(tag, str) for tag in identity["languages"])
        and all(isinstance(identity.get(key), str) for key in (*MUST_AGREE, *NAMES))
    )


def _parsed(metadata: Mapping[str, str], tensors: Mapping[str, Any], version: int) -> BlockMoments:
    """The moments of a block from what its file holds. KeyError and others where it holds none."""
    rows = json.loads(metadata["sites"])
    sites = {r["name"]: Site(r["name"], tuple(r["linears"]), r["inputs"]) for r in rows}
    parts: dict[tuple[str, str], dict[str, Any]] = {}
    for key, tensor in tensors.items():
        site, language, name = key.rsplit("/", 2)
        parts.setdefault((site, language), {})[name] = tensor
    found: BlockMoments = {site: {} for site in sites.values()}
    for (site, language), each in parts.items():
        inputs = sites[site].inputs
        found[sites[site]][language] = _checked(Moments.from_tensors(each), inputs, version)
    return found


def _checked(moments: Moments, inputs: int, version: int) -> Moments:
    """The moments again. Raises ValueError where they cannot be of a site with so many inputs."""
    of_gram = (inputs, inputs) if version == WHOLE else folded_shape(inputs)
    shapes = {"mass": (), "nats": (), GRAM: of_gram}
    for name, tensor in moments.tensors().items():
        if name == "n":
            continue
        shape = (len(tensor), inputs) if name == "slope" else shapes.get(name, (inputs,))
        floats = tensor.is_floating_point() and tensor.isfinite().all()
        if tensor.shape != shape or not floats:
            raise ValueError(name)
    if (moments.of_loss is not None) != (version == WEIGHED):
        raise ValueError("mass")
    if min(moments.n, moments.mass) < 0:
        raise ValueError("n")
    return moments


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys whose values differ, with both values where those are numbers or words."""
    found = [key for key in new if key not in NAMES and old.get(key) != new[key]]
    return [_worded(key, old.get(key), new[key]) for key in found]


def _worded(key: str, old: Any, new: Any) -> str:
    if isinstance(old, dict | list) or isinstance(new, dict | list):
        return key
    return f"{key} ({_short(str(old))} there, {_short(str(new))} now)"


def _short(text: str) -> str:
    """A hash to its first characters; anything else as it is."""
    return text[:SHOWN] if len(text) == HASH_LENGTH else text
