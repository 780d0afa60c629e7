"""What blocks are worth to each language, and what a model makes of text before and after.

Text is looked at that lies apart from that of the calibration where there is some: the valid split.

Tested in tests/steps/test_shrink.py.

Shapes: N blocks, L languages.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from babelpress.errors import BadSetting
from babelpress.models.open import Opened
from babelpress.models.reading import sees_both_sides
from babelpress.models.recording import hidden_of
from babelpress.models.reshaped import META
from babelpress.models.walk import Walk
from babelpress.moments.gather import batch_size
from babelpress.numerics.joining import joined, level
from babelpress.press.trial import timed
from babelpress.shrink import blocks
from babelpress.shrink import width as channels
from babelpress.steps import _estimating
from babelpress.steps._estimating import Trial
from babelpress.steps._kind import Estimate
from babelpress.steps._learnt import marks_of, rows_of, valid_text
from babelpress.steps.shrink import LOSS, Settings
from babelpress.system.offload import Hold, in_memory
from babelpress.system.progress import Progress, silent
from babelpress.text.calibration import CalibrationSet
from babelpress.text.settings import CalibrationSettings
from babelpress.text.token_blocks import TokenBlocks
from babelpress.train.batches import Blocks
from babelpress.train.likelihood import nats
from babelpress.train.reading import Reader

LOOKED = 512  # tokens of a language at most: a head of many tokens takes longer than all blocks


@dataclass(frozen=True, slots=True)
class Looked:
    """Text that a model is looked at on, none where it predicts no tokens; `of_train` are the
    languages whose text is that of the calibration, `none` is a line on why there is no text."""

    text: Blocks | None
    of_train: tuple[str, ...] = ()
    none: str = ""

    @classmethod
    def of(
        cls,
        opened: Opened,
        asked: CalibrationSettings,
        settings: Settings,
        drawn: CalibrationSet | None,
    ) -> "Looked":
        """Raises BadSetting for --by loss of a model that predicts no tokens."""
        found = cls._of(opened, asked, drawn)
        if settings.blocks and settings.by == LOSS and found.text is None:
            raise BadSetting(_predicts_none(opened.name, opened.model))
        return found

    @classmethod
    def _of(
        cls, opened: Opened, asked: CalibrationSettings, drawn: CalibrationSet | None
    ) -> "Looked":
        if drawn is None:
            return cls(None, none="No loss is shown: --moments have no text. Evaluate the run.")
        no_tokens = cls(
            None,
            none=f"No loss is shown: {type(opened.model).__name__} with its tokenizer does not "
            "predict next or hidden tokens of one text. Evaluate the run.",
        )
        if opened.model.config.is_encoder_decoder:
            return no_tokens
        if (answers := Reader.of(opened.model).answers) != "tokens":
            return no_tokens
        if sees_both_sides(opened.model) and opened.tokenizer.mask_token_id is None:  # type: ignore[attr-defined]
            return no_tokens
        marks, scores = marks_of(opened, answers)
        valid = valid_text(opened, asked, drawn.blocks, LOOKED)
        of_train = tuple(tag for tag in drawn.blocks if tag not in valid)
        text = {tag: valid.get(tag) or _few(each) for tag, each in drawn.blocks.items()}
        return cls(Blocks(text, marks, scores), of_train)

    def within(self, tags: Collection[str]) -> "Looked":
        """Of these languages alone."""
        if self.text is None:
            return self
        own = {tag: each for tag, each in self.text.blocks.items() if tag in tags}
        return replace(self, text=replace(self.text, blocks=own))

    def nats(self, model: PreTrainedModel, progress: Progress = silent) -> dict[str, float]:
        """The loss of each language, nothing where there is no text."""
        if self.text is None:
            return {}
        return nats(Reader.of(model), self.text, progress=progress)

    def told(self) -> dict[str, Any]:
        """What a report tells of the text."""
        if self.text is None:
            return {}
        tokens = {tag: int(each.counted_BT.sum()) for tag, each in self.text.blocks.items()}
        where = "valid text"
        if len(self.of_train) == len(tokens):
            where = "text of the calibration itself"
        elif self.of_train:
            where = f"valid text, in {', '.join(self.of_train)} that of the calibration"
        return {"text": where, "tokens": tokens}


def check_predicts(name: str, walk: Walk, settings: Settings) -> None:
    """Raise BadSetting for --by loss of a model that is seen to predict no tokens of one text.

    What its tokenizer lacks is seen when text is drawn; without weights, only the config.
    """
    if settings.by != LOSS:
        return
    seen = walk.model.device.type != META
    if walk.model.config.is_encoder_decoder or (seen and Reader.of(walk.model).answers != "tokens"):
        raise BadSetting(_predicts_none(name, walk.model))


def _predicts_none(name: str, model: PreTrainedModel) -> str:
    return (
        f"--by loss needs a model that predicts next or hidden tokens of one text, and {name} "
        f"({type(model).__name__}) with its tokenizer does not. Use --by influence."
    )


def _few(text: TokenBlocks) -> TokenBlocks:
    """The first LOOKED tokens."""
    few = rows_of(text, slice(max(1, LOOKED // text.length)))
    return TokenBlocks(few.language, few.ids_BT[:, :LOOKED], few.counted_BT[:, :LOOKED])


# ---- blocks --------------------------------------------------------------------------------


def of_blocks(
    walk: Walk,
    settings: Settings,
    drawn: CalibrationSet,
    looked: Looked,
    before: Mapping[str, float],
    tags: Collection[str],
    hold: Hold,
    progress: Progress,
) -> dict[str, list[float]]:
    """What each block is worth to these languages: its influence, or the share lost without it."""
    if settings.by != LOSS:
        some = {tag: each for tag, each in drawn.blocks.items() if tag in tags}
        return blocks.influence(walk, some, hold=hold, progress=progress)
    looked = looked.within(tags)
    found: dict[str, list[float]] = {tag: [] for tag in before if tag in tags}
    progress("loss without: block", 0, len(walk.blocks))
    for index, block in enumerate(walk.blocks):
        with passed_by(block):
            for tag, without in looked.nats(walk.model).items():
                found[tag].append(without / before[tag] - 1)
        progress("loss without: block", index + 1, len(walk.blocks))
    return found


@contextmanager
def passed_by(*some: nn.Module) -> Iterator[None]:
    """Inside, these blocks give what they are given."""

    def instead(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        hidden = hidden_of(args, kwargs)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handles = [each.register_forward_hook(instead, with_kwargs=True) for each in some]
    try:
        yield
    finally:
        for each in handles:
            each.remove()


def joined_over(
    worth: Mapping[str, list[float]], shares: Mapping[str, float], settings: Settings
) -> list[float]:
    """One number of each block, over the languages with a share.

    Influences of languages are put on one scale; losses are shares of each language's own.
    """
    tags = [tag for tag in worth if shares.get(tag, 0) > 0]
    score_LN = torch.tensor([worth[tag] for tag in tags], dtype=torch.float64)
    if settings.by != LOSS:
        score_LN = torch.stack([level(score_N) for score_N in score_LN])
    share_L = torch.tensor([shares[tag] for tag in tags], dtype=torch.float64)
    return joined(score_LN, share_L, settings.over).tolist()


# ---- before it is done ---------------------------------------------------------------------


def estimate(trial: Trial, settings: Settings, method: Any, *, chained: bool) -> Estimate:
    """What shrinking will take: one batch through the first block, and one of text looked at."""
    walk, opened = trial.walk, trial.opened
    looking = influence = 0.0
    if trial.blocks and not settings.moments:
        first = next(iter(trial.blocks.values()))
        size = batch_size(walk, first.length)
        some = {first.language: first.rows(slice(0, size))}
        number = sum(-(-len(each.ids_BT) // size) for each in trial.blocks.values())
        looked = Looked._of(opened, trial.asked, CalibrationSet(dict(some), {}))
        _, look = timed(lambda: looked.nats(opened.model))
        looking = 2 * look * len(trial.blocks)
        if settings.blocks and settings.by == LOSS:
            influence = look * len(trial.blocks) * len(walk.blocks)
        elif settings.blocks:
            _, one = timed(lambda: blocks.influence(walk.only(1), some, hold=in_memory))
            influence = one * number * len(walk.blocks)
        if settings.width:  # a pass to see what channels are worth, and one for the fit
            _, one = timed(lambda: blocks.influence(walk.only(1), some, hold=in_memory))
            influence += (2 if settings.fit else 1) * one * number * len(walk.blocks)
    dense = sum(each.numel() for each in opened.model.parameters()) * opened.stored_dtype.itemsize
    if settings.narrows:
        found = _estimating.pressing(trial, settings, method, chained=chained)
    else:
        opening = trial.hash_seconds + (trial.open_again if chained else trial.open_seconds)
        found = Estimate({"open": opening, "text": trial.text_seconds}, trial.base, dense)
    phases = {**found.phases, "look": looking, "influence": influence}
    wide = 0  # what it says is looked at in float32
    if opened.model.dtype.itemsize < torch.float32.itemsize:
        wide = sum(each.numel() for each in opened.model.parameters()) * torch.float32.itemsize
    wide = max(wide, _thinner(trial, settings))
    return replace(found, phases=phases, memory_bytes=found.memory_bytes + dense + wide)


def _thinner(trial: Trial, settings: Settings) -> int:
    """Bytes in float32 while channels go: a model with zeros, what is cut out of it, and the
    narrower model that this is put into."""
    if not settings.width:
        return 0
    walk = trial.walk
    own = channels.find(trial.opened.name, walk, settings.width, settings.multiple)
    numbers = sum(each.numel() for each in walk.model.parameters())
    return round(torch.float32.itemsize * numbers * (1 + 2 * own.after / own.before))
