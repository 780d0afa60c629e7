"""How a step that was watched on text held apart is told: what each language lost and loses now.

Tested in tests/steps/test_recover.py and tests/steps/test_distill.py.
"""

from typing import Any

from pydantic import Field

from babelpress.steps._kind import Listing, StepReport


class Apart(StepReport):
    """What a watched training leaves.

    `against` is the dense model or teacher, `reference` its losses in nats a scored token on the
    text held `apart`, `losses_apart` those of what learnt at every evaluation, the first before any
    step; where no tokens are scored there are neither. `at` are the steps done then, `drawn` the
    shares between two of them, `best` is the evaluation whose weights are kept. `losses` is the
    mean training loss since the evaluation before, `read` the scored tokens of each language that
    were learnt from, `trained` how many numbers learnt. `stopped` says what ended it before its
    last step.
    """

    against: dict[str, str] = Field(default_factory=dict)
    reference: dict[str, float] = Field(default_factory=dict)
    losses_apart: list[dict[str, float]] = Field(default_factory=list)
    at: list[int] = Field(default_factory=list)
    drawn: list[dict[str, float]] = Field(default_factory=list)
    best: int = 0
    losses: list[float] = Field(default_factory=list)
    read: dict[str, int] = Field(default_factory=dict)
    trained: int = 0
    apart: dict[str, Any] = Field(default_factory=dict)
    stopped: str = ""

    def lacks(self, place: int) -> dict[str, float]:
        """What each language loses at an evaluation, as a share of the reference."""
        return {
            tag: loss / self.reference[tag] - 1 for tag, loss in self.losses_apart[place].items()
        }


def losses_line(report: Apart, against: str) -> list[str]:
    """Mean and worst loss before and after; nothing where no tokens are scored."""
    if not report.losses_apart:
        return []
    first, last = report.lacks(0), report.lacks(report.best)
    worst, now = (max(some, key=lambda tag: some[tag]) for some in (first, last))
    means = [100 * sum(some.values()) / len(some) for some in (first, last)]
    return [
        f"Loss against {against} on text held apart: mean {means[0]:+.1f} to {means[1]:+.1f} "
        f"%, worst {100 * first[worst]:+.1f} ({worst}) to {100 * last[now]:+.1f} % ({now})."
    ]


def kept_line(report: Apart) -> list[str]:
    """Which step is kept, where it is neither the last nor the first."""
    if not report.at or report.best in (0, len(report.at) - 1):
        return []
    return [
        f"Kept is what did best on text held apart, of step {report.at[report.best]:,} of "
        f"{report.at[-1]:,}."
    ]


def ended_lines(report: Apart) -> list[str]:
    """What ended it early, and that nothing was gained."""
    lines = [f"Stopped {report.stopped}."] if report.stopped else []
    if not report.best:
        lines.append(
            "No step did better on text held apart than what it began with, which is kept. Lower "
            "--rate, or give more steps or text."
        )
    return lines


def table(report: Apart, against: str) -> Listing:
    """Every language, those that lost most first."""
    first, last = report.lacks(0), report.lacks(report.best)
    order = sorted(first, key=lambda tag: (-first[tag], tag))
    drawn, known = report.mixture.shares, against.removeprefix("the ").removesuffix(" model")
    return Listing(
        f"loss on text held apart, against {against}",
        ("language", "drawn, %", f"{known}, nats", "before, %", "after, %"),
        tuple(
            (
                tag,
                f"{100 * drawn.get(tag, 0):.1f}",
                f"{report.reference[tag]:.3f}",
                f"{100 * first[tag]:+.2f}",
                f"{100 * last[tag]:+.2f}",
            )
            for tag in order
        ),
    )
