"""KL against plain loops; the likeliest tokens and the rest against all."""

import math

import pytest
import torch
from distilling import cross_entropy as slow_cross_entropy
from distilling import kl, mean, probabilities, slopes

from babelpress.recover import REPAIRS
from babelpress.recover._told import Told
from babelpress.recover.logits import loss
from babelpress.recover.text import loss as text_loss

TOKENS, VOCABULARY = 3, 6


def case():
    generator = torch.Generator().manual_seed(4)
    shape = (TOKENS, VOCABULARY)
    student, teacher = (torch.randn(shape, generator=generator).double() * 2 for _ in range(2))
    return student.requires_grad_(), teacher, torch.tensor([5, 0, 2])


def told(logits_NV, number=None):
    """In float64, for differences to be taken."""
    log_NV = logits_NV.log_softmax(-1)
    if number is None:
        return Told(log_NV)
    log_NK, ids_NK = log_NV.topk(number, dim=-1)
    return Told(log_NK, ids_NK, (1 - log_NK.exp().sum(-1)).log())


def slope(tensor) -> torch.Tensor:
    assert tensor.grad is not None
    return tensor.grad


def slow_top(teacher, student, number):
    """KL of two distributions over the teacher's likeliest tokens and all others as one."""
    p, q = probabilities(teacher), probabilities(student)
    kept = sorted(range(len(p)), key=lambda v: -p[v])[:number]
    rest = [1 - sum(each[v] for v in kept) for each in (p, q)]
    pairs = [(p[v], q[v]) for v in kept] + [(rest[0], rest[1])]
    return sum(a * math.log(a / b) for a, b in pairs)


def test_the_loss_and_its_slope_are_those_of_the_plain_divergence():
    student, teacher, target = case()

    found = loss(student, told(teacher), target)
    found.backward()

    def slow(rows):
        return mean(kl(t, s) for t, s in zip(teacher.tolist(), rows, strict=True))

    assert found.item() == pytest.approx(slow(student.tolist()))
    assert torch.allclose(slope(student), torch.tensor(slopes(slow, student)).double(), atol=1e-8)


@pytest.mark.parametrize("number", [1, 3, 4])
def test_of_the_likeliest_tokens_the_rest_counts_as_one(number):
    student, teacher, target = case()

    found = loss(student, told(teacher, number), target)
    found.backward()

    def slow(rows):
        pairs = zip(teacher.tolist(), rows, strict=True)
        return mean(slow_top(t, s, number) for t, s in pairs)

    assert found.item() == pytest.approx(slow(student.tolist()))
    assert torch.allclose(slope(student), torch.tensor(slopes(slow, student)).double(), atol=1e-7)
    assert found.item() < loss(student, told(teacher), target).item()


def test_what_is_kept_is_split_like_the_tokens_and_all_of_it_is_everything():
    _, teacher, _ = case()

    whole, top = Told.top(teacher, VOCABULARY), Told.top(teacher, 2)

    assert whole.ids_NK is None
    assert torch.equal(whole.log_NK, Told.whole(teacher).log_NK)
    parts = top.split(2)
    assert [len(each.log_NK) for each in parts] == [2, 1]
    assert top.rest_N is not None
    rests = [each.rest_N for each in parts if each.rest_N is not None]
    assert torch.equal(torch.cat(rests), top.rest_N)
    p = [sorted(probabilities(row), reverse=True) for row in teacher.tolist()]
    assert torch.allclose(top.rest_N.exp(), torch.tensor([1 - a - b for a, b, *_ in p]), atol=1e-6)


def test_a_model_that_is_sure_has_a_loss_that_is_a_number():
    sure = torch.zeros(1, 8)
    sure[0, 3] = 200.0

    found = loss(torch.zeros(1, 8).requires_grad_(), Told.top(sure, 2), torch.tensor([3]))

    assert found.item() == pytest.approx(math.log(8), rel=1e-5)


def test_the_control_is_the_cross_entropy_with_what_is_true():
    student, _, target = case()

    rows = zip(student.tolist(), target.tolist(), strict=True)
    assert text_loss(student, None, target).item() == pytest.approx(
        mean(slow_cross_entropy(row, number) for row, number in rows)
    )


def test_every_repair_says_what_it_is_of():
    assert REPAIRS.names() == ["blocks", "logits", "rounding", "text"]
    for name in REPAIRS.names():
        facts = REPAIRS.facts(name)
        assert facts["OF"] in ("tokens", "parts")
        assert facts.get("GRIDS") or set(facts["RATES"]) == {"weights", "norms", "low-rank"}
