"""What a recipe will take: seconds, memory and disk, step by step.

The model is opened (its weights stay mapped files), the text is drawn, and every kind of step
tries what it would do. Seconds are those of the run itself, without the start of the process.
"""

from dataclasses import replace
from pathlib import Path

from babelpress.models.reshaped import blank
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
    found: list[Estimate] = []
    shapes = walk
    for number, step in enumerate(plan.steps):
        own = _trained(trial, shapes) if KINDS.facts(step.kind).get("RESUMES") else trial
        own = replace(own, opened=with_known(own.opened, plan.model, step, None))
        found.append(KINDS.module(step.kind).estimate(own, step.work, chained=number > 0))
        if (asks := KINDS.optional(step.kind, "check")) is not None:
            shapes = asks(plan.model, shapes, step.work) or shapes
    return found


def _trained(trial: Trial, shapes: Walk) -> Trial:
    """What a step that trains is tried on: where shapes are others by then, a model of those.

    Its weights are drawn, which takes as long. One of another class is not made here: then it is
    tried on the model before. So are steps that press, block by block, for a whole model beside
    that before may be more than there is memory for.
    """
    model = trial.opened.model
    if shapes is trial.walk or type(shapes.model) is not type(model):
        return trial
    made = blank(model, shapes.model.config).to(model.device)  # type: ignore[arg-type]
    return replace(trial, opened=replace(trial.opened, model=made), walk=Walk(made))


def _own_text(step: Step) -> bool:
    """Whether a step reads other text than that of the calibration."""
    labelled = getattr(step.work, "task", None)
    return bool(labelled or KINDS.facts(step.kind).get("OWN_TEXT"))
