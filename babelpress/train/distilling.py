"""Distillation: a student learns what its teacher says, a batch of languages a step.

The languages of a batch are drawn by shares. Those are given once, or follow what each language
lacks: the student's distance to its teacher on text that is held apart (never that of tests), found
anew at every evaluation. A step is a function of its number, the shares and the weights alone.

Shapes: B texts, N scored tokens, P positions that are no padding, H hidden size.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from babelpress.distill import OBJECTIVES
from babelpress.distill._seen import Pairing, Seen, Truth, divergence
from babelpress.errors import BadModel, NotFinite
from babelpress.models.recording import CANNOT_READ
from babelpress.registry import taken
from babelpress.train.batches import Batch, Mixed, Text
from babelpress.train.reading import Reader, Said

FLOOR = 0.2  # of all draws, shared evenly: a language that lacks nothing now may lack it later
Loss = Callable[[Seen, Seen, Truth], Tensor]


class Pupil(nn.Module):
    """A student, and the maps of its states to the widths of its teacher, which are dropped."""

    def __init__(self, student: PreTrainedModel, widths: Sequence[tuple[int, int]], seed: int = 0):
        super().__init__()
        self.student = student
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.maps = nn.ModuleList(
                nn.Identity() if own == theirs else nn.Linear(own, theirs, bias=False)
                for own, theirs in widths
            ).to(student.device)
        self.train(student.training)


@dataclass(frozen=True, slots=True)
class Objective:
    """An objective with its options."""

    name: str
    options: Mapping[str, Any]

    @property
    def reads(self) -> str:
        """`logits` or `hidden`."""
        return OBJECTIVES.facts(self.name)["READS"]

    def function(self, name: str) -> Callable[..., Any] | None:
        """One of its functions with the options that it has; None where there is none."""
        found = OBJECTIVES.optional(self.name, name)
        if found is None:
            return None
        own = taken(found, self.options)
        return lambda *given: found(*given, **own)


@dataclass(slots=True)
class Distillation:
    """A teacher, its pupil and what is learnt from; `shares` say how languages are drawn.

    It is the memory of its training: shares that were found, and the distances so far, the first of
    which are those before it began.
    """

    teacher: Reader
    reader: Reader
    pupil: Pupil
    objectives: tuple[Objective, ...]
    text: Text
    apart: Text
    batch: int
    seed: int
    shares: dict[str, float]
    lacking: bool = False
    layers: tuple[int, ...] = ()
    distances: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @torch.no_grad()
    def check(self) -> None:
        """Raise BadModel where student and teacher do not answer alike, or cannot read mixed text.

        Both are run on one text.
        """
        rng = np.random.default_rng(self.seed)
        batch = self.text.some(next(iter(self.shares)), 0, 1, rng).to(self.device)
        said = [each.read(batch) for each in (self.reader, self.teacher)]
        mine, its = ([part().shape[-1] for part in each.parts[:1]] for each in said)
        if mine != its or self.reader.answers != self.teacher.answers:
            raise BadModel(
                f"the student answers with {sum(mine)} numbers and its teacher with {sum(its)}: "
                "they need the same head. Give a student of the same vocabulary and kind."
            )
        if not any(each.function("pairing") for each in self.objectives):
            return
        alone = Mixed.of(batch, Pairing(np.zeros(1, dtype=np.int64), np.ones(1)))
        for each in (self.reader, self.teacher):
            try:
                each.read_mixed(alone)
            except CANNOT_READ as error:
                raise BadModel(
                    f"{type(each.model).__name__} cannot read embeddings in place of tokens, so "
                    "texts cannot be mixed. Use --objective hinton."
                ) from error

    def loss(self, step: int) -> Tensor:
        """The loss of a step: the sum of the objectives'."""
        rng = np.random.default_rng([self.seed, step])
        tags = list(self.shares)
        drawn = rng.choice(len(tags), size=self.batch, p=list(self.shares.values()))
        batch = self.text.draw([tags[place] for place in drawn], rng).to(self.device)
        total = self._of(batch, "loss")
        for each in self.objectives:
            if pairing := each.function("pairing"):
                mixed = Mixed.of(batch, pairing(batch.languages_B, rng))
                total = total + self._mixed(mixed, each)
        return total

    def evaluate(self) -> dict[str, float]:
        """The distance to the teacher by language, which is remembered; shares may follow it.

        Of logits it is KL(teacher ‖ student) in nats a scored token, of states the objective.
        """
        found = {tag: self._distance(tag) for tag in self.shares}
        for tag, distance in found.items():
            if not math.isfinite(distance):
                raise NotFinite(
                    f"the distance of the student to its teacher in {tag} is {distance}: lower "
                    "--rate, and look for NaN in the student that it began with."
                )
        self.distances.append(found)
        if self.lacking:
            self.shares = lacking(found)
        return found

    def state(self) -> dict[str, Any]:
        """What later steps hang on, and what is told of the steps so far."""
        return {"shares": self.shares, "distances": self.distances, "losses": self.losses}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with what `state` gave."""
        order = list(self.shares)
        self.shares = {tag: state["shares"][tag] for tag in order}
        self.distances = [{tag: each[tag] for tag in order} for each in state["distances"]]
        self.losses = list(state["losses"])

    @property
    def device(self) -> torch.device:
        """Where all is computed."""
        return self.pupil.student.device

    def _of(self, batch: Batch, name: str) -> Tensor:
        """The objectives' losses of text as it is."""
        student = self.reader.read(batch, hidden=range(len(self.layers)))
        with torch.no_grad():
            teacher = self.teacher.read(batch, hidden=self.layers)
        total = self._zero()
        truth = Truth.plain(batch.target_BT[batch.scored_BT])
        for each in self.objectives:
            if (loss := each.function(name)) is None:
                continue
            if each.reads == "hidden":
                total = total + loss(*self._states(student, teacher), truth)
            else:
                total = total + _in_parts(loss, student, teacher, truth)
        return total

    def _mixed(self, mixed: Mixed, objective: Objective) -> Tensor:
        """An objective's loss of mixed text; none where no place is scored in both texts."""
        loss = objective.function("mixed_loss")
        if loss is None or not bool(mixed.scored_BT.any()):
            return self._zero()
        with torch.no_grad():
            teacher = self.teacher.read_mixed(mixed)
        share_BT = mixed.share_B[:, None].expand(mixed.scored_BT.shape)
        truth = Truth(
            *(each[mixed.scored_BT] for each in (mixed.target_BT, mixed.other_target_BT, share_BT))
        )
        return _in_parts(loss, self.reader.read_mixed(mixed), teacher, truth)

    def _states(self, student: Said, teacher: Said) -> tuple[Seen, Seen]:
        """States, in float32, in the teacher's widths."""
        nothing = self._zero()
        mapped = zip(self.pupil.maps, student.hidden, strict=True)
        mine = tuple(each(states.float()) for each, states in mapped)
        return Seen(nothing, mine), Seen(nothing, tuple(each.float() for each in teacher.hidden))

    @torch.no_grad()
    def _distance(self, tag: str) -> float:
        rng = np.random.default_rng([self.seed, crc32(tag.encode())])
        total, count = 0.0, 0
        was_training = self.pupil.training
        self.pupil.eval()
        try:
            for start in range(0, self.apart.number(tag), self.batch):
                batch = self.apart.some(tag, start, self.batch, rng).to(self.device)
                scored = int(batch.scored_BT.sum())
                number = scored or len(batch.ids_BT)
                total += number * (self._kl(batch) if scored else self._of(batch, "loss")).item()
                count += number
        finally:
            self.pupil.train(was_training)
        return total / count

    def _kl(self, batch: Batch) -> Tensor:
        student, teacher = self.reader.read(batch), self.teacher.read(batch)
        truth = Truth.plain(batch.target_BT[batch.scored_BT])
        return _in_parts(lambda mine, its, _: divergence(mine, its), student, teacher, truth)

    def _zero(self) -> Tensor:
        return torch.zeros((), device=self.device)


def lacking(distances: Mapping[str, float]) -> dict[str, float]:
    """Shares in proportion to what each language lacks, FLOOR of all evenly; even where none does.

    p_l = FLOOR/L + (1 − FLOOR)·d_l / Σ d
    """
    total, even = sum(distances.values()), 1 / len(distances)
    if total <= 0:
        return dict.fromkeys(distances, even)
    return {tag: FLOOR * even + (1 - FLOOR) * each / total for tag, each in distances.items()}


def layer_map(objectives: Sequence[Objective], student: int, teacher: int) -> tuple[int, ...]:
    """The teacher's block that each of the student's is held against; none where none is."""
    found = (each.function("teacher_blocks") for each in objectives)
    return next((tuple(each(student, teacher)) for each in found if each is not None), ())


def _in_parts(loss: Loss, student: Said, teacher: Said, truth: Truth) -> Tensor:
    """The mean loss over scored tokens, a part of them at a time; on the way back anew."""
    whole = len(truth.target_N)
    total = truth.share_N.new_zeros(())
    parts = list(zip(student.parts, teacher.parts, truth.split(student.rows), strict=True))

    def of_part(mine: Any, its: Any, some: Truth) -> Tensor:
        with torch.no_grad():
            said = its()
        return loss(Seen(mine()), Seen(said), some) * len(some.target_N) / whole

    for part in parts:
        if len(parts) == 1:
            total = total + of_part(*part)
        else:
            total = total + checkpoint(of_part, *part, use_reentrant=False)
    return total
