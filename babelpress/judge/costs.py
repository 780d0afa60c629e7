"""What a scored model takes: parameters, bytes dense, as stored and compressed.

A run has that in its manifest; of another model it is kept beside its scores, in ledger.json. What
was unpacked from a GGUF file is stored as it lies there; dense is what it was unpacked to.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from babelpress.errors import BadRun
from babelpress.runs import manifest
from babelpress.system.files import read_json, write_json

if TYPE_CHECKING:
    from babelpress.models.open import Opened

LEDGER = "ledger.json"
# What is shown, smallest words first: keys of a ledger, and what they are called.
SIZES = {
    "parameters": "parameters",
    "nonzero": "non-zero parameters",
    "bytes_dense": "bytes dense",
    "bytes_stored": "bytes as stored",
    "bytes_compressed": "bytes compressed",
}


def keep(folder: Path, opened: "Opened", weights: str) -> None:
    """Write how large a scored model is, unless it is there of the same `weights` (a hash).

    Nothing is kept in a run, which says it itself, nor of a model whose weights are quantized in
    another program's way: how many parameters those are is not seen from them.
    """
    # torch, which who only judges does without
    from babelpress.models import gguf_header, sizes
    from babelpress.models.experts import slice_names

    path = folder / LEDGER
    if manifest.is_finished(folder) or getattr(opened.model.config, "quantization_config", None):
        path.unlink(missing_ok=True)
        return
    before: Any = read_json(path) if path.exists() else None
    if isinstance(before, dict) and before.get("model") == weights:
        return
    dtype, carried = opened.stored_dtype, opened.carried
    parameters = sum(parameter.numel() for parameter in opened.model.parameters())
    dense = stored = parameters * dtype.itemsize + sum(each.bytes for each in carried)
    coded: set[str] = set()
    packed = [opened.unpacked] if opened.unpacked else []
    for file in packed:  # there all weights lie in its types
        stored = sum(each.bytes for each in gguf_header.read(file).tensors.values())
        coded = {n for p in opened.model.named_parameters() for n in slice_names(*p)}
    found = {
        "model": weights,
        "parameters": parameters + sum(each.numbers for each in carried),
        "bytes_dense": dense,
        "bytes_stored": stored,
        **sizes.measured(opened.model, dtype, coded=coded, packed=packed, carried=carried),
    }
    write_json(path, found)


def of(folder: Path) -> dict[str, Any]:
    """The sizes of a scored model by SIZES, and its compressor; empty where they are not known.

    A run that an older version made lacks some. Raises BadRun for a damaged file.
    """
    found: Any = {}
    if made := manifest.read_if_there(folder):
        found = made.ledger
    elif (folder / LEDGER).exists():
        found = read_json(folder / LEDGER)
    if not isinstance(found, dict) or not all(isinstance(found.get(k, 0), int) for k in SIZES):
        raise BadRun(f"{folder / LEDGER} is damaged: remove it, and evaluate this model again.")
    return {key: found[key] for key in (*SIZES, "compressor") if key in found}
