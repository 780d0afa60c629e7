"""What a run looks at: token blocks for calibration, and the moments of a model on them."""

import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from babelpress import calibration, opening, selftext
from babelpress.calibration import tokenizer_hash
from babelpress.corpus import Corpus, open_corpus
from babelpress.errors import BadMoments
from babelpress.feeding import Progress, gather_dense, silent
from babelpress.files import LOCK_NAME, lock
from babelpress.languages import select
from babelpress.memory import peak
from babelpress.models import Walk
from babelpress.offload import in_memory, on_disk
from babelpress.opening import Opened
from babelpress.packing import Blocks
from babelpress.processor import attention, instruction_set
from babelpress.recipe import Calibration
from babelpress.store import MANIFEST, Store

SELF = "self"  # the corpus that the model writes
PARTIAL = ".*.partial"  # the temporary names of files.py


def languages_of(corpus: Corpus, wanted: Sequence[str]) -> list[str]:
    """The languages asked for (groups allowed), or all of the corpus."""
    there = corpus.languages()
    return select(wanted, among=there) if wanted else there


def text(opened: Opened, asked: Calibration) -> calibration.Calibration:
    """The token blocks that a calibration asks for; `self` lets the model write them.

    Raises BadCorpus where the audit finds an error, BadSetting where lengths do not fit.
    """
    length = fitting_length(opened, asked.length)
    if asked.corpus == SELF:
        tags = languages_of(open_corpus("embedded"), asked.languages)
        written = selftext.write(
            opened.model,
            opened.tokenizer,
            tags,
            tokens=asked.tokens,
            length=length,
            seed=asked.seed,
        )
        return calibration.from_ids(
            written,
            opened.tokenizer,
            tokens=asked.tokens,
            length=length,
            seed=asked.seed,
            count_special=asked.count_special,
        )
    corpus = open_corpus(asked.corpus)
    return calibration.build(
        corpus,
        opened.tokenizer,
        languages_of(corpus, asked.languages),
        tokens=asked.tokens,
        length=length,
        seed=asked.seed,
        evaluation=open_corpus(asked.evaluation) if asked.evaluation else None,
        count_special=asked.count_special,
    )


def fitting_length(opened: Opened, length: int) -> int:
    """`length`, or the number of positions of the model where that is less."""
    positions = getattr(opened.model.config.get_text_config(), "max_position_embeddings", None)
    return length if positions is None else min(length, positions)


def calibrate(
    opened: Opened,
    asked: Calibration,
    out: Path,
    *,
    gram: bool,
    batch_tokens: int = 0,
    offload: bool = False,
    progress: Progress = silent,
) -> Store:
    """Moments of the dense model in a folder; a half-way folder of the same work is finished.

    With `offload` hidden states lie in the folder instead of in memory. Raises BadMoments where
    the folder holds anything else.
    """
    with held(out):
        if not (out / MANIFEST).exists() and occupied(out):
            raise BadMoments(f"{out} is not empty and no moments folder. Choose another --out.")
        found = text(opened, asked)
        identity = _identity(opened, found, gram=gram, batch_tokens=batch_tokens)
        walk = Walk(opened.model)
        store = Store.resume(
            out, identity, surroundings(opened.model.device.type), len(walk.blocks)
        )
        remove_partials(out)
        if store.finished:
            return store
        with measured() as cost:
            steps = gather_dense(
                walk,
                found.blocks,
                gram=gram,
                batch_tokens=batch_tokens,
                hold=on_disk(out) if offload else in_memory,
                done=store.done,
                progress=progress,
            )
            for index, moments in steps:
                store.save(index, moments)
        store.finish(calibration=found.manifest, cost=cost)
    return store


def _identity(
    opened: Opened, found: calibration.Calibration, *, gram: bool, batch_tokens: int
) -> dict[str, Any]:
    manifest = found.manifest
    return {
        "model": opening.fingerprint(opened.model),
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
        "text": _text_hash(found.blocks),
    }


def _text_hash(blocks: Mapping[str, Blocks]) -> str:
    """SHA-256 of the tokens themselves: files, filters and what was kept apart all show in them."""
    digest = sha256()
    for tag, each in blocks.items():
        digest.update(f"{tag} {tuple(each.ids_BT.shape)}".encode())
        digest.update(each.ids_BT.numpy().tobytes() + each.counted_BT.numpy().tobytes())
    return digest.hexdigest()


def surroundings(device: str) -> dict[str, Any]:
    """Versions, processor, device, threads: with the recipe, what decides a result's bytes."""
    packages = ("babelpress", "torch", "transformers", "tokenizers", "numpy")
    return {
        "versions": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": device,
        "instructions": instruction_set(),
        "attention": attention(device) or "default",
        "threads": torch.get_num_threads(),
    }


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; a new one in which nothing was made goes again.

    Raises BadRun where another process holds it.
    """
    new = not folder.exists()
    try:
        with lock(folder):
            yield
    finally:
        if new:
            with suppress(OSError):  # not empty: something was made
                folder.rmdir()


def occupied(folder: Path) -> bool:
    """Whether a folder holds more than our lock and what a killed process left half-written."""
    return any(path.name != LOCK_NAME and not _half_written(path) for path in folder.iterdir())


def _half_written(path: Path) -> bool:
    """Whether a killed process left this: a temporary, or a folder with nothing else in it."""
    return path.match(PARTIAL) or (path.is_dir() and all(map(_half_written, path.iterdir())))


def remove_partials(*folders: Path, names: str = PARTIAL) -> None:
    """Remove what killed processes left half-written in folders that this process holds."""
    for path in (path for folder in folders for path in folder.glob(names)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """What the work inside costs, known when it is done: seconds, and memory at the peak.

    Memory is that which the system cannot take back (`memory.py`).
    """
    cost: dict[str, float] = {}
    start = time.monotonic()
    with peak() as most:
        yield cost
    cost["seconds"] = round(time.monotonic() - start, 3)
    cost["peak_memory_mib"] = round(most.bytes / 2**20, 1)
