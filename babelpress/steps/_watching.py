"""Training that is watched on text held apart: when it is looked at, when it ends, what is said.

What did best there is kept, Ctrl-C ends it with that, and a run that was killed goes on from the
last evaluation to the same bytes.

Tested in tests/steps/test_recover.py and tests/steps/test_distill.py.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from torch import nn
from torch.optim import Optimizer

from babelpress.system.early import ends_early
from babelpress.system.progress import Progress, remark
from babelpress.train.fit import fit, remembered
from babelpress.train.watched import Watched


def train(
    made: Watched,
    model: nn.Module,
    *,
    steps: int,
    evaluate: int,
    optimizer: Optimizer,
    factor: Callable[[int, float], float],
    against: str,
    patience: int = 0,
    minutes: float | None = None,
    progress: Progress,
) -> str:
    """Train, evaluating on the way; what ended it before its last step, if anything did.

    `factor` is what the rate is multiplied with at a step, of its number and of the share of all
    that is done; `against` is what the reference is called. With `minutes` the clock ends it.
    """
    over = 60 * (minutes or float("inf"))
    if not made.found and not any(made.place.glob("checkpoint-*")):
        made.evaluate(0)
    began = time.monotonic()
    if known := remembered(made.place):
        made.restore(known)
        if why := _enough(made, steps, patience, minutes):  # one that was killed had ended already
            return why
    ended: list[str] = []

    def share(step: int) -> float:
        return max((step + 0.5) / steps, made.seconds / over)

    def after(step: int, loss: float) -> bool:
        nonlocal began
        made.after(loss)
        now = time.monotonic()
        made.seconds, began = made.seconds + now - began, now
        progress("train: step", step, steps)
        late = made.seconds >= over
        if step % evaluate == 0 or step == steps or late:
            made.ends()
            made.evaluate(step)
            remark(progress, _line(made, step, against))
        if why := _enough(made, steps, patience, minutes):
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
            factor=lambda step: factor(step, share(step)),
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


def _enough(made: Watched, steps: int, patience: int, minutes: float | None) -> str:
    """Why no step is to follow the last evaluation, if any is left; empty where one is."""
    done = made.at[-1]
    if done < steps and minutes and made.seconds >= 60 * minutes:
        return f"after {minutes:g} minutes, {done:,} of {steps:,} steps"
    if done < steps and patience and made.waited >= patience:
        return f"after {patience} evaluations that were no better"
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
