"""What a recipe will take: seconds, memory and disk, step by step.

The model is opened (its weights stay mapped files), the text is drawn, and every kind of step
tries what it would do. Seconds are those of the run itself, without the start of the process.
"""

from dataclasses import replace
from pathlib import Path

from babelpress.models.walk import Walk
from babelpress.models.weights import weights_hash
from babelpress.press.trial import timed
from babelpress.runs import fits
from babelpress.runs.open import open_any, with_known
from babelpress.runs.recipe import Recipe, Step
from babelpress.steps import KINDS
from babelpress.steps._estimating import Trial
from babelpress.steps._kind import Estimate
from babelpress.system.memory import used
from babelpress.text.draw import draw


def estimate(
    plan: Recipe, *, device: str = "cpu", offload: bool = False, near: Path | None = None
) -> list[Estimate]:
    """One estimate a step, of a run whose folder is to be made in `near`.

    Raises what opening the model and drawing the text raise, and where a step does not fit.
    """
    opened, open_seconds = timed(lambda: open_any(plan.model, device=device))
    walk = Walk(opened.model)
    fits.check(plan.model, walk, plan.steps, fits.pruned(plan.model))
    _, hash_seconds = timed(lambda: weights_hash(opened.model))
    plain = [each for each in plan.steps if not _own_text(each)]
    blocks, text_seconds = timed(lambda: draw(opened, plan.calibration).blocks if plain else {})
    base = used()
    open_again = 0.0
    if len(plan.steps) > 1:  # what a step made is hashed before it is opened
        open_again = hash_seconds + timed(lambda: open_any(plan.model, device=device))[1]
    trial = Trial(
        opened,
        plan.calibration,
        walk,
        blocks,
        near,
        offload,
        base,
        hash_seconds=hash_seconds,
        open_seconds=open_seconds,
        open_again=open_again,
        text_seconds=text_seconds,
    )
    return [
        KINDS.module(step.kind).estimate(
            replace(trial, opened=with_known(opened, plan.model, step, None)),
            step.work,
            chained=number > 0,
        )
        for number, step in enumerate(plan.steps)
    ]


def _own_text(step: Step) -> bool:
    """Whether a step reads other text than that of the calibration."""
    labelled = getattr(step.work, "task", None)
    return bool(labelled or KINDS.facts(step.kind).get("OWN_TEXT"))
