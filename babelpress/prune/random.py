"""Random: the control. Any method must do better than weights drawn by lot.

All linears of a site draw from one stream, so that two of equal shape do not lose the same places.

Shapes: O outputs, I inputs of one site.
"""

import torch
from torch import Tensor

from babelpress.moments.blend import Blend
from babelpress.numerics.patterns import Pattern
from babelpress.prune._zeroing import zero_lowest
from babelpress.system.files import sha256_text

STACKS = True


def prune(weight_OI: Tensor, stats: Blend, pattern: Pattern, *, seed: int = 0) -> Tensor:
    """Zero weights by lot: the same ones for equal `seed`, place and shape, on any device."""
    number = int(sha256_text(f"{seed} {stats.where}")[:15], 16)
    lot = torch.Generator().manual_seed(number)
    score_OI = torch.rand(weight_OI.shape, generator=lot)
    return zero_lowest(weight_OI, score_OI.to(weight_OI.device), stats, pattern)
