"""Training that is watched on text held apart: when it is looked at, when it ends, what is said.

What did best there is kept, Ctrl-C ends it with that, and a run that was killed goes on from the
last evaluation to the same bytes.

Tested in tests/steps/test_recover.py and tests/steps/test_distill.py.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn
from torch.optim import Optimizer

from babelpress.system.early import ends_early
from babelpress.system.progress import Progress, remark
from babelpress.train.fit import fit, remembered
from babelpress.train.watched import Watched


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How long is trained: steps, those between evaluations, evaluations in a row that may be no
    better (0: any number), and minutes if the clock may end it."""

    steps: int
    evaluate: int
    patience: int = 0
    minutes: float | None = None

    @property
    def seconds(self) -> float:
        """When the clock ends it."""
        return 60 * (self.minutes or float("inf"))


def train(
    made: Watched,
    model: nn.Module,
    length: Length,
    *,
    optimizer: Optimizer,
    factor: Callable[[int, float], float],
    against: str,
    progress: Progress,
) -> str:
    """Train, evaluating on the way; what ended it before its last step, if anything did.

    `factor` is what the rate is multiplied with at a step, of its number and of the share of all
    that is done; `against` is what the reference is called.
    """
    steps, evaluate, over = length.steps, length.evaluate, length.seconds
    if not made.found and not any(made.place.glob("checkpoint-*")):
        made.evaluate(0)
    began = time.monotonic()
    if known := remembered(made.place):
        made.restore(known)
        if why := _enough(made, length):  # a training that was killed had ended already
            return why
    ended: list[str] = []

    def after(step: int, loss: float) -> bool:
        nonlocal began
        made.after(loss)
        now = time.monotonic()
        made.seconds, began = made.seconds + now - began, now
        progress("train: step", step, steps)
        if step % evaluate == 0 or step == steps or made.seconds >= over:
            made.ends()
            made.evaluate(step)
            remark(progress, _line(made, step, against))
        if why := _enough(made, length):
            ended.append(why)
        return bool(ended)

    progress("train: step", 0, steps)
    try:
        fit(
            model,
            made.loss,
            made.place,
            steps=steps,
            optimizer=optimizer,
            factor=lambda step: factor(step, max((step + 0.5) / steps, made.seconds / over)),
            checkpoint=evaluate,
            seed=made.seed,
            after=after,
            memory=made,
        )
    except KeyboardInterrupt:
        if not (ends_early() and made.best):
            raise
        ended.append(f"by Ctrl-C behind step {made.at[-1]:,} of {steps:,}")
        remark(progress, f"stopped: kept is what was best so far, of step {made.at[made.best]:,}")
    return ended[-1] if ended else ""


def _enough(made: Watched, length: Length) -> str:
    """Why no step is to follow the last evaluation, if any is left; empty where one is."""
    done, steps = made.at[-1], length.steps
    if done < steps and made.seconds >= length.seconds:
        return f"after {length.minutes:g} minutes, {done:,} of {steps:,} steps"
    if done < steps and length.patience and made.waited >= length.patience:
        return f"after {length.patience} evaluations that were no better"
    return ""


def _line(made: Watched, step: int, against: str) -> str:
    lacks = made.lacks()
    worst = max(lacks, key=lambda tag: lacks[tag])
    mean = sum(lacks.values()) / len(lacks)
    best = ", the best so far" if made.best == len(made.found) - 1 else ""
    found = f"{100 * lacks[worst]:+.2f} % in {worst}, the worst, {100 * mean:+.2f} % in the mean"
    if not made.reference:
        found = f"{lacks[worst]:.4g} away in {worst}, the worst, {mean:.4g} in the mean"
    return f"step {step}: training loss {made.losses[-1]:.4g}; against {against} {found}{best}"


def mean_shares(at: Sequence[int], drawn: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The shares that languages were drawn by, mean over steps; `at` are those of evaluations."""
    steps = [after - before for before, after in pairwise(at)] or [1]
    if len(drawn) == 1:
        return dict(drawn[0])
    return {
        tag: sum(each[tag] * number for each, number in zip(drawn, steps, strict=True)) / sum(steps)
        for tag in drawn[0]
    }
