"""A teacher that learnt a little of the text, so that there is something to lose."""

import pico
from running import LANGUAGES

from babelpress.runs import recipe, run

LEARNS = {"repair": "text", "steps": 60, "batch": 512, "rate": 0.02, "embeddings": True}


def taught(place):
    """A two-block decoder in a folder of its own, which no run made."""
    pico.model().save_pretrained(place / "blank")
    pico.tokenizer().save_pretrained(place / "blank")
    text = {"languages": LANGUAGES, "tokens": 2048, "length": 32}
    steps = [{"recover": {**LEARNS, "evaluate": 60}}]
    asked = {"model": str(place / "blank"), "calibration": text, "steps": steps}
    run.do(recipe.of(asked), place / "run")
    (place / "run" / "model").rename(place / "taught")
    return place / "taught"
