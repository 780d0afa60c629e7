"""Training on fixed blocks: what is done in the steps of the one loop (fit.py).

The loss is of the next token, or of hidden ones. Three things differ from a plain training, each
measured in LOG.md on two CPU cores:

- weights may be bfloat16, for the optimizer keeps a float32 master copy (four times as fast as
  autocast there);
- the logits of the next tokens of a batch never exist at once: that loss is summed over slices of
  positions; of hidden tokens only these have logits;
- matrices inside the blocks are updated by Muon (Jordan et al. 2024, `torch.optim.Muon`), the
  embedding and the norms by AdamW.

Shapes: N blocks, B sequences, T positions, H hidden size, V vocabulary.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import AdamW, Muon, Optimizer
from torch.utils.checkpoint import checkpoint
from transformers import DataCollatorForLanguageModeling, PreTrainedModel

from babelpress.errors import BadSetting
from babelpress.models.stacks import find_stacks
from babelpress.models.tokenizers import check_known, vocabulary_of
from babelpress.text.translations import IGNORED
from babelpress.train.batches import Batch
from babelpress.train.data import Sequences
from babelpress.train.fit import Loss, fit
from babelpress.train.reading import Reader


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn; learning rates fall linearly to zero after `constant`."""

    steps: int
    batch: int = 48  # sequences in a step
    muon_rate: float = 0.02
    adam_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup: int = 100  # steps
    constant: float = 0.3  # share of the run before the rates fall
    checkpoint: int = 250  # steps between checkpoints
    compile: bool = True

    def factor(self, step: int) -> float:
        """What both learning rates are multiplied with at `step`."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        fall = self.steps * self.constant
        if step <= fall:
            return 1.0
        return max(0.0, (self.steps - step) / (self.steps - fall))


class MasterWeights(Optimizer):
    """Low-precision parameters, updated through float32 copies by the optimizers inside.

    `inner` maps masters to an optimizer; its groups are this optimizer's groups, so a
    scheduler that sets a rate here sets it there.
    """

    def __init__(self, pairs: list[tuple[list[nn.Parameter], Callable[[list[Tensor]], Optimizer]]]):
        self.live: list[nn.Parameter] = []
        self.masters: list[Tensor] = []
        self.inner: list[Optimizer] = []
        for parameters, build in pairs:
            masters = [p.detach().float().clone() for p in parameters]
            self.live += parameters
            self.masters += masters
            self.inner.append(build(masters))
        super().__init__([{"params": self.masters}], {})
        self.param_groups = [group for inner in self.inner for group in inner.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        assert closure is None  # nobody evaluates the loss again within a step
        for live, master in zip(self.live, self.masters, strict=True):
            master.grad = None if live.grad is None else live.grad.float()
        for inner in self.inner:
            inner.step()
        for live, master in zip(self.live, self.masters, strict=True):
            live.copy_(master)

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: ARG002 - torch's signature
        for live in self.live:
            live.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {
            "masters": [master.clone() for master in self.masters],
            "inner": [inner.state_dict() for inner in self.inner],
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for master, saved in zip(self.masters, state_dict["masters"], strict=True):
            master.copy_(saved)
        for inner, saved in zip(self.inner, state_dict["inner"], strict=True):
            inner.load_state_dict(saved)
        # load_state_dict replaces the groups inside: share the new ones again
        self.param_groups = [group for inner in self.inner for group in inner.param_groups]


def sliced_loss(model: PreTrainedModel, ids_BT: Tensor, slice_length: int = 2048) -> Tensor:
    """Mean next-token loss in nats, the logits made `slice_length` positions at a time.

    The way back makes them once more, slice by slice: one more product with the head is the
    price for not keeping the logits of all slices until then.
    """
    hidden_BTH = model.base_model(ids_BT, use_cache=False).last_hidden_state
    hidden_PH = hidden_BTH[:, :-1].reshape(-1, hidden_BTH.shape[-1])
    target_P = ids_BT[:, 1:].reshape(-1)
    head = model.get_output_embeddings()
    total = hidden_PH.new_zeros((), dtype=torch.float32)
    for hidden, target in zip(
        hidden_PH.split(slice_length), target_P.split(slice_length), strict=True
    ):
        total = total + checkpoint(_summed_loss, head, hidden, target, use_reentrant=False)
    return total / target_P.numel()


def _summed_loss(head: nn.Module, hidden_PH: Tensor, target_P: Tensor) -> Tensor:
    return cross_entropy(head(hidden_PH).float(), target_P, reduction="sum")


def masked_loss(reader: Reader, ids_BT: Tensor, labels_BT: Tensor) -> Tensor:
    """Mean loss in nats of the tokens that are hidden: those whose label is not -100."""
    hidden_BT = labels_BT != IGNORED
    everywhere_BT = torch.ones_like(hidden_BT)
    nobody = ("",) * len(ids_BT)
    said = reader.read(Batch(nobody, ids_BT, everywhere_BT, everywhere_BT, hidden_BT, labels_BT))
    target_N = labels_BT[hidden_BT]
    sums = [
        cross_entropy(logits(), some_N, reduction="sum")
        for logits, some_N in zip(said.parts, target_N.split(said.rows), strict=True)
    ]
    return torch.stack(sums).sum() / target_N.numel()


def optimizer(model: PreTrainedModel, schedule: Schedule) -> MasterWeights:
    """Muon for the matrices of the blocks, AdamW for embeddings, head, norms and biases."""
    blocks = [block for stack in find_stacks(model) for block in stack.blocks]
    inside = {id(p) for block in blocks for p in block.parameters() if p.ndim == 2}
    matrices, others = [], []
    for parameter in model.parameters():
        (matrices if id(parameter) in inside else others).append(parameter)
    decay = schedule.weight_decay
    return MasterWeights(
        [
            (matrices, lambda p: Muon(p, lr=schedule.muon_rate, weight_decay=decay, momentum=0.95)),
            (others, lambda p: AdamW(p, lr=schedule.adam_rate, betas=(0.9, 0.95), weight_decay=0)),
        ]
    )


def train(
    model: PreTrainedModel,
    ids_NT: np.ndarray,
    order: Iterable[int],
    out: str | Path,
    *,
    schedule: Schedule,
    seed: int = 0,
    hide: DataCollatorForLanguageModeling | None = None,
) -> PreTrainedModel:
    """Train `model` on blocks in the given order; resume from the last checkpoint under `out`.

    `hide` hides tokens of an encoder, anew at every reading; without it the next token is
    predicted. The order must hold at least steps x batch block numbers. Raises BadSetting
    otherwise, when the weights are float16, or when the loss becomes NaN or infinite; BadModel when
    it has no embedding for a token.
    """
    order = np.asarray(list(order) if not isinstance(order, np.ndarray) else order)
    if len(order) < schedule.steps * schedule.batch:
        raise BadSetting(
            f"{schedule.steps} steps of {schedule.batch} blocks need "
            f"{schedule.steps * schedule.batch} blocks; the order names {len(order)}. "
            "Give fewer steps or more blocks."
        )
    check_known(int(ids_NT.max()), vocabulary_of(model), "the blocks")
    if model.dtype not in (torch.bfloat16, torch.float32):
        raise BadSetting(f"the model is {model.dtype}; train() takes bfloat16 or float32 weights.")
    data = Sequences(ids_NT, order[: schedule.steps * schedule.batch])
    loss = _of_next if hide is None else partial(_of_hidden, hide=hide)
    fit(
        model,
        loss(model, data, schedule),
        Path(out),
        steps=schedule.steps,
        optimizer=optimizer(model, schedule),
        factor=schedule.factor,
        checkpoint=schedule.checkpoint,
        seed=seed,
    )
    return model


def _blocks(data: Sequences, step: int, batch: int) -> list[Tensor]:
    return [data[place] for place in range(step * batch, (step + 1) * batch)]


def _of_next(model: PreTrainedModel, data: Sequences, schedule: Schedule) -> Loss:
    """The loss of the next tokens, by step."""
    of_batch = torch.compile(sliced_loss) if schedule.compile else sliced_loss

    def loss(step: int) -> Tensor:
        return of_batch(model, torch.stack(_blocks(data, step, schedule.batch)).to(model.device))

    return loss


def _of_hidden(
    model: PreTrainedModel,
    data: Sequences,
    schedule: Schedule,
    hide: DataCollatorForLanguageModeling,
) -> Loss:
    """The loss of hidden tokens, by step; not compiled, for their number is another each time."""
    drops = model.training
    reader = Reader.of(model.eval())
    model.train(drops)

    def loss(step: int) -> Tensor:
        blocks = [{"input_ids": each_T} for each_T in _blocks(data, step, schedule.batch)]
        batch = hide(blocks).to(model.device)
        return masked_loss(reader, batch["input_ids"], batch["labels"])

    return loss
