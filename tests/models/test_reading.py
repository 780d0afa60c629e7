"""Which families read text on both sides, and how many tokens they take."""

import pico
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from babelpress.models.reading import positions_of, sees_both_sides


@pytest.mark.parametrize("family", pico.EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_encoders_read_on_both_sides_and_decoders_on_one(family, dtype):
    assert sees_both_sides(pico.model(family, dtype=dtype)) is (family not in pico.FAMILIES)


@pytest.mark.parametrize(("family", "most"), [("bert", 128), ("xlm_roberta", 128), ("llama", 128)])
def test_positions_are_those_that_text_can_have(family, most):
    """Of 131 rows of a RoBERTa three are of its padding, the third token."""
    model = pico.model(family)

    assert positions_of(model) == most
    if family != "llama":  # rotary embeddings have no end
        with torch.no_grad():
            model.base_model(torch.full((1, most), 5))
            with pytest.raises((IndexError, RuntimeError)):
                model.base_model(torch.full((1, most + 1), 5))


def test_a_model_without_a_limit_has_none():
    assert positions_of(pico.model("bloom")) is None
    assert positions_of(GPT2LMHeadModel(GPT2Config(n_positions=64, n_layer=1))) == 64
