"""Losses of distillation in plain floats, one number at a time, and slopes by differences."""

import math

import torch

from babelpress.distill._seen import Seen, Truth

TOKENS, VOCABULARY = 3, 5


def probabilities(logits, temperature=1.0):
    """Softmax of a row of floats."""
    top = max(logits)
    found = [math.exp((each - top) / temperature) for each in logits]
    return [each / sum(found) for each in found]


def cross_entropy(logits, target):
    return -math.log(probabilities(logits)[target])


def kl(teacher, student, temperature=1.0):
    pairs = zip(*(probabilities(each, temperature) for each in (teacher, student)), strict=True)
    return sum(p * math.log(p / q) for p, q in pairs)


def mean(numbers):
    numbers = list(numbers)
    return sum(numbers) / len(numbers)


def case(seed=0):
    """Logits of student and teacher, and what is true of mixed text; in float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = (TOKENS, VOCABULARY)
    student, teacher = (torch.randn(shape, generator=generator).double() * 2 for _ in range(2))
    truth = Truth(
        torch.tensor([4, 0, 2]), torch.tensor([1, 0, 3]), torch.tensor([0.25, 0.7, 0.9]).double()
    )
    return student.requires_grad_(), teacher, truth


def slopes(function, logits, step=1e-5):
    """The gradient of a plain function of rows of floats, by central differences."""
    rows = logits.tolist()

    def moved(n, v, by):
        return function(
            [[x + by * ((i, j) == (n, v)) for j, x in enumerate(r)] for i, r in enumerate(rows)]
        )

    return [
        [(moved(n, v, step) - moved(n, v, -step)) / (2 * step) for v in range(len(rows[0]))]
        for n in range(len(rows))
    ]


def assert_is(loss, slow):
    """Value and gradient of `loss(Seen, Seen, Truth)` against those of `slow(student, teacher)`."""
    student, teacher, truth = case()
    found = loss(Seen(student), Seen(teacher), truth)
    found.backward()

    def of_rows(rows):
        return slow(rows, teacher.tolist())

    torch.testing.assert_close(found.item(), of_rows(student.tolist()), rtol=1e-9, atol=0)
    expected = torch.tensor(slopes(of_rows, student.detach()), dtype=torch.float64)
    torch.testing.assert_close(student.grad, expected, rtol=1e-6, atol=1e-8)


def supervised(rows):
    """Cross-entropy with both targets by their shares."""
    _, _, both = case()
    pairs = zip(both.target_N.tolist(), both.other_N.tolist(), both.share_N.tolist(), strict=True)
    return mean(
        share * cross_entropy(row, own) + (1 - share) * cross_entropy(row, other)
        for row, (own, other, share) in zip(rows, pairs, strict=True)
    )
