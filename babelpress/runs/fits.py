"""Whether every step of a recipe fits a model: asked before the first of them is done.

Tested in tests/press/test_fitting.py.
"""

from collections.abc import Iterable, Sequence

from babelpress.errors import BabelpressError
from babelpress.models.open import open_shapes
from babelpress.models.walk import Walk
from babelpress.runs.places import place_of
from babelpress.runs.recipe import Recipe, Step
from babelpress.steps import KINDS


def check(name: str, walk: Walk, steps: Iterable[Step]) -> None:
    """Raise what the first step that does not fit raises: BadLayer, BadSetting or BadModel.

    A kind that changes shapes gives the model as it will be. What follows a kind that does not say
    what it needs is not known here.
    """
    for step in steps:
        asks = KINDS.optional(step.kind, "check")
        if asks is None:
            return
        walk = asks(name, walk, step.work) or walk


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
            check(plan.model, walks[plan.model], plan.steps)
            found.append("")
        except BabelpressError as error:
            found.append(str(error))
    return found
