"""Fine-tuning of an encoder on labelled texts of several languages at once.

An epoch has as many texts as there are in all languages together; of each language as many as its
share says, so that one with few texts is read more often and one with many not to its end, every
time another part. Texts of all languages are mixed in a batch. The loss is the mean cross entropy
of the labels in a batch: of the first tokens of words, or of whole texts.

After every epoch the dev texts are scored. The best epoch, by the mean over languages, is the one
that counts; training ends early where `patience` epochs in a row were no better.

Shapes: B pieces, T positions, N labels, C labels that there are, W words.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from babelpress.errors import BadRun
from babelpress.numerics.apportioning import by_largest_remainder
from babelpress.system.files import load_tensors, save_tensors
from babelpress.text.labelled import Labelled
from babelpress.text.pieces import Piece, padded
from babelpress.train.batches import Example

BEST = "best-{}.safetensors"  # the weights after an epoch
TOGETHER = 8  # texts that a processor runs at once


def examples_of(
    pieces: Sequence[Piece], documents: Sequence[Labelled], labels: Sequence[str]
) -> list[Example]:
    """Pieces of documents with the numbers of their labels."""
    number = {label: place for place, label in enumerate(labels)}
    found: list[Example] = []
    for piece in pieces:
        own = documents[piece.document].labels[piece.first : piece.first + len(piece.places_W)]
        own = own or documents[piece.document].labels
        tokens = tuple(int(each) for each in piece.ids_T)
        found.append(Example(tokens, piece.places_W, tuple(number[each] for each in own)))
    return found


class Adapting(Protocol):
    """What is done to the weights that learn besides learning."""

    def at(self, step: int, /) -> None:
        """Before a step."""
        ...

    def settle(self) -> None:
        """After one."""
        ...

    def ready(self, step: int, /) -> bool:
        """Whether the model is after so many steps what it is to be, so that it may be the best."""
        ...

    def finish(self) -> None:
        """When all is learnt."""
        ...


@dataclass(slots=True)
class Finetuning:
    """A model with a head, what it learns from, and how it is scored; the memory of its training.

    `scores` are those of every epoch by language, `losses` its mean losses.
    """

    model: PreTrainedModel
    examples: Mapping[str, Sequence[Example]]
    shares: Mapping[str, float]
    score: Callable[[], dict[str, float]]
    batch: int
    epochs: int
    patience: int
    seed: int
    place: Path
    adapting: Sequence[Adapting] = ()
    scores: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    best: int = -1
    _since: list[float] = field(default_factory=list)
    _order: tuple[int, list[tuple[str, int]]] = (-1, [])

    @property
    def steps_of_epoch(self) -> int:
        """Batches of an epoch, the last of which may be smaller."""
        return -(-sum(map(len, self.examples.values())) // self.batch)

    @property
    def steps(self) -> int:
        """Of all epochs."""
        return self.epochs * self.steps_of_epoch

    def order(self, epoch: int) -> list[tuple[str, int]]:
        """The language and the number of every text of an epoch."""
        if self._order[0] != epoch:
            self._order = epoch, self._drawn(epoch)
        return self._order[1]

    def loss(self, step: int) -> Tensor:
        """The loss of a step, which hangs on its number and the weights alone."""
        for each in self.adapting:
            each.at(step)
        epoch, place = divmod(step, self.steps_of_epoch)
        drawn = self.order(epoch)[place * self.batch : (place + 1) * self.batch]
        return mean_loss(self.model, [self.examples[tag][number] for tag, number in drawn])

    def after(self, step: int, loss: float) -> bool:
        """Score after an epoch; whether it was the last."""
        for each in self.adapting:
            each.settle()
        if not self._waits():  # a killed training had ended already
            return True
        self._since.append(loss)
        if step % self.steps_of_epoch:
            return False
        self.losses.append(float(np.mean(self._since)))
        self._since.clear()
        self.scores.append(self.score())
        epoch = len(self.scores) - 1
        if all(each.ready(step) for each in self.adapting):
            self._compare(epoch)
        return not self._waits()

    def state(self) -> dict[str, Any]:
        """What later steps hang on, and what is told of the epochs so far."""
        return {
            "scores": self.scores,
            "losses": self.losses,
            "best": self.best,
            "since": self._since,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with what `state` gave."""
        tags = list(self.examples)
        self.scores = [{tag: each[tag] for tag in tags} for each in state["scores"]]
        self.losses, self.best = list(state["losses"]), int(state["best"])
        self._since = list(state["since"])

    def load_best(self) -> None:
        """Put the weights of the best epoch into the model, which is done.

        Raises BadRun where they are gone.
        """
        path = self.place / BEST.format(self.best)
        found = load_tensors(path, error=BadRun)
        with torch.no_grad():
            for name, live in _learning(self.model).items():
                live.copy_(found[name])
        for each in self.adapting:
            each.finish()
        self.model.requires_grad_(True)

    def _waits(self) -> bool:
        """Whether another epoch may still be better."""
        waited = len(self.scores) - 1 - self.best
        return not self.patience or self.best < 0 or waited < self.patience

    def _compare(self, epoch: int) -> None:
        """Keep the weights of an epoch that is the best so far.

        Those before it go an epoch later: until then a checkpoint may still count on them.
        """
        for path in self.place.glob(BEST.format("*")):
            if path.name != BEST.format(self.best):
                path.unlink()
        if self.best < 0 or _mean(self.scores[epoch]) > _mean(self.scores[self.best]):
            tensors = {name: each.detach() for name, each in _learning(self.model).items()}
            save_tensors(self.place / BEST.format(epoch), tensors)
            self.best = epoch

    def _drawn(self, epoch: int) -> list[tuple[str, int]]:
        rng = np.random.default_rng([self.seed, epoch])
        total = sum(map(len, self.examples.values()))
        found: list[tuple[str, int]] = []
        for tag, count in by_largest_remainder(self.shares, total).items():
            number = len(self.examples[tag])
            whole = list(range(number)) * (count // number) if number else []
            rest = rng.permutation(number)[: count - len(whole)].tolist()
            found += [(tag, each) for each in (*whole, *rest)]
        return [found[place] for place in rng.permutation(len(found))]


def mean_loss(model: PreTrainedModel, batch: Sequence[Example]) -> Tensor:
    """The mean cross entropy of all labels of a batch, in nats.

    On a processor, where padding costs as much as text does, short texts are run apart from long
    ones: the sum is the same, but that dropout draws other numbers than for all at once.
    """
    rows = sorted(batch, key=lambda each: len(each.tokens))
    size = TOGETHER if model.device.type == "cpu" else len(rows)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    number = sum(len(each.labels_W) for each in batch)
    return torch.stack([_summed_loss(model, each) for each in parts]).sum() / number


def _summed_loss(model: PreTrainedModel, rows: Sequence[Example]) -> Tensor:
    """The sum over the labels of texts that are run together."""
    pad = getattr(model.config, "pad_token_id", None) or 0
    ids_BT, mask_BT = padded([each.tokens for each in rows], pad)
    head: Any = model(ids_BT.to(model.device), attention_mask=mask_BT.to(model.device))
    logits = head.logits.float()
    label_N = torch.tensor([label for each in rows for label in each.labels_W])
    if rows[0].places_W:
        row_N = [row for row, each in enumerate(rows) for _ in each.places_W]
        place_N = [place for each in rows for place in each.places_W]
        logits = logits[row_N, place_N]
    return cross_entropy(logits, label_N.to(model.device), reduction="sum")


def _learning(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: each for name, each in model.named_parameters() if each.requires_grad}


def _mean(scores: Mapping[str, float]) -> float:
    return float(np.mean(list(scores.values())))
