"""The whole model learns the text itself, without a dense one: the control of `logits`.

loss = cross-entropy in nats with what is true, mean over scored tokens. With it a dense model is
tuned on the same text for as long, so that a table tells what is repair and what is only more
training.

Shapes: N scored tokens, V vocabulary.

Tested in tests/recover/test_logits.py.
"""

from torch import Tensor
from torch.nn.functional import cross_entropy

from babelpress.recover._told import Told

OF = "tokens"
RATES = {"weights": 1e-3, "norms": 3e-3, "low-rank": 2e-3}


def loss(logits_NV: Tensor, told: Told | None, target_N: Tensor) -> Tensor:
    """Mean cross-entropy in nats."""
    return cross_entropy(logits_NV, target_N)
