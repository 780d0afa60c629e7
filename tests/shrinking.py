"""Models with something to take out, and plans that do."""

import pico
import torch
from running import TEXT
from transformers import AutoModelForCausalLM

from babelpress.runs import recipe

BLOCKS, WIDTH = 4, 48
SMALL = {"multiple": 4}


def made(family="llama", **values):
    """A model of four blocks whose blocks change much of what they pass on."""
    config = pico.model(family).config
    config.num_hidden_layers = BLOCKS
    for name, value in values.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def saved(model, folder):
    """The model with its tokenizer, in a folder."""
    model.save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    return folder


def plan(model, *steps, **text):
    """A recipe; a step without a name is a shrinking."""
    given = [{"shrink": {**SMALL, **step}} if "prune" not in step else step for step in steps]
    return recipe.of({"model": str(model), "calibration": {**TEXT, **text}, "steps": given})
