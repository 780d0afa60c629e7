"""Ranges: the largest |x_i| that calibration saw of every input of every site.

They are maxima over the languages that have a share in a mixture. A finished run keeps its own in
`ranges.safetensors`, in the basis of the pressed model; those of a dense model are in its moments.

Tested in tests/evals/test_range.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from babelpress.errors import BadRun, BadSetting
from babelpress.models.open import Opened
from babelpress.models.tokenizers import tokenizer_hash
from babelpress.models.weights import weights_hash
from babelpress.moments.store import Store
from babelpress.system.files import load_tensors
from babelpress.text import mixtures


@dataclass(frozen=True, slots=True)
class Ranges:
    """M_I, float32, by "BLOCK.SITE" (such as "3.mlp.down_proj"), and whose maxima they are."""

    largest: Mapping[str, Tensor]
    languages: tuple[str, ...]

    def fingerprint(self) -> str:
        """sha256 over names and bytes."""
        digest = sha256()
        for name, largest_I in sorted(self.largest.items()):
            digest.update(f"{name} {len(largest_I)}".encode())
            digest.update(largest_I.numpy().tobytes())
        return digest.hexdigest()


def read_ranges(path: Path) -> Ranges:
    """Ranges from the file that a run keeps. Raises BadRun for a damaged one."""
    largest = {name: each_I.float() for name, each_I in load_tensors(path, error=BadRun).items()}
    with safe_open(path, "pt") as file:
        languages = (file.metadata() or {}).get("languages", "")
    return Ranges(largest, tuple(filter(None, languages.split(","))))


def of_moments(folder: Path, opened: Opened, policy: str = "") -> Ranges:
    """The ranges of moments of this model, over all their languages or those of a mixture.

    Raises BadMoments where they are of another model, tokenizer or dtype, BadSetting where the
    mixture gives a share to a language that they lack.
    """
    store = Store.open(folder)
    store.check(
        model=weights_hash(opened.model),
        tokenizer=tokenizer_hash(opened.tokenizer),
        dtype=str(opened.model.dtype),
    )
    used = _languages(store, opened.name, policy)
    largest: dict[str, Tensor] = {}
    for index in range(store.manifest["blocks"]):
        for site, seen in store.load(index).items():
            each_LI = torch.stack([seen[tag].absmax_I for tag in used])
            largest[f"{index}.{site.name}"] = each_LI.amax(0).float()
    return Ranges(largest, used)


def _languages(store: Store, model: str, policy: str) -> tuple[str, ...]:
    there = store.identity["languages"]
    if not policy:
        return tuple(there)
    shares = mixtures.mixture(policy, there, model=model).shares
    used = tuple(tag for tag, share in shares.items() if share > 0)
    if missing := [tag for tag in used if tag not in there]:
        raise BadSetting(
            f"the mixture {policy} gives a share to {', '.join(missing)}, of which {store.folder} "
            f"has no moments; it has {', '.join(there)}. Calibrate with it."
        )
    return used
