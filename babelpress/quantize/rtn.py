"""RTN, round to nearest: every weight to the nearest point of its grid, whatever it meets.

The baseline. Calibration changes nothing here, so all mixtures give the same codes.

Shapes: O outputs, I inputs of one site.
"""

from torch import Tensor

from babelpress.errors import NotFinite
from babelpress.moments.blend import Blend
from babelpress.numerics.finite import all_finite
from babelpress.numerics.grids import Codes, Grid


def quantize(weight_OI: Tensor, stats: Blend, grid: Grid, keep_OI: Tensor) -> Codes:
    """Round to the grid of every group. Of `stats` only the place is used, in messages.

    Raises NotFinite, with the place, where a weight is NaN or infinite, BadLayer where the group
    does not divide the inputs.
    """
    weight_OI = weight_OI.detach().float().masked_fill(~keep_OI, 0)
    if not all_finite(weight_OI):
        raise NotFinite(f"a weight of {stats.where} is NaN or infinite.")
    scale_OG, zero_OG = grid.fit_groups(weight_OI, stats.where)
    grouped_OGB = weight_OI.unflatten(1, (scale_OG.shape[1], -1))
    codes_OGB = grid.code(grouped_OGB, scale_OG[..., None], zero_OG[..., None])
    return Codes.of(grid, codes_OGB.flatten(1), scale_OG, zero_OG)
