"""Contrast (Kim et al. 2024, arXiv:2409.16911): keep what is large for one text, not for another.

score_ij = |W_ij| · ‖X_for_j‖² / ‖X_against_j‖: Wanda on `--moments` (translations, in the paper)
times how much larger an input is there than in the text of `--against` (source code, so that a
model does not drift to it). The paper's code squares the one and divides by the other, which is
which by the order of a set, another one in every run: here each side is named. Root mean squares
stand for norms over all tokens, and the shares of a mixture weight both sides alike; with the same
moments on both it is Wanda.

An input that never fires in `against` alone is worth more than any other, by |W_ij| · ‖X_for_j‖²
among its like; one that never fires in `for` is worth nothing, whatever `against` says.

Shapes: O outputs, I inputs of one linear.
"""

from torch import Tensor

from babelpress.moments.blend import Blend
from babelpress.numerics.patterns import Pattern
from babelpress.prune._zeroing import zero_lowest

READS = ("against",)
PAPER = "Kim et al. 2024, arXiv:2409.16911"
DIFFERS = (
    "Which text is kept and which is held against it is named, not found by the order of a set.",
    "Root mean squares stand for norms over all tokens: the same ranking.",
    "An input that never fires in the other text is kept before all others, not divided by zero.",
)

# Less than any norm of float32 inputs can be: its inverse is still finite in float64.
NEVER = 1e-100


def prune(weight_OI: Tensor, stats: Blend, pattern: Pattern, *, inverted: bool = False) -> Tensor:
    """Zero the weights with the lowest score; `inverted` those with the highest, a control.

    Scaling all inputs of a layer, in one text or in both, changes nothing. Surviving weights are
    left as they are.
    """
    against_I = stats.require_against().sqrt().clamp(min=NEVER)
    score_OI = weight_OI.double().abs() * (stats.mean_square_I / against_I)
    return zero_lowest(weight_OI, score_OI, stats, pattern, inverted=inverted)
