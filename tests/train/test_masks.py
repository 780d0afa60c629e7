"""Zeros that stay: AdamW by hand on the numbers that learn, as if the others were not there."""

from typing import Any

import torch
from torch.nn.functional import mse_loss
from torch.optim import AdamW

from babelpress.train.masks import Masks


def net() -> Any:
    torch.manual_seed(0)
    made: Any = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))
    with torch.no_grad():
        made[0].weight[:, 1] = 0
        made[0].weight[2] = 0
    return made


def learn(made, masks, steps=6):
    optimizer = AdamW(made.parameters(), lr=0.1, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x, y = torch.randn((5, 4), generator=generator), torch.randn((5, 2), generator=generator)
        mse_loss(made(x), y).backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 0.3)
        optimizer.step()
        optimizer.zero_grad()
        masks.settle()


def test_zeros_stay_and_all_else_learns_as_if_they_were_not_there():
    made = net()
    masks = Masks.of_zeros({"0.weight": made[0].weight})
    assert int((~masks.keep["0.weight"]).sum()) == 9

    learn(made, masks)

    zero = made[0].weight == 0
    assert torch.equal(zero, net()[0].weight == 0)
    assert not torch.equal(made[2].weight, net()[2].weight)
    # the same net without that input and that neuron: its bias moves what is behind it
    small: Any = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))
    whole = net()
    keep = [0, 2, 3]
    with torch.no_grad():
        small[0].weight.copy_(whole[0].weight[:, keep])
        small[0].bias.copy_(whole[0].bias)
        small[2].load_state_dict(whole[2].state_dict())
    row = torch.ones(6, 1, dtype=torch.bool)
    row[2] = False
    fixed = Masks({"w": small[0].weight})
    fixed.put("w", row.expand(6, 3))
    optimizer = AdamW(small.parameters(), lr=0.1, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(6):
        x, y = torch.randn((5, 4), generator=generator), torch.randn((5, 2), generator=generator)
        mse_loss(small(x[:, keep]), y).backward()
        torch.nn.utils.clip_grad_norm_(small.parameters(), 0.3)
        optimizer.step()
        optimizer.zero_grad()
    assert torch.allclose(made[0].weight[:, keep], small[0].weight, atol=1e-6)


def test_what_learnt_before_it_was_masked_is_put_back():
    made = net()
    masks = Masks({"2.weight": made[2].weight})
    learn(made, masks)
    keep = torch.ones_like(made[2].weight, dtype=torch.bool)
    keep[0, :3] = False
    masks.put("2.weight", keep)
    masks.settle()

    learn(made, masks, steps=3)

    assert torch.equal(made[2].weight == 0, ~keep)


def test_released_all_learn():
    made = net()
    masks = Masks.of_zeros({"0.weight": made[0].weight})
    masks.release()

    learn(made, masks)

    assert not (made[0].weight == 0).any()
