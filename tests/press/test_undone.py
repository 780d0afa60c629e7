"""A model that was pressed to see what comes of it is as it was before."""

import pico
import pytest
import torch
from pressing import SHARES, dense_moments

from babelpress.models.walk import Walk
from babelpress.numerics.grids import Grid
from babelpress.press.blocks import press_dense
from babelpress.press.method import Pruner, Quantizer
from babelpress.press.undone import undone
from babelpress.system.offload import in_memory, on_disk

METHODS = {
    "sparsegpt": lambda: Pruner.of("sparsegpt", "1of4"),
    "awq": lambda: Quantizer.of("awq", Grid(3, 16)),  # scales norms too
    "ria": lambda: Pruner.of("ria", "2of4", {"permute": True}),  # puts neurons in another order
}


@pytest.mark.parametrize("offloads", [False, True])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3_moe", "albert"])
def test_every_number_is_what_it_was_and_where_it_was(family, name, offloads, tmp_path):
    walk = Walk(pico.model(family))
    moments = dense_moments(walk)
    before = {key: each.clone() for key, each in walk.model.state_dict().items()}
    places = {key: each.data_ptr() for key, each in walk.model.state_dict().items()}
    hold = on_disk(tmp_path) if offloads else in_memory

    with undone(walk.blocks, hold):
        press_dense(walk, moments.__getitem__, METHODS[name](), SHARES, hold=hold)
        inside = {key: each.clone() for key, each in walk.model.state_dict().items()}

    assert any(not torch.equal(before[key], each) for key, each in inside.items())
    after = walk.model.state_dict()
    assert all(torch.equal(before[key], each) for key, each in after.items())
    assert places == {key: each.data_ptr() for key, each in after.items()}


def test_so_it_is_where_pressing_fails():
    layer = torch.nn.Linear(5, 3)
    before = layer.weight.clone()

    with pytest.raises(KeyboardInterrupt), undone([layer], in_memory), torch.no_grad():
        layer.weight.mul_(2)
        raise KeyboardInterrupt

    assert torch.equal(layer.weight, before)


def test_parameters_that_are_one_stay_one_inside():
    one, other = torch.nn.Linear(5, 3), torch.nn.Linear(5, 3)
    other.weight = one.weight

    with undone([one, other, one], in_memory), torch.no_grad():
        one.weight.add_(1)
        assert torch.equal(one.weight, other.weight)

    assert one.weight is other.weight
