"""What steps share that train: where their checkpoints lie, and how the rate changes.

Tested in tests/steps/test_distill.py and tests/steps/test_finetune.py.
"""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from babelpress.steps._kind import TRAINING
from babelpress.system.files import fingerprint, read_json, write_json
from babelpress.system.progress import Progress, remark

IDENTITY = "identity.json"
MOMENTS = 8  # bytes that AdamW keeps of a number


def checkpoints(
    folder: Path,
    work: Mapping[str, Any],
    progress: Progress,
    goes_on: str = "training goes on from its last checkpoint",
) -> Path:
    """Where the checkpoints of some work lie in the folder of a step; those of other are removed.

    `work` is all that it hangs on, `goes_on` is said where some are there.
    """
    place, identity = folder / TRAINING, fingerprint(work)
    if (place / IDENTITY).exists() and read_json(place / IDENTITY) == identity:
        remark(progress, f"resuming: {goes_on}")
        return place
    if place.exists():
        shutil.rmtree(place)
    place.mkdir()
    write_json(place / IDENTITY, identity)
    return place


def cosine(done: float, warmup: float) -> float:
    """Of the rate when a share `done` of all steps is: it rises, then falls as a cosine to zero."""
    if done < warmup:
        return done / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


def factor(step: int, steps: int, warmup: float) -> float:
    """Of the rate: it rises for a share of the steps, then falls to zero."""
    warm = round(steps * warmup)
    if step < warm:
        return (step + 1) / warm
    return max(0.0, (steps - step) / (steps - warm))
