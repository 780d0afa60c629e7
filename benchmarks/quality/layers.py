"""What rounding costs the layers of babel-mini: by method and grid, and with the zeros of pruning.

    python benchmarks/quality/layers.py [--tokens 4096]

Relative reconstruction error tr(ΔHΔᵀ) / tr(WHWᵀ), H the mean Gram matrix of 25 languages of the
embedded corpus in equal shares, mean over the 16 sites. For a pruned model W is the pruned weight;
`exact` solves every row over its own surviving weights, with a factor of its own.

Shapes: O outputs, I inputs, C rows solved at once.
"""

import argparse
from collections import defaultdict

import torch
from torch import Tensor

from babelpress.models.linears import linears, weight
from babelpress.models.open import open_model
from babelpress.models.walk import Walk
from babelpress.moments.blend import Blend, blend
from babelpress.moments.gather import gather_dense
from babelpress.numerics.grids import Grid
from babelpress.numerics.patterns import PerRow
from babelpress.prune import sparsegpt
from babelpress.quantize import gptq, rtn
from babelpress.text import calibration, mixtures
from babelpress.text.corpus import open_corpus

BITS = (4, 3, 2)
GROUP = 64
DAMP = 0.01
CHUNK = 64  # rows whose factors are in memory at once
EXACT_BLOCKS = (0, 2)  # the exact solve takes minutes a block
LENGTH = 256


def lost(gram_II: Tensor, weight_OI: Tensor, new_OI: Tensor) -> float:
    """The share of the output that new weights lose."""
    delta_OI = (weight_OI - new_OI).double()
    whole_OI, gram_II = weight_OI.double(), gram_II.double()
    return float((delta_OI @ gram_II * delta_OI).sum() / (whole_OI @ gram_II * whole_OI).sum())


def exact(weight_OI: Tensor, gram_II: Tensor, grid: Grid, keep_OI: Tensor) -> Tensor:
    """GPTQ of every row over its surviving weights alone, in float64."""
    hessian_II = gram_II.double()
    hessian_II = hessian_II + DAMP * hessian_II.diagonal().mean() * torch.eye(len(hessian_II))
    parts = zip(weight_OI.split(CHUNK), keep_OI.split(CHUNK), strict=True)
    return torch.cat([_exact_rows(w, hessian_II, grid, keep) for w, keep in parts])


def _exact_rows(weight_CI: Tensor, hessian_II: Tensor, grid: Grid, keep_CI: Tensor) -> Tensor:
    both_CII = keep_CI[:, :, None] & keep_CI[:, None, :]
    own_CII = torch.where(both_CII, hessian_II, 0.0) + torch.diag_embed((~keep_CI).double())
    lower_CII = torch.linalg.cholesky(own_CII.flip(1, 2))
    eye_CII = torch.eye(len(hessian_II), dtype=torch.float64).expand_as(lower_CII)
    factor_CII = torch.linalg.solve_triangular(lower_CII, eye_CII, upper=False).flip(1, 2)
    rest_CI = weight_CI.double() * keep_CI
    width = grid.width(len(hessian_II), "a layer")
    scale_C = zero_C = torch.empty(0)
    for column in range(len(hessian_II)):
        if column % width == 0:
            group = slice(column, column + width)
            scale_C, zero_C = grid.fit((rest_CI[:, group] * keep_CI[:, group]).float())
        codes_C = grid.code(rest_CI[:, column].float(), scale_C, zero_C)
        new_C = ((codes_C - zero_C) * scale_C).double() * keep_CI[:, column]
        error_C = (rest_CI[:, column] - new_C) / factor_CII[:, column, column]
        rest_CI[:, column:] -= error_C[:, None] * factor_CII[:, column, column:]
        rest_CI[:, column] = new_C
    return rest_CI.float()


def ways(weight_OI: Tensor, stats: Blend, grid: Grid, keep_OI: Tensor) -> dict[str, Tensor]:
    """New weights by method."""
    return {
        "rtn": rtn.quantize(weight_OI, stats, grid, keep_OI).dequantize(),
        **{
            f"gptq, order {order}": gptq.quantize(
                weight_OI, stats, grid, keep_OI, order=order, damp=DAMP
            ).dequantize()
            for order in gptq.ORDERS
        },
    }


def measure(tokens: int) -> dict[tuple[str, int, str, str], list[float]]:
    """Errors by (what, bits, grid, way), one for each site."""
    opened = open_model("babel-mini")
    walk, corpus = Walk(opened.model), open_corpus("embedded")
    tags = corpus.languages()
    text = calibration.build(
        corpus, opened.tokenizer, tags, tokens=tokens, length=LENGTH, seed=0
    ).blocks
    shares = mixtures.mixture("uniform", tags).shares
    found: dict[tuple[str, int, str, str], list[float]] = defaultdict(list)
    for index, block in gather_dense(walk, text, gram=True):
        layers = linears(walk.blocks[index])
        for site, seen in block.items():
            stats = blend(seen, shares, f"{index}.{site.name}")
            whole_OI = torch.cat([weight(layers[name]).float() for name in site.linears])
            _dense(found, whole_OI, stats)
            _pruned(found, whole_OI, stats, also_exact=index in EXACT_BLOCKS)
    return found


def _dense(found: dict, whole_OI: Tensor, stats: Blend) -> None:
    everything_OI, gram_II = torch.ones_like(whole_OI, dtype=torch.bool), stats.require_gram()
    for bits in BITS:
        for symmetric in (True, False):
            for clip in ("none", "mse"):
                grid = Grid(bits, GROUP, symmetric, clip)
                kind = f"{'symmetric' if symmetric else 'asymmetric'}, clip {clip}"
                for way, new_OI in ways(whole_OI, stats, grid, everything_OI).items():
                    found["dense", bits, kind, way].append(lost(gram_II, whole_OI, new_OI))


def _pruned(found: dict, whole_OI: Tensor, stats: Blend, *, also_exact: bool) -> None:
    half_OI = sparsegpt.prune(whole_OI, stats, PerRow(0.5))
    keep_OI, gram_II = half_OI != 0, stats.require_gram()
    for bits in BITS:
        grid = Grid(bits, GROUP)
        new = ways(half_OI, stats, grid, keep_OI)
        new["gptq, zeros not kept"] = gptq.quantize(
            half_OI, stats, grid, torch.ones_like(keep_OI), damp=DAMP
        ).dequantize()
        errors = {way: lost(gram_II, half_OI, new_OI) for way, new_OI in new.items()}
        for way, error in errors.items():
            found["pruned 0.5", bits, "symmetric, clip none", way].append(error)
        if also_exact:
            least = lost(gram_II, half_OI, exact(half_OI, gram_II, grid, keep_OI))
            for way, error in errors.items():
                found["pruned 0.5, times exact", bits, "", way].append(error / least)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=4096, help="of every language")
    with torch.no_grad():
        found = measure(parser.parse_args().tokens)
    print("| model | bits | grid | method | mean | least | most | sites |")
    print("|---|---|---|---|---|---|---|---|")
    for (what, bits, kind, way), values in found.items():
        mean = sum(values) / len(values)
        ends = f"{min(values):.4f} | {max(values):.4f}"
        print(f"| {what} | {bits} | {kind} | {way} | {mean:.4f} | {ends} | {len(values)} |")


if __name__ == "__main__":
    main()
