"""What to do for a model and these languages: ways to press it by as much, narrowed by rounds.

    OUT/runs/FINGERPRINT/            every way, an ordinary run; OUT is a sweep
    OUT/scores/KEY/NAME/             scores of those that were left, and of the dense model
    OUT/repaired/FINGERPRINT/        the best and the plain one, repaired

Successive halving (Jamieson and Talwalkar 2016): the first round scores every arm (arms.py) on a
third of the documents that choose; the better half, and what follows from it, is scored on two
thirds; what is left of these on all. A round ends the search where the best one's worst loss is
known to be less than that of all others (judge/contest.py): where the paired interval of every
difference leaves zero out, in documents enough. That keeps no level over several looks; what is
told in the end is on documents that chose nothing, beside the plain arm: the first method with
uniform mixture.

Tested in tests/sweeps/test_advice.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babelpress import evals
from babelpress.errors import BadRun
from babelpress.judge import scores
from babelpress.judge.contest import Difference, Entrant, difference, difference_of_means, entrant
from babelpress.judge.settings import EvaluationSettings
from babelpress.sweeps import arms
from babelpress.sweeps.again import Rescore, recover_step, repair
from babelpress.sweeps.arms import Arm
from babelpress.sweeps.plan import short
from babelpress.sweeps.rounds import Rounds, Tried, base_of
from babelpress.sweeps.setup import Hands, Setup
from babelpress.system.claims import held
from babelpress.system.progress import Progress, remark, silent
from babelpress.text.settings import CalibrationSettings

SCORES, DENSE = "scores", "dense"
THIRDS = 3  # of the documents that choose, one more in every round
LEFT = 3  # arms of the last round, beside the plain one
FIRST, CROSSING, REPAIRING = 0.4, 0.65, 0.25  # shares of the time


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be known: a kind of step and how much it takes, as settings of that step."""

    model: str
    kind: str
    amount: Mapping[str, Any]
    minutes: float
    calibration: CalibrationSettings
    chooses: EvaluationSettings
    proves: EvaluationSettings
    english: bool
    prior: bool

    @property
    def on(self) -> str:
        """The one evaluation."""
        return self.chooses.on[0]

    def round(self, number: int) -> EvaluationSettings:
        """What the first, second and third round are scored on."""
        documents = max(1, self.chooses.documents * number // THIRDS)
        return self.chooses.model_copy(update={"documents": documents})


@dataclass(frozen=True, slots=True)
class Standing:
    """An arm in the last round that it was scored in; `documents` are those of a language."""

    arm: Arm
    folder: Path
    entrant: Entrant
    documents: int


@dataclass(frozen=True, slots=True)
class Proved:
    """A model on text that chose nothing."""

    label: str
    arm: Arm
    repaired: bool
    folder: Path
    entrant: Entrant


@dataclass(frozen=True, slots=True)
class Advice:
    """What came of it.

    `worst` and `mean` are what the best arm loses more than the plain one on text that chose
    nothing, None where the plain one is the best; `repaired` the same once both were repaired, None
    where they were not.
    """

    best: Arm
    plain: Arm
    standings: tuple[Standing, ...]
    proofs: tuple[Proved, ...]
    worst: Difference | None
    mean: Difference | None
    repaired: Difference | None
    notes: tuple[str, ...]

    @property
    def known(self) -> bool:
        """Whether the best arm is known to cost the worst language less than the plain one."""
        return self.worst is not None and self.worst.known and self.worst.value < 0


class Advise:
    """A search in a folder, with hands that do its jobs."""

    def __init__(self, asked: Asked, setup: Setup, hands: Hands, progress: Progress = silent):
        self.asked, self.out, self.progress = asked, setup.out, progress
        self.rounds = Rounds(setup, hands, asked.minutes, progress)
        self.plain = Arm(arms.METHODS[asked.kind][0])
        self.runs: dict[Arm, Path] = {}
        self.standings: dict[Arm, Standing] = {}

    def do(self) -> Advice:
        """Narrow, repair, prove. Raises BadRun where the plain arm could not be made."""
        asked = self.asked
        first = arms.first(asked.kind, english=asked.english, prior=asked.prior)
        self._press(first, least=len(arms.METHODS[asked.kind]), share=FIRST)
        if self.plain not in self.runs:
            raise BadRun(f"there is nothing to hold others against. {self._why_not_plain()}")
        losses = self._scored(list(self.runs), 1)
        left = arms.halved(losses, [self.plain])
        if not self.rounds.late(FIRST):
            self._press(arms.crossed(asked.kind, losses), least=1, share=CROSSING)
        left += [arm for arm in self.runs if arm not in losses]
        for number in (2, 3):
            losses = self._scored(left, number)
            left = self._left(losses)
            if self._decided(left):
                remark(self.progress, f"the order is known after round {number}")
                break
        if self.plain not in losses:
            raise BadRun(f"there is nothing to hold others against. {self.rounds.wrong}")
        best = min(losses, key=lambda arm: losses[arm])
        return self._proved(best)

    def _why_not_plain(self) -> str:
        """Why the plain arm could not be made; its note begins with its name."""
        begins = f"{self.plain.label} could not be made"
        said = (note for note in self.rounds.notes if note.startswith(begins))
        return next(said, self.rounds.wrong)

    def _press(self, some: Sequence[Arm], *, least: int, share: float) -> None:
        """Press arms, and note where the runs are."""
        kind, amount = self.asked.kind, self.asked.amount
        tried = [Tried(arm.label, arm.own(kind, amount)) for arm in some]
        base = base_of(self.asked.model, self.asked.calibration, self.asked.round(1))
        found = self.rounds.pressed(base, tried, least=least, share=share)
        self.runs |= {some[place]: folder for place, folder in found.items()}

    def _scored(self, some: Sequence[Arm], number: int) -> dict[Arm, float]:
        """What arms lose in their worst language in a round."""
        asked = self.asked.round(number)
        models = {arm.label: str(self.runs[arm]) for arm in some}
        entrants = self._entrants(models, asked)
        for arm in (arm for arm in some if arm.label in entrants):
            self.standings[arm] = Standing(
                arm, self.runs[arm], entrants[arm.label], asked.documents
            )
        return {arm: entrants[arm.label].worst for arm in some if arm.label in entrants}

    def _entrants(self, models: Mapping[str, str], asked: EvaluationSettings) -> dict[str, Entrant]:
        """Models by label on these documents, beside the dense one.

        Raises BadRun where that cannot be scored.
        """
        on_what = {"model": self.asked.model, "evaluate": asked.model_dump(mode="json")}
        place = self.out / SCORES / short(on_what)
        jobs = {DENSE: Rescore(self.asked.model, place / DENSE, asked)}
        jobs |= {
            label: Rescore(model, place / Path(model).name, asked)
            for label, model in models.items()
        }
        with held(self.out):
            done = self.rounds.done(jobs)
        if DENSE not in done:
            raise BadRun(f"the dense model could not be scored. {self.rounds.wrong}")
        on = self.asked.on
        lower = evals.facts(on).lower_is_better
        dense = scores.tallies(place / DENSE, on)
        return {
            label: entrant(dense, scores.tallies(jobs[label].folder, on), lower_is_better=lower)
            for label in models
            if label in done
        }

    def _left(self, losses: Mapping[Arm, float]) -> list[Arm]:
        """Who goes on to the next round."""
        best = arms.halved(losses, [])[:LEFT]
        return list(dict.fromkeys([*best, *([self.plain] if self.plain in losses else [])]))

    def _decided(self, left: Sequence[Arm]) -> bool:
        """Whether the best of these is known to lose less than every other one."""
        some = [self.standings[arm].entrant for arm in left]
        best = min(some, key=lambda each: each.worst)
        return all(difference(best, other).known for other in some if other is not best)

    def _proved(self, best: Arm) -> Advice:
        """The best and the plain arm, as they are and repaired, on text that chose nothing."""
        finals = list(dict.fromkeys([best, self.plain]))
        models = {(arm, False): self.runs[arm] for arm in finals}
        models |= {(arm, True): folder for arm, folder in self._repaired(finals).items()}
        labels = {
            (arm, repaired): arm.label + (", repaired" if repaired else "")
            for arm, repaired in models
        }
        given = {labels[key]: str(folder) for key, folder in models.items()}
        entrants = self._entrants(given, self.asked.proves)
        proofs = tuple(
            Proved(labels[key], key[0], key[1], folder, entrants[labels[key]])
            for key, folder in models.items()
            if labels[key] in entrants
        )
        by_arm = {(each.arm, each.repaired): each.entrant for each in proofs}

        def held_against(repaired: bool) -> tuple[Entrant, Entrant] | None:
            pair = by_arm.get((best, repaired)), by_arm.get((self.plain, repaired))
            return (pair[0], pair[1]) if best != self.plain and pair[0] and pair[1] else None

        as_is, tuned = held_against(repaired=False), held_against(repaired=True)
        return Advice(
            best,
            self.plain,
            tuple(self.standings.values()),
            proofs,
            difference(*as_is) if as_is else None,
            difference_of_means(*as_is) if as_is else None,
            difference(*tuned) if tuned else None,
            tuple(dict.fromkeys(self.rounds.notes)),
        )

    def _repaired(self, some: Sequence[Arm]) -> dict[Arm, Path]:
        """Runs of repaired arms, each for the same share of the time."""
        if self.rounds.late(1 - REPAIRING / 2):
            self.rounds.notes.append("nothing was repaired, for want of time (--minutes).")
            return {}
        minutes = REPAIRING * self.asked.minutes / len(some)
        step, scored = recover_step(minutes), self.asked.round(1)
        jobs = {
            arm.label: repair(self.out, str(self.runs[arm]), [step], self.asked.calibration, scored)
            for arm in some
        }
        with held(self.out):
            done = self.rounds.done(jobs)
        return {arm: jobs[arm.label].folder for arm in some if arm.label in done}
