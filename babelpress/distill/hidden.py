"""Hidden: what the student's blocks give comes near what the teacher's give.

The mean over the student's blocks of the squared difference of states, at every token that is no
padding (Jiao et al. 2020, TinyBERT, arXiv:1909.10351, eq. 8, of the blocks alone). Where widths
differ the student's states pass through a linear map each, which begins as the least-squares fit,
learns along and is dropped at the end. No label is read, so a model without a head can be distilled
so.

Shapes: P tokens, H hidden size of the teacher.
"""

from torch import Tensor

from babelpress.distill._seen import Seen, Truth

READS = "hidden"
WITHIN = {"map": ("even", "last"), "weight": (0.001, 1000.0)}
PAPER = "Jiao et al. 2020, arXiv:1909.10351, eq. 8"
DIFFERS = (
    "By default every block's difference is divided by the teacher's mean square, so that blocks "
    "with large states do not drown the others.",
    "Neither attention maps nor embeddings are compared; a map of widths for every block.",
)


def loss(
    student: Seen, teacher: Seen, truth: Truth, *, relative: bool = True, weight: float = 1.0
) -> Tensor:
    """The distance, times `weight`: beside other objectives."""
    return weight * distance(student, teacher, truth, relative=relative)


def distance(student: Seen, teacher: Seen, truth: Truth, *, relative: bool = True) -> Tensor:
    """With `relative` 1 is what a student that gives zeros has."""
    total = student.hidden[0].new_zeros(())
    for mine_PH, its_PH in zip(student.hidden, teacher.hidden, strict=True):
        size = its_PH.square().mean() if relative else 1.0
        total = total + (mine_PH - its_PH).square().mean() / size
    return total / len(student.hidden)


def unit(*, relative: bool = True) -> str:
    """What the loss is counted in."""
    return "share of the states" if relative else "mean squared difference of states"


def teacher_blocks(student: int, teacher: int, *, map: str = "even") -> list[int]:
    """Block i of m against block ⌈(i + 1)·n / m⌉ − 1 of n (`even`), or against the last m."""
    if map == "last" and student <= teacher:
        return list(range(teacher - student, teacher))
    return [-(-(index + 1) * teacher // student) - 1 for index in range(student)]
