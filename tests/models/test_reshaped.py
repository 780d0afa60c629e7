"""Models of other shapes: no weights where none are needed, nothing of the model is touched."""

import pico
import pytest
import torch

from babelpress.models.reshaped import bare, blank, filled, misfits


@pytest.mark.parametrize("family", ["llama", "gemma3", "bert", "m2m_100"])
def test_a_bare_model_has_the_shapes_and_no_numbers(family):
    model = pico.model(family)
    before = torch.random.get_rng_state()

    made = bare(model)

    assert made.device.type == "meta"
    assert not misfits(made, model.state_dict())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_tensors_of_another_shape_or_name_are_named():
    model = pico.model("llama")
    tensors = dict(model.state_dict())
    tensors["model.norm.weight"] = torch.ones(31)
    tensors["more"] = torch.ones(1)
    del tensors["model.layers.1.mlp.up_proj.weight"]

    wrong = misfits(blank(model, model.config), tensors)

    assert wrong == ["more", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"]


def test_a_filled_model_is_its_own():
    model = pico.model("llama")
    made = blank(model, model.config)
    filled(model, made, model.state_dict())
    ids_BT = torch.arange(3, 20)[None]

    assert torch.equal(pico.passed(made, ids_BT)[0], pico.passed(model, ids_BT)[0])
    made.model.norm.weight.data.zero_()
    assert model.model.norm.weight.any()
    assert made.config is not model.config
