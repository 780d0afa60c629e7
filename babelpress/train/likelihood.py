"""How likely text of each language is to a model: nats a scored token.

Of a decoder every next token is scored, of an encoder with a head tokens that are hidden, the same
ones however often it is asked.
"""

from zlib import crc32

import numpy as np
import torch
from torch.nn import functional

from babelpress.errors import NotFinite
from babelpress.system.progress import Progress, silent
from babelpress.train.batches import Text
from babelpress.train.reading import Reader

BATCH = 4  # blocks of text at once


@torch.no_grad()
def nats(
    reader: Reader, text: Text, *, seed: int = 0, progress: Progress = silent
) -> dict[str, float]:
    """The mean negative log-likelihood of scored tokens by language.

    Raises NotFinite where a model gives no number.
    """
    found: dict[str, float] = {}
    tags = text.languages()
    progress("loss: language", 0, len(tags))
    for done, tag in enumerate(tags, 1):
        rng = np.random.default_rng([seed, crc32(tag.encode())])
        total, count = 0.0, 0
        for start in range(0, text.number(tag), BATCH):
            batch = text.some(tag, start, BATCH, rng).to(reader.model.device)
            said = reader.read(batch)
            target_N = batch.target_BT[batch.scored_BT]
            for logits, some_N in zip(said.parts, target_N.split(said.rows), strict=True):
                total += float(functional.cross_entropy(logits(), some_N, reduction="sum"))
            count += len(target_N)
        found[tag] = total / max(1, count)
        if not np.isfinite(found[tag]):
            raise NotFinite(
                f"the loss of {type(reader.model).__name__} in {tag} is {found[tag]}: it gives no "
                "numbers. Look for NaN or infinity in the model."
            )
        progress("loss: language", done, len(tags))
    return found
