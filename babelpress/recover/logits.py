"""The whole model learns to say what the dense one says: a short distillation.

loss = KL(dense ‖ model) in nats, mean over scored tokens (Hinton et al. 2015, arXiv:1503.02531, at
temperature 1). Of a dense model that was run once and of which the likeliest K tokens are kept, all
others count as one.

Shapes: N scored tokens, V vocabulary.
"""

from torch import Tensor

from babelpress.recover._told import Told, chosen

OF = "tokens"
DENSE = True
RATES = {"weights": 1e-3, "norms": 3e-3, "low-rank": 2e-3}
PAPER = "Hinton et al. 2015, arXiv:1503.02531"
DIFFERS = ("Temperature 1, nothing of the truth; zeros and grids of the pressed model stay.",)


def loss(logits_NV: Tensor, told: Told, target_N: Tensor) -> Tensor:
    """Mean KL(dense ‖ model) in nats."""
    own_NK, others_N = chosen(logits_NV, told)
    total_N = (told.log_NK.exp() * (told.log_NK - own_NK)).sum(-1)
    if others_N is not None and told.rest_N is not None:
        total_N = total_N + told.rest_N.exp() * (told.rest_N - others_N)
    return total_N.mean()
