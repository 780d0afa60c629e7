"""What a search has: its folder, hands that do its jobs, a clock, and notes of what went by.

Candidates are recipes of a sweep in that folder, done one after the other while time lasts; a
cluster is given all of them at once.

Tested in tests/sweeps/test_search.py.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from babelpress.errors import BadRun
from babelpress.judge.settings import EvaluationSettings
from babelpress.sweeps import found, plan, schedule
from babelpress.sweeps.setup import Hands, Job, Setup
from babelpress.system.progress import Progress, remark, silent
from babelpress.text.settings import CalibrationSettings

Data = dict[str, Any]


def base_of(model: str, calibration: CalibrationSettings, asked: EvaluationSettings) -> Data:
    """The sweep of candidates but for what each has of its own."""
    return {
        "model": model,
        "calibration": calibration.model_dump(mode="json"),
        "evaluate": asked.model_dump(mode="json"),
    }


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate: what it is called, and what it has at the places where candidates differ."""

    label: str
    own: Mapping[str, Any]


@dataclass(slots=True)
class Rounds:
    """A search at work; `minutes` 0 never end.

    `made` are the candidates whose runs are there, `wrong` is what failed last.
    """

    setup: Setup
    hands: Hands
    minutes: float
    progress: Progress = silent
    notes: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    made: list[Tried] = field(default_factory=list)
    wrong: str = ""

    @property
    def out(self) -> Path:
        """The folder."""
        return self.setup.out

    def late(self, share: float) -> bool:
        """Whether this share of the time is gone."""
        return bool(self.minutes) and (time.monotonic() - self.began) / 60 > share * self.minutes

    def pressed(
        self, base: Data, some: Sequence[Tried], *, least: int, share: float
    ) -> dict[int, Path]:
        """The runs of candidates that could be made, by their place; `least` are done in any case.

        The others follow while no more than a `share` of the time is gone. Notes say what failed,
        which is not tried twice, and what was left out. Raises BadRun where the dense model cannot
        be scored.
        """
        number = len(some) if self.hands.apart else min(least, len(some))
        runs = self._swept(base, dict(enumerate(some[:number])))
        while number < len(some) and not self.late(share):
            label = some[number].label
            remark(self.progress, f"candidate {number + 1} of {len(some)}: {label}")
            runs |= self._swept(base, {number: some[number]})
            number += 1
        if rest := "; ".join(each.label for each in some[number:]):
            self.notes.append(f"not tried for want of time (--minutes): {rest}.")
        return runs

    def done(self, jobs: Mapping[str, Job]) -> set[str]:
        """Have jobs done, by label of what they are for; the labels of those that are.

        Notes say which failed.
        """
        todo = [job for job in jobs.values() if not job.done(self.setup)]
        failed = schedule.work_off(todo, self.hands, self.progress)
        for label, job in jobs.items():
            if why := failed.get(job.name):
                self._failed(f"{job.label} ({label}) failed: {why}")
        return {label for label, job in jobs.items() if job.name not in failed}

    def _failed(self, said: str) -> None:
        self.wrong = said
        self.notes.append(said)

    def _swept(self, base: Data, some: Mapping[int, Tried]) -> dict[int, Path]:
        """The runs of some candidates, in one sweep with all that could be made before them."""
        every = [*self.made, *(each for each in some.values() if each not in self.made)]
        recipes = [dict(each.own) for each in every]
        data = {**base, "steps": recipes[0]["steps"], "recipes": recipes}
        asked = plan.of(data, where="the candidates")
        swept = schedule.do(asked, self.setup, self.hands, progress=self.progress)
        if swept.unscored:
            why = next(iter(swept.unscored.values()))
            raise BadRun(f"the dense model could not be scored: {why}")
        runs: dict[int, Path] = {}
        for place, each in some.items():
            name = asked.entries[every.index(each)].fingerprint
            if why := swept.failed.get(name):
                self._failed(f"{each.label} could not be made: {why}")
            else:
                runs[place] = self.out / found.RUNS / name
        self.made += [some[place] for place in runs if some[place] not in self.made]
        return runs
