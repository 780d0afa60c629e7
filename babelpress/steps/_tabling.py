"""What each language loses where blocks are pressed: KL(dense ‖ pressed) in nats a scored token.

The dense model is walked once. Before every block its hidden states are at hand: what the block
gives pressed goes through the dense blocks after it, and both ends are held against one another.
Logits are made of hidden states a slice of tokens at a time, the dense ones once for all options of
a block, so that memory does not grow with the text or the vocabulary.

Shapes: N scored tokens, V vocabulary, K options, B texts, T positions.

Tested in tests/steps/test_tabling.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from babelpress.errors import BadModel, NotFinite
from babelpress.models.open import Opened
from babelpress.models.reading import sees_both_sides
from babelpress.models.reshaped import META
from babelpress.models.walk import Walk
from babelpress.moments import gather
from babelpress.moments.gather import batch_size, pass_on
from babelpress.press.undone import undone
from babelpress.steps._learnt import marks_of, rows_of
from babelpress.system.offload import Hold, in_memory
from babelpress.text.token_blocks import TokenBlocks
from babelpress.train.batches import Batch, Blocks
from babelpress.train.reading import Reader, Said

Losses = dict[str, float]  # nats a token by language
Press = Callable[[], object]  # changes a block in place


# ---- text ----------------------------------------------------------------------------------


def check(name: str, walk: Walk) -> None:
    """Raise BadModel for a model that is seen to predict no tokens of one text."""
    seen = walk.model.device.type != META
    if walk.model.config.is_encoder_decoder or (seen and Reader.of(walk.model).answers != "tokens"):
        raise BadModel(
            f"{name} ({type(walk.model).__name__}) does not predict next or hidden tokens of one "
            "text, whose loss a table of blocks is made of. Use another --allocate."
        )


def text_of(opened: Opened, blocks: Mapping[str, TokenBlocks]) -> Blocks:
    if sees_both_sides(opened.model) and opened.tokenizer.mask_token_id is None:  # type: ignore[attr-defined]
        raise BadModel(
            f"the tokenizer of {opened.name} has no mask token, so that no loss can be measured. "
            "Use another --allocate."
        )
    marks, scores = marks_of(opened, "tokens")
    return Blocks(blocks, marks, scores)


def at_most(blocks: TokenBlocks, tokens: int) -> TokenBlocks:
    few = rows_of(blocks, slice(max(1, tokens // blocks.length)))
    return TokenBlocks(few.language, few.ids_BT[:, :tokens], few.counted_BT[:, :tokens])


# ---- losses --------------------------------------------------------------------------------


@dataclass(slots=True)
class Measure:
    """A dense model and text: what is lost where its blocks are pressed.

    `begins` are the hidden states of the text before the first block, `ends` those after the last.
    """

    walk: Walk
    reader: Reader
    hold: Hold
    batches: list[Batch] = field(default_factory=list)
    begins: list[gather.Batch] = field(default_factory=list)
    ends: list[gather.Batch] = field(default_factory=list)

    @classmethod
    @torch.no_grad()
    def of(cls, walk: Walk, text: Blocks, hold: Hold = in_memory) -> "Measure":
        """Run the dense model once."""
        made = cls(walk, Reader.of(walk.model), hold)
        for tag in text.languages():
            rng = np.random.default_rng([0, crc32(tag.encode())])  # of what an encoder does not see
            size = batch_size(walk, text.blocks[tag].length)
            for start in range(0, text.number(tag), size):
                batch = text.some(tag, start, size, rng).to(walk.model.device)
                hidden_BTH = walk.start(batch.ids_BT, hold)
                made.batches.append(batch)
                made.begins.append(gather.Batch(tag, hidden_BTH, (batch.read_BT,)))
        made.ends = made.onward(0, made.begins)
        return made

    def onward(self, first: int, todo: Sequence[gather.Batch]) -> list[gather.Batch]:
        """Hidden states after the last block, of those that enter block `first`."""
        passed = [*todo]
        for index in range(first, len(self.walk.blocks)):
            passed = pass_on(self.walk, index, passed, hold=self.hold)
        return passed

    def next(self, index: int, todo: Sequence[gather.Batch]) -> list[gather.Batch]:
        """What a block, as it is now, makes of hidden states."""
        return pass_on(self.walk, index, [*todo], hold=self.hold)

    def of_block(
        self, index: int, todo: Sequence[gather.Batch], presses: Sequence[Press]
    ) -> list[Losses]:
        """What is lost where one block is pressed, for every way to press it (K,).

        `todo` are the dense hidden states that enter it.
        """
        ends: list[list[gather.Batch]] = []
        for press in presses:
            with undone([self.walk.blocks[index]], in_memory):  # a copy of one block
                press()
                passed = self.next(index, todo)
            ends.append(self.onward(index + 1, passed))
        return self.losses(ends)

    def of_all(self, presses: Sequence[Press]) -> Losses:
        """What is lost where every block is pressed, in its own way (B,)."""
        todo = [*self.begins]
        for index, press in enumerate(presses):
            with undone([self.walk.blocks[index]], in_memory):  # a copy of one block
                press()
                todo = self.next(index, todo)
        return self.losses([todo])[0]

    @torch.no_grad()
    def losses(self, ends: Sequence[Sequence[gather.Batch]]) -> list[Losses]:
        """KL(dense ‖ pressed) for every set of hidden states after the last block (K,).

        Raises NotFinite where a model gives no numbers.
        """
        sums: list[Losses] = [{} for _ in ends]
        count: dict[str, int] = {}
        for place, batch in enumerate(self.batches):
            tag = batch.languages_B[0]
            dense, *others = [self._said(batch, each[place]) for each in (self.ends, *ends)]
            count[tag] = count.get(tag, 0) + int(batch.scored_BT.sum())
            for number, part in enumerate(dense.parts):
                log_NV = part().log_softmax(-1)
                for total, other in zip(sums, others, strict=True):
                    lost = float(divergence(log_NV, other.parts[number]().log_softmax(-1)))
                    total[tag] = total.get(tag, 0.0) + lost
        found = [{tag: total[tag] / max(1, count[tag]) for tag in count} for total in sums]
        for each in found:
            for tag, lost in each.items():
                if not np.isfinite(lost):
                    raise NotFinite(
                        f"what {type(self.walk.model).__name__} loses in {tag} is {lost}: it gives "
                        "no numbers. Look for NaN or infinity in the model."
                    )
        return found

    def _said(self, batch: Batch, end: gather.Batch) -> Said:
        with self.walk.ending(end.hidden_BTH):
            return self.reader.read(batch)


def divergence(log_p_NV: Tensor, log_q_NV: Tensor) -> Tensor:
    """Σ p·ln(p/q) over tokens and vocabulary, in float32 terms that are summed in float64.

    Summed is q − p + p·ln(p/q), which comes to the same and is never negative: what is lost is of
    second order, and roundings of the plain terms are not, so that they would drown it.
    """
    p_NV, apart_NV = log_p_NV.exp(), log_p_NV - log_q_NV
    excluded_NV = log_p_NV == -torch.inf
    apart_NV.masked_fill_(excluded_NV, 0.0)
    near_NV = p_NV * (torch.expm1(-apart_NV) + apart_NV)  # the same without its cancellation
    far_NV = log_q_NV.exp() - p_NV + p_NV * apart_NV
    small_NV = (apart_NV.abs() < 1) & ~excluded_NV
    return torch.where(small_NV, near_NV, far_NV).sum(dtype=torch.float64)
