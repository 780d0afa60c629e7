"""Logits: the student's come near the teacher's in squared difference.

loss = α·CE + (1 − α)·mean (s − t)² over tokens and vocabulary (Ba & Caruana 2014,
arXiv:1312.6184). It is the limit of `hinton` for high temperatures where both have
logits of mean zero.
"""

from torch import Tensor

from babelpress.distill._seen import Seen, Truth, difference, supervised

READS = "logits"
WITHIN = {"alpha": (0.0, 1.0)}
PAPER = "Ba & Caruana 2014, arXiv:1312.6184"
DIFFERS = ("A mean over the vocabulary, not a sum; cross-entropy may be mixed in with alpha.",)


def loss(student: Seen, teacher: Seen, truth: Truth, *, alpha: float = 0.0) -> Tensor:
    """`alpha` is the share of the truth."""
    return alpha * supervised(student, truth) + (1 - alpha) * difference(student, teacher)
