"""Whether every step of a recipe fits a model: asked before the first of them is done.

Tested in tests/press/test_fitting.py.
"""

from collections.abc import Iterable, Sequence

from babelpress.errors import BabelpressError
from babelpress.models.open import Opened, open_shapes
from babelpress.models.walk import Walk
from babelpress.runs import manifest
from babelpress.runs.places import place_of, run_of
from babelpress.runs.recipe import Recipe, Step
from babelpress.steps import KINDS
from babelpress.steps._kind import StepReport


def chain(name: str, done: Iterable[StepReport] = ()) -> Sequence[StepReport]:
    """The steps that made a MODEL, if it is a run, and those since."""
    parent = run_of(name)
    known = manifest.read_if_there(parent) if parent else None
    return (*(known.chain if known else ()), *done)


def pruned(name: str, done: Iterable[StepReport] = ()) -> frozenset[str]:
    """What was pruned of a MODEL by the steps that made it, and by those since."""
    found: frozenset[str] = frozenset()
    for each in chain(name, done):
        found = each.pruned(found)
    return found


def check(name: str, walk: Walk, steps: Sequence[Step], were: frozenset[str]) -> None:
    """Raise what the first step that does not fit raises: BadLayer, BadSetting or BadModel.

    `were` is what was pruned before. A kind that changes shapes gives the model as it will be. What
    shapes follow a kind that does not say what it needs is not known here.
    """
    for step in steps:
        if (asks := KINDS.optional(step.kind, "check_pruned")) is not None:
            asks(name, step.work, were)
        were = step.work.prunes(were)
    for step in steps:
        asks = KINDS.optional(step.kind, "check")
        if asks is None:
            return
        walk = asks(name, walk, step.work) or walk


def check_text(opened: Opened, plan: Recipe, first: int) -> None:
    """Raise what a later step than the `first` raises for its text, read as the model before does.

    Not after one that changes the tokens, for then there are other ones.
    """
    for place, step in enumerate(plan.steps[first:]):
        if place and (asks := KINDS.optional(step.kind, "check_text")) is not None:
            asks(opened, plan.calibration, step.work)
        if KINDS.facts(step.kind).get("NEW_TOKENS"):
            return


def errors(plans: Sequence[Recipe]) -> list[str]:
    """Why each recipe cannot be done, from the configs of models; nothing where it can.

    Names of sites that only running a block tells are not looked for.
    """
    walks: dict[str, Walk] = {}
    found: list[str] = []
    for plan in plans:
        try:
            if plan.model not in walks:
                walks[plan.model] = Walk(open_shapes(place_of(plan.model)))
            check(plan.model, walks[plan.model], plan.steps, pruned(plan.model))
            found.append("")
        except BabelpressError as error:
            found.append(str(error))
    return found
