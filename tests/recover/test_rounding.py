"""Learnt rounding: begins as the run, stays on its grid, and against all choices of a tiny case."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from babelpress.numerics.grids import Codes, Grid
from babelpress.recover.blocks import loss
from babelpress.recover.rounding import LEAST, MOST, Rounded
from babelpress.train.learners import Integers

GRID = Grid(bits=3, group=4)


def coded(weight_OI, grid=GRID, moved=None):
    """The nearest codes; `moved` is added to them."""
    scale_OG, zero_OG = grid.fit_groups(weight_OI, "here")
    scale, zero = (each.repeat_interleave(4, 1) for each in (scale_OG, zero_OG))
    code_OI = grid.code(weight_OI, scale, zero)
    if moved is not None:
        code_OI = (code_OI + moved).clamp(0, grid.highest)
    return Codes.of(grid, code_OI, scale_OG, zero_OG)


def weights(rows=3, columns=8, seed=0):
    return torch.randn((rows, columns), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("grid", [GRID, Grid(bits=4, group=4, symmetric=False, clip="mse")])
def test_it_begins_with_the_codes_of_the_run_wherever_those_are(grid):
    dense = weights()
    moved = torch.randint(-1, 2, dense.shape, generator=torch.Generator().manual_seed(1))
    codes = coded(dense, grid, moved)

    made = Rounded(codes, dense)

    assert torch.equal(made.codes().codes_OI, codes.codes_OI)
    assert torch.equal(made.codes().scale_OG, codes.scale_OG)
    assert torch.equal(made(torch.zeros_like(dense)), codes.dequantize())
    turned = Rounded(codes, dense, turned=True)  # of a Conv1D
    assert torch.equal(turned(torch.zeros(8, 3)), codes.dequantize().T)


def test_an_offset_of_a_half_moves_a_code_by_one_step_towards_the_dense_weight_and_beyond():
    dense = torch.tensor([[0.3, -0.9, 1.0, 0.02]])
    codes = coded(dense)
    made = Rounded(codes, dense)

    with torch.no_grad():
        made.offset_OGB.fill_(0.5)
    up = made.codes().codes_OI.int() - codes.codes_OI.int()
    with torch.no_grad():
        made.offset_OGB.fill_(-0.5)
    down = made.codes().codes_OI.int() - codes.codes_OI.int()

    place = dense / codes.scale_OG + codes.zero_OG
    above = place > codes.codes_OI
    inside = (codes.codes_OI > 0) & (codes.codes_OI < 7)
    assert torch.equal(up.bool(), above & (codes.codes_OI < 7))
    assert torch.equal(down[inside].bool(), ~above[inside])


def test_gradients_pass_rounding_as_they_are():
    dense = weights(1, 4)
    made = Rounded(coded(dense), dense)

    made(torch.zeros_like(dense)).sum().backward()

    codes = coded(dense)
    inside = (codes.codes_OI > 0) & (codes.codes_OI < 7)
    expected = codes.scale_OG.expand(1, 4)[inside]
    offsets, widths = made.offset_OGB.grad, made.width_OG1.grad
    assert offsets is not None
    assert widths is not None
    assert torch.allclose(offsets.flatten(1)[inside], expected)
    assert widths.abs().sum() > 0


def test_zeros_of_a_pruned_weight_stay_and_bounds_hold():
    dense = weights()
    keep = torch.rand(dense.shape, generator=torch.Generator().manual_seed(2)) > 0.5
    codes = coded(dense * keep)
    made = Rounded(codes, dense, keep)

    with torch.no_grad():
        made.offset_OGB.fill_(9.0)
        made.width_OG1.fill_(9.0)
    made.settle()

    assert float(made.offset_OGB.detach().max()) == 0.5
    assert float(made.width_OG1.detach().max()) == pytest.approx(MOST)
    found = made.codes()
    assert (found.dequantize()[~keep] == 0).all()
    assert torch.equal(found.scale_OG, found.scale_OG.bfloat16().float())
    assert 0 < LEAST < 1 < MOST


def learn(dense, codes, x_PI, steps):
    """Signed descent on a single linear, the least error kept as the walk keeps it."""
    own, theirs = (nn.Linear(*dense.T.shape, bias=False) for _ in range(2))
    own.weight.data, theirs.weight.data = codes.dequantize(), dense.clone()
    block, other = nn.ModuleDict({"only": own}), nn.ModuleDict({"only": theirs})
    learner = Integers.of(block, other, {"only": codes}, pruned=False, rate=1 / steps)
    wanted = x_PI @ dense.T
    least, best = float("inf"), dict(learner.numbers())
    for step in range(steps):
        error = loss(own(x_PI), wanted)
        if error.item() < least:
            least = error.item()
            best = {name: each.detach().clone() for name, each in learner.numbers().items()}
        error.backward()
        learner.step(step / steps)
    with torch.no_grad():
        for name, live in learner.numbers().items():
            live.copy_(best[name])
    found = learner.finish()["only"]
    assert not parametrize.is_parametrized(own)
    assert torch.equal(own.weight.detach(), found.dequantize())
    return least, found


def exhaustive(dense, codes, x_PI):
    """The least error of all codes a step or none beside those of the run, at its own scale."""
    wanted, least = x_PI @ dense.T, float("inf")
    for moves in product((-1, 0, 1), repeat=dense.numel()):
        code = codes.codes_OI.float() + torch.tensor(moves).view_as(dense)
        if code.min() < 0 or code.max() > 7:
            continue
        weight = (code - codes.zero_OG.float()) * codes.scale_OG
        least = min(least, float(loss(x_PI @ weight.T, wanted)))
    return least


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_learnt_codes_come_near_the_best_of_all_choices(seed):
    generator = torch.Generator().manual_seed(10 + seed)
    dense = torch.randn((1, 4), generator=generator)
    x_PI = torch.randn((24, 2), generator=generator) @ torch.randn((2, 4), generator=generator)
    x_PI = x_PI + 0.1 * torch.randn(x_PI.shape, generator=generator)  # inputs that hang together
    codes = coded(dense)
    nearest = float(loss(x_PI @ codes.dequantize().T, x_PI @ dense.T))

    found, made = learn(dense, codes, x_PI, 200)

    assert found < nearest
    assert found <= 1.5 * exhaustive(dense, codes, x_PI) + 1e-4
    assert int(made.codes_OI.max()) <= 7
