"""How a step that was watched on text held apart is told: what each language lost and loses now.

Tested in tests/steps/test_recover.py and tests/steps/test_distill.py.
"""

from typing import Protocol

from babelpress.steps._kind import Listing, MixtureRow


class Apart(Protocol):
    """A report with losses on text held apart; `best` is the evaluation whose weights are kept."""

    reference: dict[str, float]
    losses_apart: list[dict[str, float]]
    at: list[int]
    best: int
    stopped: str
    mixture: MixtureRow

    def lacks(self, place: int) -> dict[str, float]:
        """What each language loses at an evaluation, as a share of the reference."""
        ...


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
