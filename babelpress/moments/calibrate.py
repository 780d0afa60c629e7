"""Moments of a dense model in a folder, taken block by block; interrupted, it resumes.

Tested in tests/moments/test_store.py.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from babelpress.errors import BadMoments
from babelpress.models.open import Opened
from babelpress.models.tokenizers import tokenizer_hash
from babelpress.models.walk import Walk
from babelpress.models.weights import weights_hash
from babelpress.moments.gather import gather_dense
from babelpress.moments.store import MANIFEST, Store
from babelpress.moments.weigh import check, gather_weighed
from babelpress.system.claims import held, occupied, remove_partials
from babelpress.system.cost import measured
from babelpress.system.offload import in_memory, on_disk
from babelpress.system.progress import Progress, remark, silent
from babelpress.system.surroundings import surroundings
from babelpress.text import calibration, demonstrations
from babelpress.text.draw import draw
from babelpress.text.settings import LOSS, CalibrationSettings
from babelpress.text.token_blocks import TokenBlocks


def calibrate(
    opened: Opened,
    asked: CalibrationSettings,
    out: Path,
    *,
    gram: bool,
    batch_tokens: int = 0,
    offload: bool = False,
    progress: Progress = silent,
) -> Store:
    """Moments of the dense model in a folder; a half-way folder of the same work is finished.

    With `offload` hidden states lie in the folder instead of in memory. Raises BadMoments where
    the folder holds anything else, and what `weigh.check` raises of a model whose tokens are to be
    weighed by the loss.
    """
    walk = Walk(opened.model)
    if asked.weigh == LOSS:
        check(walk, offload=offload)
    with held(out):
        if not (out / MANIFEST).exists() and occupied(out):
            raise BadMoments(f"{out} is not empty and no moments folder. Choose another --out.")
        found = draw(opened, asked)
        identity = _identity(opened, found, asked, gram=gram, batch_tokens=batch_tokens)
        store = Store.resume(
            out, identity, surroundings(opened.model.device.type), len(walk.blocks)
        )
        remove_partials(out)
        if store.finished:
            remark(progress, f"{out} is finished: nothing is done again")
            return store
        there = {index for index in range(len(walk.blocks)) if store.done(index)}
        if there:
            remark(progress, f"resuming: {len(there)} of {len(walk.blocks)} blocks")
        with measured() as cost:
            kept: dict[str, Any] = {
                "gram": gram,
                "batch_tokens": batch_tokens,
                "done": there.__contains__,
                "progress": progress,
            }
            if asked.weigh == LOSS:
                steps = gather_weighed(walk, found.blocks, slopes=asked.first_order, **kept)
            else:
                hold = on_disk(out) if offload else in_memory
                steps = gather_dense(walk, found.blocks, hold=hold, **kept)
            for index, moments in steps:
                store.save(index, moments)
        store.finish(calibration={**found.manifest, **asked.weighing}, cost=cost)
    return store


def _identity(
    opened: Opened,
    found: calibration.CalibrationSet,
    asked: CalibrationSettings,
    *,
    gram: bool,
    batch_tokens: int,
) -> dict[str, Any]:
    manifest = found.manifest
    return {
        "model": weights_hash(opened.model),
        "model_name": opened.name,
        "tokenizer": tokenizer_hash(opened.tokenizer),
        "dtype": str(opened.model.dtype),
        "corpus": manifest["corpus"],
        "languages": list(found.blocks),
        "tokens": manifest["tokens"],
        "length": manifest["length"],
        "seed": manifest["seed"],
        "count_special": manifest["count_special"],
        "gram": gram,
        "propagate": "dense",
        "batch_tokens": batch_tokens,
        "text": text_hash(found.blocks),
        **demonstrations.identity_of(manifest),
        **asked.weighing,
    }


def text_hash(blocks: Mapping[str, TokenBlocks]) -> str:
    """SHA-256 of the tokens themselves: files, filters and what was kept apart all show in them."""
    digest = sha256()
    for tag, each in blocks.items():
        digest.update(f"{tag} {tuple(each.ids_BT.shape)}".encode())
        digest.update(each.ids_BT.numpy().tobytes() + each.counted_BT.numpy().tobytes())
        if source := each.source:
            digest.update(f"source {tuple(source.ids_BS.shape)}".encode())
            digest.update(source.ids_BS.numpy().tobytes() + source.counted_BS.numpy().tobytes())
    return digest.hexdigest()
