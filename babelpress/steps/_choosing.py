"""Choose what each block gets by measured losses: the table, the choice, trades.

The table is written as it is measured, so that a killed step goes on from its last block. Blocks
are pressed from moments of the dense model while they are measured, whatever they are fed in the
end.

Shapes: L languages, B blocks, O options.

Tested in tests/steps/test_choosing.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from babelpress.allocate import RULES
from babelpress.models.open import Opened
from babelpress.models.walk import Walk
from babelpress.models.weights import weights_hash
from babelpress.moments.calibrate import text_hash
from babelpress.press.blocks import find_all_folds, press_block
from babelpress.press.method import Method
from babelpress.press.reordering import find_all_reorders
from babelpress.press.sites import Means
from babelpress.registry import taken
from babelpress.steps import _holding, _tabling
from babelpress.steps._allocating import seen_of
from babelpress.steps._looking import Source
from babelpress.steps._offering import Choices, Offer, Shape
from babelpress.steps._pressing import PressingSettings
from babelpress.steps._tabling import Losses, Measure, Press
from babelpress.steps._training import checkpoints
from babelpress.system.files import read_json, write_sealed
from babelpress.system.offload import Hold
from babelpress.system.progress import Progress
from babelpress.text.held_out import HeldOut
from babelpress.text.settings import CalibrationSettings
from babelpress.train.batches import Blocks

TABLE = "checkpoint-table.json"  # beside the identity of what it is a table of


@dataclass(slots=True)
class Chooser:
    """A rule that goes by a table, at work in a step that presses sites.

    `told` is what the report keeps, once the method is known.
    """

    opened: Opened
    asked: CalibrationSettings
    settings: PressingSettings
    rule: str
    options: Mapping[str, Any]
    offer: Offer
    folder: Path
    hold: Hold
    progress: Progress
    held: dict[str, HeldOut] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def wanted(self) -> Any:
        """What the rule is asked for."""
        asks = RULES.optional(self.rule, "asked")
        assert asks is not None
        return asks(**taken(asks, self.options))

    def look(self, source: Source) -> None:
        """Hold text out of what is looked at. Raises BadCorpus, BadModel or BadSetting."""
        self.held = _holding.held(
            self.opened, self.asked, self.settings, source.languages, source.manifest
        )

    def allocate(
        self, walk: Walk, source: Source, method: Method, shares: Mapping[str, float]
    ) -> Method:
        """The method with what every block gets. Raises BadSetting where nothing fits."""
        shapes = _shapes(walk, source, method, shares)
        if not shapes:
            return method
        choices, module = self.offer(shapes, method), RULES.module(self.rule)
        module.check(choices.size_BO, choices.budget)
        text = _tabling.text_of(self.opened, {tag: h.blocks for tag, h in self.held.items()})
        at = _At(walk, source, method, shares, choices, text, self.hold)
        kept = _Kept(self._place(source, shares), text.languages())
        tags, table = kept.tags, kept.table(at, self.progress)
        loss_LBO = [[[row[tag] for row in of] for of in table] for tag in tags]
        plain, most = choices.even, 2 + self.wanted.trades

        def worst(chosen_B: Sequence[int]) -> float:
            losses = kept.measured(at, chosen_B)
            self.progress("whole models: measured", len(kept.tried), most)
            return max(losses.values())

        worst(plain)
        by_table = module.solve(loss_LBO, choices.size_BO, choices.budget)
        # Sums may mislead: then blocks are alike. From what is no option nothing can be traded.
        began = min([plain, by_table], key=worst) if plain else by_table
        traded = module.trade(
            began, loss_LBO, choices.size_BO, choices.budget, worst, self.wanted.trades
        )
        chosen = min([plain, traded.chosen], key=worst)
        self.told = {
            **_told(choices, self.held, tags, loss_LBO),
            "corpus": source.manifest["corpus"],
            "by_table": by_table,
            "plain": plain,
            "chosen": chosen,
            "tried": [{"chosen": [*key], "loss": loss} for key, loss in kept.tried.items()],
        }
        return choices.final(chosen)

    def _place(self, source: Source, shares: Mapping[str, float]) -> Path:
        """Where the table lies: beside what it hangs on."""
        work = {
            "model": weights_hash(self.opened.model),
            "settings": self.settings.model_dump(mode="json"),
            "text": self.asked.model_dump(mode="json"),
            "held_out": text_hash({tag: each.blocks for tag, each in self.held.items()}),
            "calibration": dict(source.manifest),
            "shares": dict(shares),
        }
        return checkpoints(
            self.folder, work, self.progress, "the table goes on from its last block"
        )


def _shapes(
    walk: Walk, source: Source, method: Method, shares: Mapping[str, float]
) -> dict[int, dict[str, Shape]]:
    """The shapes of what is to be pressed, of blocks that have any."""
    found: dict[int, dict[str, Shape]] = {}
    for index in range(len(walk.blocks)):
        weights, _ = seen_of(walk, index, source, method, shares)
        if weights:
            found[index] = {n: (each.shape[0], each.shape[1]) for n, each in weights.items()}
    return found


def _told(
    choices: Choices, held: Mapping[str, HeldOut], tags: Sequence[str], loss_LBO: Sequence[Any]
) -> dict[str, Any]:
    return {
        "options": choices.names,
        "asked": choices.asked,
        "blocks": choices.blocks,
        "sizes": [[each / choices.fine for each in row] for row in choices.size_BO],
        "budget": choices.budget / choices.fine,
        "loss": dict(zip(tags, loss_LBO, strict=True)),
        "tokens": {tag: held[tag].tokens for tag in tags},
        "split": {tag: held[tag].split for tag in tags},
    }


@dataclass
class _At:
    """A model, what is seen of it, and what its blocks may get."""

    walk: Walk
    source: Source
    method: Method
    shares: Mapping[str, float]
    choices: Choices
    text: Blocks
    hold: Hold

    @cached_property
    def measure(self) -> Measure:
        return Measure.of(self.walk, self.text, self.hold)

    @cached_property
    def folds(self) -> list[Any]:
        return find_all_folds(self.walk, self.method)

    @cached_property
    def reorders(self) -> list[Any]:
        return find_all_reorders(self.walk, self.method)

    def press(self, index: int, method: Method, means: Means | None = None) -> Press:
        """What presses a block in place."""

        @torch.no_grad()
        def press() -> None:
            press_block(
                self.walk,
                index,
                self.source.moments(index),
                method.at(index),
                self.shares,
                self.folds[index],
                means,
                self.reorders[index],
            )

        return press


class _Kept:
    """What was measured, in a file that is written whole after every measurement.

    `tried` are losses of whole models by the options chosen; of none it is the plain method.
    """

    def __init__(self, place: Path, tags: list[str]):
        self.tags = tags
        self._path = place / TABLE
        known = read_json(self._path) if self._path.exists() else {"blocks": [], "tried": []}
        self._blocks: list[list[Losses]] = known["blocks"]
        self.tried: dict[tuple[int, ...], Losses] = {
            tuple(each["chosen"]): each["loss"] for each in known["tried"]
        }

    def table(self, at: _At, progress: Progress) -> list[list[Losses]]:
        """What is lost by block and option; blocks that are known are passed through."""
        blocks = at.choices.blocks
        if len(self._blocks) == len(blocks):
            return self._blocks
        known, todo = len(self._blocks), at.measure.begins
        progress("table: block", known, len(blocks))
        for index in range(blocks[-1] + 1):
            place = blocks.index(index) if index in blocks else -1
            if place >= known:
                means = Means()
                presses = [at.press(index, each, means) for each in at.choices.methods]
                self._blocks.append(at.measure.of_block(index, todo, presses))
                self._write()
                progress("table: block", place + 1, len(blocks))
            if index < blocks[-1]:
                todo = at.measure.next(index, todo)
        return self._blocks

    def measured(self, at: _At, chosen_B: Sequence[int]) -> Losses:
        """What is lost where every block is pressed with what it was chosen."""
        key = tuple(chosen_B)
        if key not in self.tried:
            method = at.choices.final(chosen_B)
            number = len(at.walk.blocks)
            self.tried[key] = at.measure.of_all([at.press(b, method) for b in range(number)])
            self._write()
        return self.tried[key]

    def _write(self) -> None:
        tried = [{"chosen": [*key], "loss": loss} for key, loss in self.tried.items()]
        write_sealed(self._path, {"blocks": self._blocks, "tried": tried})
