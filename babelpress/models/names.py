"""What a MODEL argument means: a folder, a GGUF file, a hub id, or the embedded model.

Nothing is opened, and nothing heavy imported.

Tested in tests/models/test_open.py.
"""

import re
from pathlib import Path

from babelpress.errors import BadModel
from babelpress.models import gguf_header
from babelpress.system.files import DATA, read_json

EMBEDDED = "babel-mini"


HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@\S+)?")  # owner/name[@revision]


PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
WEIGHTS = (SINGLE, INDEX)


def resolve(name: str) -> str:
    """Where a MODEL argument is: the path of a folder or a GGUF file, or the hub id[@revision] when
    neither is there.

    `babel-mini` is the embedded model. Raises BadModel for a folder that holds no model in
    safetensors, and for a file that is no GGUF of a model.
    """
    if name == EMBEDDED:
        return str(_model_folder(DATA / EMBEDDED))
    path = Path(name)
    if gguf_header.is_gguf(path):
        gguf_header.read(path)
        return str(path)
    if path.is_file() and gguf_header.has_magic(path):
        raise BadModel(
            f"{path} is a GGUF file by another name: files are known by their ending. Rename or "
            f"link it to {path.name}{gguf_header.SUFFIX}."
        )
    if path.exists():
        return str(_model_folder(path))
    if path.suffix.lower() == gguf_header.SUFFIX:
        raise BadModel(f"no such file: {name}. Give the path of a {gguf_header.SUFFIX} file.")
    if HUB_ID.fullmatch(name):
        return name
    raise BadModel(
        f"'{name}' is neither a folder nor a hub id (owner/name[@revision]). "
        f"Give a folder with config.json, a .gguf file, a hub id, a finished run, or {EMBEDDED}."
    )


def _model_folder(path: Path) -> Path:
    if not (path / "config.json").exists():
        files = sorted(path.glob(f"*{gguf_header.SUFFIX}"))
        instead = f" Give the file: {files[0]}." if files else ""
        raise BadModel(
            f"{path} has no config.json: it is not a transformers model folder.{instead}"
        )
    if any(path.glob("*.safetensors")):
        _check_names(path)
        return path
    if pickles := sorted(each.name for pattern in PICKLES for each in path.glob(pattern)):
        raise BadModel(
            f"{path} holds its weights in {pickles[0]}, a pickle: loading one runs whatever "
            "code is inside. Only safetensors are read; convert it where you trust it."
        )
    raise BadModel(f"{path} has no *.safetensors file.")


def _check_names(path: Path) -> None:
    """Raise BadModel where files of a model folder name weights that are not its own."""
    config = read_json(path / "config.json", error=BadModel)
    named = config.get("transformers_weights") if isinstance(config, dict) else None
    if named is not None and named not in WEIGHTS:
        raise BadModel(
            f"{path / 'config.json'} says that the weights are in {named!r}. "
            f"Only {' and '.join(WEIGHTS)} are read."
        )
    for index in path.glob("*.safetensors.index.json"):
        found = read_json(index, error=BadModel)
        shards = found.get("weight_map") if isinstance(found, dict) else None
        if not isinstance(shards, dict) or not shards:
            raise BadModel(f"{index} has no weight_map: it is no index of a model.")
        for shard in set(map(str, shards.values())):
            if Path(shard).name != shard or not shard.endswith(".safetensors"):
                raise BadModel(
                    f"{index} names the file {shard!r}. Only *.safetensors files beside it are "
                    "read, by their names alone."
                )
