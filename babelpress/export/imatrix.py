"""imatrix.gguf: which inputs matter, for llama-quantize --imatrix, with languages weighted.

For every linear it holds the sum of squared inputs over tokens and the number of tokens; llama.cpp
divides one by the other and weighs its rounding errors by that mean. Here the mean is the
mixture's, Σ_l p_l·sumsq_l/n_l over languages l with share p_l, and the number of tokens is that of
all of them together, so `in_sum2` is their product. `in_sum` is the same of the inputs themselves.
llama.cpp's own files weigh a language by how much text of it was read. Of moments whose tokens the
loss weighs the mean is Σ_l p_l·(Σ_t s_t x² / Σ_t s_t), and the lines of the datasets say so.

Shapes: I inputs of a linear.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
from torch import Tensor

from babelpress.errors import BadMoments, BadSetting
from babelpress.export._source import Source
from babelpress.models import gguf_package as ggufs
from babelpress.models.gguf_names import Layout, layout
from babelpress.models.linears import linears, weight
from babelpress.models.sites import Site
from babelpress.models.walk import Walk
from babelpress.moments.blend import blend
from babelpress.moments.moments import Moments
from babelpress.moments.store import Store
from babelpress.text.settings import EVENLY

FILE = "imatrix.gguf"
WEIGHS = True
SERVES = {
    "llama.cpp": "llama-quantize --imatrix {folder}/imatrix.gguf model-f16.gguf model-q4_k_m.gguf "
    "Q4_K_M"
}


def write(source: Source, folder: Path) -> list[str]:
    """Write imatrix.gguf from the moments and the mixture.

    Raises BadSetting where either is not given, BadMoments where they are of another model,
    BadModel for one that llama.cpp's names do not fit, MissingPackage without the gguf package.
    """
    gguf = ggufs.package()
    moments, shares = source.moments, source.shares
    if moments is None:
        raise BadSetting("the format imatrix needs what layers saw: give --moments FOLDER.")
    if shares is None:
        raise BadSetting("the format imatrix needs shares of languages: give --mixture.")
    used = {tag: share for tag, share in shares.items() if share > 0}
    found = layout(source.opened.model)
    datasets, count = _datasets(moments, used)
    entries = dict(_entries(source, moments, found, used))
    with closing(gguf.GGUFWriter(folder / FILE, "")) as writer:
        writer.add_type("imatrix")
        writer.add_array("imatrix.datasets", datasets)
        writer.add_uint32("imatrix.chunk_count", count)
        writer.add_uint32("imatrix.chunk_size", moments.identity["length"])
        for name, tensors in entries.items():
            for suffix, values in tensors.items():
                writer.add_tensor(f"{name}.{suffix}", values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    return [f"{len(entries)} linears, {len(used)} languages", *datasets]


def _entries(
    source: Source, moments: Store, found: Layout, shares: Mapping[str, float]
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    walk = Walk(source.opened.model)
    for index, block in enumerate(walk.blocks):
        layers = linears(block)
        for site, seen in moments.load(index).items():
            _check(site, {name: weight(layers[name]) for name in site.linears if name in layers})
            sums = _sums(seen, shares, walk.name(index, site.name))
            for name in site.linears:
                yield found.name(f"{walk.name(index, name)}.weight"), sums


def _sums(
    seen: Mapping[str, Moments], shares: Mapping[str, float], where: str
) -> dict[str, np.ndarray]:
    stats = blend(seen, shares, where)
    assert stats.mean_I is not None  # stored moments have all there is
    # llama.cpp rounds the number of tokens to a whole one, which ours is, and keeps it as float32
    tokens = np.float32(stats.tokens)
    return {
        "in_sum2": _row(stats.mean_square_I, tokens),
        "in_sum": _row(stats.mean_I, tokens),
        "counts": np.full((1, 1), tokens, dtype=np.float32),
    }


def _row(mean_I: Tensor, tokens: np.float32) -> np.ndarray:
    return (mean_I.numpy() * float(tokens)).astype(np.float32)[None]


def _check(site: Site, weights: Mapping[str, Tensor]) -> None:
    fits = {name for name, weight_OI in weights.items() if weight_OI.shape[1] == site.inputs}
    if missing := set(site.linears) - fits:
        raise BadMoments(
            f"the moments are of a model with a linear {min(missing)} of {site.inputs} inputs, "
            "which this one has not. Calibrate this model."
        )


def _datasets(moments: Store, shares: Mapping[str, float]) -> tuple[list[str], int]:
    """A line for every language, and how many blocks of text there were together."""
    identity = moments.identity
    rows = moments.manifest["calibration"]["languages"]
    if unknown := sorted(set(shares) - set(rows)):
        raise BadMoments(
            f"the mixture gives a share to {', '.join(unknown)}, of which the moments know "
            "nothing. Calibrate with them, or leave them out of the mixture."
        )
    corpus = Path(str(identity["corpus"])).name  # where it lay is nobody's business
    weighed = "" if moments.weigh == EVENLY else f" weigh={moments.weigh}"
    lines = [
        f"{tag} share={share:.6f} tokens={rows[tag]['tokens']} corpus={corpus} "
        f"seed={identity['seed']} text=sha256:{identity['text']}{weighed}"
        for tag, share in shares.items()
    ]
    return lines, sum(rows[tag]["blocks"] for tag in shares)
