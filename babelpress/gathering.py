"""What a run looks at: token blocks for calibration, and the moments of a model on them."""

import platform
import resource
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from babelpress import calibration, models, press, selftext
from babelpress.calibration import tokenizer_hash
from babelpress.corpus import Corpus, open_corpus
from babelpress.files import lock
from babelpress.languages import select
from babelpress.models import Opened, Walk
from babelpress.press import Progress, silent
from babelpress.recipe import Calibration
from babelpress.store import Store

SELF = "self"  # the corpus that the model writes


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
            written, opened.tokenizer, tokens=asked.tokens, length=length, seed=asked.seed
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
    progress: Progress = silent,
) -> Store:
    """Moments of the dense model in a folder; a half-way folder of the same work is finished."""
    start = time.monotonic()
    with lock(out):
        found = text(opened, asked)
        identity = _identity(opened, found, gram=gram, batch_tokens=batch_tokens)
        walk = Walk(opened.model)
        store = Store.resume(out, identity, len(walk.blocks))
        if store.finished:
            return store
        steps = press.gather_dense(
            walk,
            found.blocks,
            gram=gram,
            batch_tokens=batch_tokens,
            done=store.done,
            progress=progress,
        )
        for index, moments in steps:
            store.save(index, moments)
        store.finish(calibration=found.manifest, cost=spent(start))
    return store


def _identity(
    opened: Opened, found: calibration.Calibration, *, gram: bool, batch_tokens: int
) -> dict[str, Any]:
    manifest = found.manifest
    return {
        "model": models.fingerprint(opened.model),
        "model_name": opened.name,
        "tokenizer": tokenizer_hash(opened.tokenizer),
        "dtype": str(opened.model.dtype),
        "corpus": manifest["corpus"],
        "text": manifest["fingerprint"],
        "languages": list(found.blocks),
        "tokens": manifest["tokens"],
        "length": manifest["length"],
        "seed": manifest["seed"],
        "count_special": manifest["count_special"],
        "gram": gram,
        "propagate": "dense",
        "batch_tokens": batch_tokens,
        **surroundings(),
    }


def surroundings() -> dict[str, Any]:
    """Versions and threads: with the recipe, what decides the bytes of a result."""
    packages = ("babelpress", "torch", "transformers", "tokenizers", "numpy")
    return {
        "versions": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def spent(start: float) -> dict[str, float]:
    """Seconds since `start` (time.monotonic) and the peak memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": round(time.monotonic() - start, 3),
        "peak_memory_mib": round(peak, 1),
    }
