"""AWQ (Lin et al. 2023, arXiv:2306.00978, eq. 4 and 5): weights that meet large inputs get a finer
grid, because inputs are divided, and weights multiplied, by a power of the mean input size.

Scales s = E|x|^alpha with alpha from 0 to just below 1, divided by sqrt(max s · min s); the alpha
whose rounded weights change the output of the site least is taken. With W all linears of the site
on top of one another and Δ = W − Q(W·s)/s that change is tr(ΔHΔᵀ), H the mean Gram matrix.
Differences: the change of the output is exact over all tokens of the mixture, where the published
code passes a sample of inputs through the layer; E|x| and H are blends, so a language counts by its
share, not by its number of tokens; inputs never seen alive keep a scale of 1. Clipping is the
grid's (`clip`).

Shapes: O outputs, I inputs of one site; R rows judged at once.
"""

import torch
from torch import Tensor

from babelpress.errors import BadSetting
from babelpress.moments.blend import Blend
from babelpress.numerics.grids import Codes, Grid
from babelpress.quantize import rtn

READS = ("gram", "sumabs")
ADAPTS = True
PAPER = "Lin et al. 2023, arXiv:2306.00978, eq. 4 and 5"
DIFFERS = (
    "The change of the output is exact over all tokens of the mixture, not over a sample.",
    "Means are blends, so a language counts by its share, not by its number of tokens.",
)
ROWS = 4096  # rows judged at once: bounds the memory that a site takes
FAINTEST = 1e-6  # of the largest mean: fainter inputs count as being of this size


def scale_inputs(weight_OI: Tensor, stats: Blend, grid: Grid, *, steps: int = 20) -> Tensor:
    """The best scale of `steps` candidates, float32 and positive; of equal ones the mildest.

    A scale of one throughout is a candidate, so the change of the output is never above that of
    the plain grid. Inputs of equal `mean_abs_I` get equal scales. Raises BadSetting, NotFinite,
    BadLayer where the group does not divide the inputs, BadMoments without a Gram matrix or Σ|x|.
    """
    if steps < 1:
        raise BadSetting(f"awq's steps must be at least 1, not {steps}.")
    gram_II = stats.require_gram()
    mean_abs_I = stats.require_mean_abs()
    scales = [_scale(mean_abs_I, step / steps) for step in range(steps)]
    errors = [0.0] * steps
    for weight_RI in weight_OI.detach().float().split(ROWS):
        for step, scale_I in enumerate(scales):
            errors[step] += _error(weight_RI, scale_I, stats, grid, gram_II)
    return scales[errors.index(min(errors))]


def quantize(weight_OI: Tensor, stats: Blend, grid: Grid, keep_OI: Tensor) -> Codes:
    """Round to nearest; what sets AWQ apart is in the scaled weights that it is handed."""
    return rtn.quantize(weight_OI, stats, grid, keep_OI)


def _scale(mean_abs_I: Tensor, alpha: float) -> Tensor:
    live_I = mean_abs_I > 0
    if not live_I.any():
        return torch.ones_like(mean_abs_I, dtype=torch.float32)
    size_I = mean_abs_I.double()
    scale_I = size_I.clamp(min=FAINTEST * float(size_I.max())).pow(alpha)
    live = scale_I[live_I]
    return (scale_I / (live.max() * live.min()).sqrt()).masked_fill(~live_I, 1).float()


def _error(weight_RI: Tensor, scale_I: Tensor, stats: Blend, grid: Grid, gram_II: Tensor) -> float:
    everything_RI = torch.ones_like(weight_RI, dtype=torch.bool)
    codes = rtn.quantize(weight_RI * scale_I, stats, grid, everything_RI)
    lost_RI = weight_RI - codes.dequantize() / scale_I
    return float(((lost_RI @ gram_II.float()) * lost_RI).sum(dtype=torch.float64))
