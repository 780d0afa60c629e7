"""Small runs, and what lies in their folders."""

import json
from typing import Any

import pico
import pytest
import torch
from safetensors.torch import load_file

from babelpress.runs import recipe, run
from babelpress.system.files import read_json

LANGUAGES = ["swh_Latn", "amh_Ethi", "hin_Deva"]
TEXT = {"languages": LANGUAGES, "tokens": 256, "length": 64}


def plan(model, *steps, **text):
    """A recipe of small steps; wanda at 0.25 where a step says nothing else."""
    found = [{"prune": {"pattern": "0.25", **step}} for step in steps or ({},)]
    return recipe.of({"model": str(model), "calibration": {**TEXT, **text}, "steps": found})


def quantizing(model, *before, **step):
    """A recipe that ends with quantizing."""
    found = plan(model, *before) if before else plan(model)
    data = found.model_dump(mode="json")
    kept = data["steps"] if before else []
    data["steps"] = [*kept, {"quantize": {"group": 16, **step}}]
    return recipe.of(data)


def do(asked, out, **options):
    """Do a recipe; its manifest as it is written."""
    run.do(asked, out, **options)
    return read_json(out / "manifest.json")


def loud(folder):
    """A saved model that says something, so that pressing costs it something."""
    model: Any = pico.model()
    for each in model.parameters():
        each.data.mul_(4)
    model.save_pretrained(folder)
    pico.tokenizer().save_pretrained(folder)
    return folder


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def same_weights(one, other):
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def content(folder):
    """Every file by its path; the JSON files without their cost."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        found[name] = path.read_bytes()
        if name == "manifest.json" or name.endswith("report.json"):
            value = json.loads(found[name])
            assert value.pop("cost")
            found[name] = value
    return found


def stop_in_step(number):
    """Progress that interrupts when the first block of step `number` is pressed."""
    pressed = []

    def watch(what, done, total):
        if done == 1 and what.endswith("block") and "calibrate" not in what:
            pressed.append(what)
            if len(pressed) == number:
                raise KeyboardInterrupt

    return watch


def refusal(kind, function, *arguments, **options):
    """The one line that a user gets to see."""
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
