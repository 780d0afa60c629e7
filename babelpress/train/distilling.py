"""Distillation: a student learns what its teacher says, a batch of languages a step.

It is watched on text held apart, never that of tests (watched.py). A step is a function of its
number, the shares and the weights alone.

Shapes: B texts, N scored tokens, P positions that are no padding, H hidden size.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from babelpress.distill import OBJECTIVES
from babelpress.distill._seen import Pairing, Seen, Truth, divergence
from babelpress.errors import BadModel, NotFinite
from babelpress.models.recording import CANNOT_READ
from babelpress.registry import taken
from babelpress.train.batches import Batch, Mixed, Text
from babelpress.train.reading import Reader, Said
from babelpress.train.watched import Measured, Watched

TOKENS = ("next", "hidden")  # what is scored of text, where a head predicts tokens
MAPPED = 32  # texts that maps of widths are fitted on, at least one of each language
DAMP = 1e-3  # of that fit, in mean diagonals
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


class _Apart(NamedTuple):
    """What is found on text held apart: the distance, and where tokens are scored the losses of
    the student and of the teacher in nats."""

    distance: float
    own: float
    its: float


@dataclass(slots=True)
class Distillation(Watched):
    """A teacher, its pupil and what is learnt from.

    Where tokens are scored the reference is the teacher's loss on text held apart; where they are
    not there is none, and what is watched is the distance to the teacher. All languages that there
    is text of are watched.
    """

    teacher: Reader
    reader: Reader
    pupil: Pupil
    objectives: tuple[Objective, ...]
    text: Text
    apart: Text
    batch: int
    layers: tuple[int, ...] = ()

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
        for tag, scored_T in zip(batch.languages_B, batch.scored_BT, strict=True):
            self.tokens[tag] = self.tokens.get(tag, 0) + int(scored_T.sum())
        total = self._of(batch)
        for each in self.objectives:
            if pairing := each.function("pairing"):
                mixed = Mixed.of(batch, pairing(batch.languages_B, rng))
                total = total + self._mixed(mixed, each)
        return total

    # ---- what is watched -------------------------------------------------------------------

    @torch.no_grad()
    def refer(self) -> None:
        """Find the teacher's losses, before anything is trained.

        Raises NotFinite naming a language.
        """
        if self.apart.scores not in TOKENS:
            return
        self.reference = {tag: self._apart(tag).its for tag in self.watching()}
        for tag, loss in self.reference.items():
            if not math.isfinite(loss):
                raise NotFinite(
                    f"the loss of the teacher in {tag} is {loss}: look for NaN in its weights, or "
                    "give another one."
                )

    def measured(self) -> Measured:
        """The losses on text held apart, and the distance to the teacher.

        Of logits it is KL(teacher ‖ student) in nats a scored token, of states the objective.
        """
        found = {tag: self._apart(tag) for tag in self.watching()}
        for tag, each in found.items():
            if not math.isfinite(each.distance):
                raise NotFinite(
                    f"the distance of the student to its teacher in {tag} is {each.distance}: "
                    "lower --rate, and look for NaN in the student that it began with"
                    f"{'' if self.reference else ' and in its teacher'}."
                )
        distances = {tag: each.distance for tag, each in found.items()}
        losses = {tag: each.own for tag, each in found.items()} if self.reference else distances
        return Measured(losses, distances)

    def learns(self) -> Mapping[str, nn.Parameter]:
        """The student; maps are dropped."""
        own = self.pupil.student.named_parameters()
        return {name: each for name, each in own if each.requires_grad}

    def settle(self) -> None:
        """All of a student may change."""

    def watching(self) -> Sequence[str]:
        """All languages that there is text of."""
        return self.apart.languages()

    @torch.no_grad()
    def fit_maps(self) -> None:
        """Let maps of widths begin as what fits the teacher's states best on some text.

        W = Σ t sᵀ (Σ s sᵀ + λ)⁻¹, λ a thousandth of the mean diagonal, for states s of the student
        and t of the teacher.
        """
        maps = [each for each in self.pupil.maps if isinstance(each, nn.Linear)]
        if not maps:
            return
        few, rng = max(1, MAPPED // len(self.shares)), np.random.default_rng(self.seed)
        mine: list[list[Tensor]] = [[] for _ in self.layers]
        its: list[list[Tensor]] = [[] for _ in self.layers]
        for tag in self.shares:
            batch = self.text.some(tag, 0, few, rng).to(self.device)
            student = self.reader.read(batch, hidden=range(len(self.layers))).hidden
            teacher = self.teacher.read(batch, hidden=self.layers).hidden
            for some, found in ((mine, student), (its, teacher)):
                for rows, each in zip(some, found, strict=True):
                    rows.append(each.double())
        for place, each in enumerate(maps):
            own_PH, wanted_PH = torch.cat(mine[place]), torch.cat(its[place])
            gram_HH = own_PH.T @ own_PH
            gram_HH.diagonal().add_(DAMP * gram_HH.diagonal().mean())
            each.weight.copy_(torch.linalg.solve(gram_HH, own_PH.T @ wanted_PH).T)

    @property
    def device(self) -> torch.device:
        """Where all is computed."""
        return self.pupil.student.device

    def _of(self, batch: Batch, name: str = "loss") -> Tensor:
        """The objectives' losses of text as it is, or what they have of another `name`."""
        student = self.reader.read(batch, hidden=range(len(self.layers)))
        with torch.no_grad():
            teacher = self.teacher.read(batch, hidden=self.layers)
        total = self._zero()
        truth = Truth.plain(batch.target_BT[batch.scored_BT])
        for each in self.objectives:
            if (loss := each.function(name) or each.function("loss")) is None:
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
    def _apart(self, tag: str) -> "_Apart":
        """What is found on a language's text held apart, mean over what is scored."""
        rng = np.random.default_rng([self.seed, crc32(tag.encode())])
        sums, count = np.zeros(len(_Apart._fields)), 0
        was_training = self.pupil.training
        self.pupil.eval()
        try:
            for start in range(0, self.apart.number(tag), self.batch):
                batch = self.apart.some(tag, start, self.batch, rng).to(self.device)
                scored = int(batch.scored_BT.sum())
                number = scored or len(batch.ids_BT)
                if scored:
                    sums += self._said(batch)
                else:
                    sums[0] += number * self._of(batch, "distance").item()
                count += number
        finally:
            self.pupil.train(was_training)
        return _Apart(*(sums / count).tolist())

    def _said(self, batch: Batch) -> np.ndarray:
        """Sums over scored tokens: KL(teacher ‖ student), the student's loss, the teacher's."""
        student, teacher = self.reader.read(batch), self.teacher.read(batch)
        targets = batch.target_BT[batch.scored_BT].split(student.rows)
        sums = np.zeros(len(_Apart._fields))
        for mine, its, target_N in zip(student.parts, teacher.parts, targets, strict=True):
            own, other = Seen(mine()), Seen(its())
            sums[0] += len(target_N) * divergence(own, other).item()
            sums[1] += cross_entropy(own.logits_NV, target_N, reduction="sum").item()
            sums[2] += cross_entropy(other.logits_NV, target_N, reduction="sum").item()
        return sums

    def _zero(self) -> Tensor:
        return torch.zeros((), device=self.device)


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
