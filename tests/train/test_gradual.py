"""Gradual pruning against plain loops: the schedule, which weights go, and that they stay away."""

from typing import Any

import pytest
import torch
from torch.optim import AdamW

from babelpress.train.gradual import Cubic, Gradual
from babelpress.train.masks import Masks


def net() -> Any:
    torch.manual_seed(2)
    return torch.nn.Sequential(torch.nn.Linear(7, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3))


def slow_keep(weight_OI, share):
    """All weights of a matrix in the order of their size; of so many the share that stays."""
    values = [abs(float(each)) for each in weight_OI.flatten()]
    drop = int(len(values) * share + 1e-9)
    gone = set(sorted(range(len(values)), key=values.__getitem__)[:drop])
    flat = torch.tensor([place not in gone for place in range(len(values))])
    return flat.reshape(weight_OI.shape)


def test_the_share_of_zeros_rises_as_equation_1_says():
    rises = Cubic.over(0.5, 0.9, 100)

    assert rises.steps == 70
    for step in range(101):
        t = min(1.0, step / 70)
        assert rises.share(step) == pytest.approx(0.9 + (0.5 - 0.9) * (1 - t) ** 3)
    assert next(done for done in range(101) if rises.risen(done)) == 71


def test_the_smallest_weights_of_each_matrix_go_and_never_come_back():
    model = net()
    matrices = {"0.weight": model[0].weight, "2.weight": model[2].weight}
    gradual = Gradual(Masks(matrices), matrices, Cubic(0.25, 0.75, 6))
    optimizer = AdamW(model.parameters(), lr=0.3, weight_decay=0.1)
    gone = {name: torch.zeros_like(each, dtype=torch.bool) for name, each in matrices.items()}
    for step in range(9):
        before = {name: each.detach().clone() for name, each in matrices.items()}
        gradual.at(step)
        for name, each in matrices.items():
            share = Cubic(0.25, 0.75, 6).share(step)
            expected = slow_keep(before[name], share)
            assert torch.equal(each != 0, expected)
            assert torch.equal(each[expected], before[name][expected])
            assert not (gone[name] & expected).any()
            gone[name] = ~expected
        torch.manual_seed(step)
        model(torch.randn(5, 7)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        gradual.settle()
        assert gradual.ready(step + 1) == (step >= 6)
    assert int((model[0].weight == 0).sum()) == int(63 * 0.75)
    assert int((model[2].weight == 0).sum()) == int(27 * 0.75)
    assert not (model[0].bias == 0).any()


def test_masks_change_a_hundred_times_at_most_and_at_the_end():
    model = net()
    matrices = {"0.weight": model[0].weight}
    changes = []

    class Seen(Masks):
        def settle(self):
            changes.append(step)

    gradual = Gradual(Seen(matrices), matrices, Cubic(0.0, 0.5, 250))
    for step in range(400):
        gradual.at(step)

    assert changes == [*range(0, 250, 2), 250]


def test_who_goes_on_has_the_masks_that_were():
    """A process that was killed between two changes; zeros that nobody masked may learn."""
    model = net()
    matrices = {"0.weight": model[0].weight}
    rises = Cubic(0.0, 0.9, 1000)
    first = Gradual(Masks(matrices), matrices, rises)
    with torch.no_grad():
        model[0].weight[0, 0] = 0
    first.at(0)
    assert first.masks.keep["0.weight"].all()
    first.at(310)

    again = Gradual(Masks(matrices), matrices, rises)
    again.at(313)  # no change is due

    assert torch.equal(again.masks.keep["0.weight"], first.masks.keep["0.weight"])
    assert int((~again.masks.keep["0.weight"]).sum()) == int(63 * rises.share(310))
    again.finish()
    assert not again.masks.keep


def test_what_was_pruned_before_stays_so():
    model = net()
    with torch.no_grad():
        model[0].weight[:, :3] = 0
    matrices = {"0.weight": model[0].weight}
    gradual = Gradual(Masks.of_zeros(matrices), matrices, Cubic(0.1, 0.9, 1000))

    gradual.at(0)

    assert not gradual.masks.keep["0.weight"][:, :3].any()
    assert gradual.masks.keep["0.weight"][:, 3:].all()
