"""Hinton: the student says what is true and what the teacher says, softened by a temperature.

loss = α·CE + (1 − α)·T²·KL(teacher/T ‖ student/T) (Hinton et al. 2015,
arXiv:1503.02531, section 2). T² keeps the size of the second term's gradient whatever T is.
"""

from torch import Tensor

from babelpress.distill._seen import Seen, Truth, divergence, supervised

READS = "logits"
WITHIN = {"alpha": (0.0, 1.0), "temperature": (0.1, 100.0)}
PAPER = "Hinton et al. 2015, arXiv:1503.02531, section 2"


def loss(
    student: Seen, teacher: Seen, truth: Truth, *, alpha: float = 0.5, temperature: float = 2.0
) -> Tensor:
    """`alpha` is the share of the truth; 0 asks for the teacher alone."""
    soft = temperature**2 * divergence(student, teacher, temperature)
    return alpha * supervised(student, truth) + (1 - alpha) * soft
