"""Distillation objectives. The folder is the registry: `distill/hinton.py` is `hinton`.

An objective is a module with one or more of these functions, and constants where they hold:

    def loss(student, teacher, truth, *, option=default, ...) -> a scalar
                        of one batch of text as it is
    def mixed_loss(student, teacher, truth, *, option=default, ...) -> a scalar
                        where both are also run on a mixture of two texts' embeddings: of that
    def pairing(languages_B, draw, *, option=default, ...) -> Pairing
                        which text is mixed with which, and how much of it; with mixed_loss
    def teacher_blocks(student, teacher, *, option=default) -> list[int]
                        with READS = "hidden": which of the teacher's blocks each of the student's
                        is held against, by number
    def distance(student, teacher, truth, *, option=default, ...) -> a scalar
                        with READS = "hidden": the distance to the teacher where a model predicts no
                        token; by default the loss
    def unit(*, option=default) -> str
                        with READS = "hidden": what that is counted in
    READS = "logits" or "hidden"   what its losses read of `Seen`
    WITHIN = {"option": (least, most)}   the values that a number may have
    PAPER = "…"         authors, year, number, equation
    DIFFERS = ("…",)    where it differs from the paper or its code

Losses are means over scored tokens (or labelled texts), so that those of parts of a batch, weighted
by their tokens, give that of the whole. They are pure and differentiable with respect to the
student; the teacher comes without gradients. Their keyword arguments are the objective's options.

Shapes: B texts, N scored tokens, P tokens that are no padding, V vocabulary or labels, H hidden.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from babelpress.errors import BadSetting
from babelpress.registry import Registry

FUNCTIONS = ("loss", "mixed_loss", "pairing", "teacher_blocks")
OBJECTIVES = Registry(__name__, __path__, "distillation objective", FUNCTIONS)


def by_objective(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The options of each objective, from OPTION=VALUE or OBJECTIVE.OPTION=VALUE.

    Raises BadSetting for an option that none of them has, that several have where it names none, or
    for a value outside what it may be; UnknownName for an objective.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    known = {name: OBJECTIVES.options(name) for name in names}
    for key, value in given.items():
        place, _, option = key.rpartition(".")
        takes = [name for name in names if option in known[name] and place in ("", name)]
        if not takes and len(names) == 1:
            OBJECTIVES.check_options(names[0], {key: value})
        if not takes:
            have = ", ".join(f"{name}.{each}" for name in names for each in known[name])
            raise BadSetting(f"no objective here has an option {key}. They have {have or 'none'}.")
        if len(takes) > 1:
            named = " or ".join(f"{name}.{option}" for name in takes)
            raise BadSetting(f"{' and '.join(takes)} both have an option {option}. Write {named}.")
        found[takes[0]][option] = value
    for name, options in found.items():
        OBJECTIVES.check_values(name, options)
        _check_within(name, options)
    return found


def _check_within(name: str, options: Mapping[str, Any]) -> None:
    within: Mapping[str, Any] = OBJECTIVES.facts(name).get("WITHIN", {})
    for option in sorted(set(options) & set(within)):
        allowed, value = within[option], options[option]
        if isinstance(allowed[0], str):
            if value not in allowed:
                raise BadSetting(f"{name}'s {option} is {value!r}. Use {' or '.join(allowed)}.")
        elif not allowed[0] <= value <= allowed[1]:
            raise BadSetting(
                f"{name}'s {option} is {value}. Use a number from {allowed[0]:g} to {allowed[1]:g}."
            )
