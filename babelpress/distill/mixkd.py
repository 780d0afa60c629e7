"""MixKD: the student also learns what the teacher says of mixtures of two texts.

The embeddings of two texts are mixed, x̃ = λ·x_i + (1 − λ)·x_j, with λ drawn from Beta(c, c), and

    loss = CE(x_i) + a_sm·[λ·CE(x̃, y_i) + (1 − λ)·CE(x̃, y_j)] + a_tm·d(teacher(x̃), student(x̃))

(Liang et al. 2021, ICLR, arXiv:2011.00593, section 3). Text that nobody wrote lets a teacher say
more than little data holds. Across languages the two texts of a pair may be of two languages.

Shapes: B texts.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from babelpress.distill._seen import Pairing, Seen, Truth, difference, divergence, supervised

READS = "logits"
WITHIN = {
    "a_sm": (0.0, 100.0),
    "a_tm": (0.0, 100.0),
    "distance": ("mse", "kl"),
    "concentration": (0.01, 100.0),
}
PAPER = "Liang et al. 2021, arXiv:2011.00593, section 3"
DIFFERS = (
    "λ is drawn for every text, not for every batch.",
    "Hidden tokens of a pair stand at the same places, so the mask is mixed with itself.",
    "Texts of a pair may be of two languages.",
)


def loss(student: Seen, teacher: Seen, truth: Truth) -> Tensor:
    """The truth of the text as it is."""
    return supervised(student, truth)


def mixed_loss(
    student: Seen,
    teacher: Seen,
    truth: Truth,
    *,
    a_sm: float = 1.0,
    a_tm: float = 1.0,
    distance: str = "mse",
) -> Tensor:
    """`a_sm` weighs the truth of both texts, `a_tm` the `distance` (mse or kl) to the teacher."""
    apart = difference if distance == "mse" else divergence
    return a_sm * supervised(student, truth) + a_tm * apart(student, teacher)


def pairing(
    languages_B: Sequence[str],
    draw: np.random.Generator,
    *,
    concentration: float = 0.4,
    across: bool = True,
) -> Pairing:
    """Every text is mixed with one of the batch: of any language, or only of its own.

    A text may meet itself, as in the paper's shuffled batch; it is then not mixed.
    """
    size = len(languages_B)
    partner_B = np.arange(size)
    groups = [""] if across else sorted(set(languages_B))
    for group in groups:
        own = [b for b, tag in enumerate(languages_B) if across or tag == group]
        partner_B[own] = draw.permutation(own)
    return Pairing(partner_B, draw.beta(concentration, concentration, size))
