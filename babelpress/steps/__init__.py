"""Kinds of steps. The folder is the registry: `steps/prune.py` is the step `prune`.

A kind is a module with

    class Settings(StepSettings)   its values, each with its help: the command `babelpress KIND`,
                                   the recipe's `- KIND: {…}`, sweeps and docs are made of them
    class Report(StepReport)       what a finished step leaves in the manifest
    def say(settings) -> str       what is asked for, in a few words
    def do(opened, calibration, settings, folder, *, hold, progress) -> Done
    def tell(report) -> Told       how terminal, card and report page speak of it
    def estimate(trial, settings, *, chained) -> Estimate
    def check(name, walk, settings)   what shapes tell: raises before any step of a recipe is done;
                                   a kind may lack it, and then nothing after it is checked so;
                                   one that changes shapes gives a walk over the model as it will be
    def check_text(opened, calibration, settings)   what its text tells, of the model before any
                                   step: raises before they are done; a kind may lack it
    def follows(settings, before)  raises BadSetting where it cannot come after the steps before it
                                   in a recipe, (kind, settings) of each; a kind may lack it
    def parts(settings)            the steps that one is short for, (kind, settings) of each;
                                   nothing where it is one itself; a kind may lack it
    def check_pruned(name, settings, pruned)   raises where a model in which those parts were
                                   pruned is none for it; a kind may lack it
    EXAMPLE = "babelpress …"       a line for help
    LAST = "…"                     why nothing can follow it, where nothing can but what GOES_ON
    GOES_ON = True                 where it leaves zeros, integers and shapes as they are
    KEEPS_WEIGHTS = True           where the linears of blocks stay what they were
    DENSE = True                   where it holds a model against a dense one: `against`, by default
                                   the model that everything began with
    HEADS = True                   where the model has another head afterwards, which its settings
                                   name: `head`
    OWN_TEXT = True                where its settings say which text it reads: it has no use for
                                   that of a calibration
    NEW_TOKENS = "…"               why what knows tokens by number cannot follow it in a recipe
    NEW_SHAPES = "…"               why moments of the model before cannot be read after it
    RESUMES = True                 where it leaves in its folder, under TRAINING, what it goes on
                                   with when it was killed; it says itself of what that is

Modules of this room import what computes inside their functions only: help, cards and reports read
them without it.
"""

from typing import Any

from babelpress.errors import BadRun, UnknownName
from babelpress.registry import Registry
from babelpress.steps._kind import StepReport

KINDS = Registry(__name__, __path__, "kind of step", ("do",))


def report_of(row: Any) -> StepReport:
    """The report of a finished step from what is written of it.

    Raises BadRun for a kind that is not known here, ValidationError for values that are damaged.
    """
    if not isinstance(row, dict):
        raise BadRun(f"what a step left behind is {row!r}, and no mapping.")
    try:
        kind = KINDS.module(str(row.get("kind", "prune")))
    except UnknownName as error:
        raise BadRun(f"a step of a kind that is not known here: {error}") from error
    return kind.Report.model_validate(row)
