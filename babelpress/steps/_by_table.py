"""A rule that goes by measured losses, as steps say it: settings, words, an estimate.

What it does is in `_offering.py`, `_tabling.py` and `_choosing.py`.

Tested in tests/steps/test_choosing.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from babelpress.allocate import RULES, _options, by_table
from babelpress.errors import BadSetting
from babelpress.steps._kind import Estimate, Listing
from babelpress.steps._pressing import HoldsOut, PressingSettings
from babelpress.text.mixtures import MEASURED

if TYPE_CHECKING:
    from pathlib import Path

    from babelpress.models.open import Opened
    from babelpress.models.walk import Walk
    from babelpress.steps._choosing import Chooser
    from babelpress.steps._estimating import Trial
    from babelpress.system.offload import Hold
    from babelpress.system.progress import Progress
    from babelpress.text.settings import CalibrationSettings

DENSITIES, BITS = "densities", "bits"


class AllocatingSettings(PressingSettings):
    """Those of a kind of step whose blocks may get what measured losses say.

    A kind declares `allocate` and `allocation` itself, for its rules are its own.
    """

    if TYPE_CHECKING:
        allocate: str
        allocation: dict[str, Any]

    @model_validator(mode="after")
    def _measures_once(self) -> "AllocatingSettings":
        """Rounds of a mixture would each measure a table anew."""
        if self.mixture == MEASURED and self.goes_by_table:
            raise BadSetting(
                f"the mixture {MEASURED} and --allocate {self.allocate} both measure losses again "
                "and again, and are not done in one step. Give one of them."
            )
        return self

    @property
    def goes_by_table(self) -> bool:
        """Whether blocks get what they do by losses that are measured."""
        return by_table(self.allocate)

    @property
    def leaves_work(self) -> bool:
        """The table of losses too."""
        return super().leaves_work or self.goes_by_table

    @property
    def looks_twice(self) -> bool:
        """Minimax does, and what is measured before it is done."""
        return super().looks_twice or self.goes_by_table

    @property
    def holds_out(self) -> HoldsOut | None:
        """The table too."""
        return holds_out(self.allocate, self.allocation) or super().holds_out


def asked_of(rule: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a rule, read and not imported."""
    return {**RULES.options(rule), **options}


def check(rule: str, options: Mapping[str, Any], *, pattern: str = "", bits: int = 0) -> None:
    """Raise BadSetting for options of the other kind of step, or that leave nothing to choose."""
    if not by_table(rule):
        return
    own, other = (DENSITIES, BITS) if pattern else (BITS, DENSITIES)
    if other in options:
        what = "pruning has densities" if pattern else "quantization has bits"
        raise BadSetting(f"{rule}'s {other} has no effect here: {what}. Give {own}.")
    known = asked_of(rule, options)
    _options.check(known["tokens"], known["trades"])
    if pattern:
        _options.densities(pattern, known[own])
    else:
        _options.bits(bits, known[own])


def holds_out(rule: str, options: Mapping[str, Any]) -> HoldsOut | None:
    """What a table needs of text that is not calibrated on."""
    if not by_table(rule):
        return None
    return HoldsOut(f"--allocate {rule}", asked_of(rule, options)["tokens"])


def check_model(name: str, walk: "Walk", rule: str) -> None:
    """Raise BadModel for a model whose loss cannot be measured."""
    if by_table(rule):
        from babelpress.steps import _tabling

        _tabling.check(name, walk)


def chooser(
    opened: "Opened",
    asked: "CalibrationSettings",
    settings: Any,
    folder: "Path",
    hold: "Hold",
    progress: "Progress",
) -> "Chooser | None":
    """What chooses for a pruning or a quantizing step; None for another rule."""
    if not by_table(settings.allocate):
        return None
    from babelpress.steps import _choosing, _offering

    known = asked_of(settings.allocate, settings.allocation)
    if hasattr(settings, "pattern"):
        offer = _offering.pruning(settings.pattern, known[DENSITIES])
    else:
        offer = _offering.quantizing(settings.grid_of, settings.bits, known[BITS])
    return _choosing.Chooser(
        opened, asked, settings, settings.allocate, known, offer, folder, hold, progress
    )


# ---- words ---------------------------------------------------------------------------------


def names(table: Mapping[str, Any]) -> dict[int, float]:
    """What every block got; no choice at all is the plain method."""
    if not table["chosen"]:
        asked: float = table["asked"]
        return dict.fromkeys(table["blocks"], asked)
    pairs = zip(table["blocks"], table["chosen"], strict=True)
    return {block: table["options"][each] for block, each in pairs}


def measured(table: Mapping[str, Any], chosen: Sequence[int]) -> dict[str, float] | None:
    """What each language was measured to lose with a choice, None where it was not tried."""
    rows = (row["loss"] for row in table["tried"] if row["chosen"] == [*chosen])
    return next(rows, None)


def lines(rule: str, table: Mapping[str, Any]) -> list[str]:
    """What the language that loses most was measured to lose, and where all blocks are alike."""
    if not table:
        return []
    lost = measured(table, table["chosen"])
    assert lost is not None
    worst = max(lost, key=lambda tag: lost[tag])
    before = measured(table, table["plain"])
    assert before is not None
    beside = f", {max(before.values()):.4g} with all blocks alike"
    return [
        f"{rule}: {worst} loses most, {lost[worst]:.4g} nats a token{beside}, on text held out; "
        f"{len(table['tried'])} choices were measured."
    ]


def listings(
    rule: str, table: Mapping[str, Any], what: str, got: Mapping[int, float] | None = None
) -> tuple[Listing, ...]:
    """What each block `got`, and what the language that its option costs most loses by it alone.

    By default that is the option itself, as of bits; of pruning whole weights of rows are told.
    """
    if not table or not table["chosen"]:  # all alike, by no option of the table
        return ()
    rows: list[tuple[str, ...]] = []
    given = got or names(table)
    for at, block in enumerate(table["blocks"]):
        alone = {tag: rows[at][table["chosen"][at]] for tag, rows in table["loss"].items()}
        worst = max(alone, key=lambda tag: alone[tag])
        rows.append((str(block), f"{given[block]:.4g}", worst, f"{alone[worst]:.4g}"))
    head = ("block", what, "loses most by it alone", "nats a token")
    return (Listing(f"what {rule} gave each block", head, tuple(rows)),)


# ---- before it is done ---------------------------------------------------------------------


def estimated(found: Estimate, trial: "Trial", settings: Any) -> Estimate:
    """With what the table and the trades take: presses of all blocks, and passes over text."""
    if not by_table(settings.allocate) or not trial.blocks:
        return found
    from babelpress.press.trial import timed
    from babelpress.steps import _tabling

    known = asked_of(settings.allocate, settings.allocation)
    first = next(iter(trial.blocks.values()))
    few = {first.language: _tabling.at_most(first, known["tokens"])}
    text = _tabling.text_of(trial.opened, few)
    _, one = timed(lambda: _tabling.Measure.of(trial.walk, text).begins)
    options = len(
        _options.densities(settings.pattern, known[DENSITIES])
        if hasattr(settings, "pattern")
        else _options.bits(settings.bits, known[BITS])
    )
    whole = 2 + known["trades"]
    looks = one * len(trial.blocks) * (options * (1 + len(trial.walk.blocks)) / 2 + whole)
    press = (options + whole) * found.phases["press"]
    return replace(found, phases={**found.phases, "table": looks + press})
