"""How the rounds that found the measured mixture are told: what uniform shares lost, what these do.

Tested in tests/steps/test_measured.py.
"""

from babelpress.steps._kind import Listing
from babelpress.steps._pressing import PressingReport


def _best(report: PressingReport) -> int:
    """The round that was kept, counted from 0."""
    return min(range(len(report.trace)), key=lambda place: report.trace[place]["worst"])


def rounds_line(report: PressingReport) -> list[str]:
    """Worst and mean of the first round and of the one that is kept; nothing where none were."""
    if not report.held_out:
        return []
    first, kept = report.trace[0], report.trace[_best(report)]
    if kept is first:
        return [
            f"No shares of {len(report.trace)} rounds did better than uniform ones, which are "
            f"kept. Loss on text held out: mean {100 * kept['mean']:+.2f} %, worst {_worst(kept)}."
        ]
    return [
        f"Round {_best(report) + 1} of {len(report.trace)} is kept. Loss on text held out, uniform "
        f"shares to these: mean {100 * first['mean']:+.2f} to {100 * kept['mean']:+.2f} %, worst "
        f"{_worst(first)} to {_worst(kept)}."
    ]


def _worst(row: dict[str, dict[str, float]]) -> str:
    lost = row["lost"]
    tag = max(lost, key=lambda each: (lost[each], each))
    return f"{100 * lost[tag]:+.2f} % ({tag})"


def rounds_tables(report: PressingReport) -> tuple[Listing, ...]:
    """Every language, those that lost most with uniform shares first; and every round."""
    if not report.held_out:
        return ()
    first, kept = report.trace[0], report.trace[_best(report)]
    order = sorted(first["lost"], key=lambda tag: (-first["lost"][tag], tag))
    by_language = Listing(
        "loss on text held out, against the model before",
        ("language", "text", "tokens", "before, nats", "uniform, %", "these, %", "share, %"),
        tuple(
            (
                tag,
                report.held_out[tag]["split"],
                f"{report.held_out[tag]['tokens']:,}",
                f"{report.held_out[tag]['nats']:.3f}",
                f"{100 * first['lost'][tag]:+.2f}",
                f"{100 * kept['lost'][tag]:+.2f}",
                f"{100 * kept['shares'][tag]:.1f}",
            )
            for tag in order
        ),
    )
    by_round = Listing(
        "rounds of the mixture",
        ("round", "worst, %", "mean, %", ""),
        tuple(
            (
                str(number),
                f"{100 * row['worst']:+.2f}",
                f"{100 * row['mean']:+.2f}",
                "kept" if row is kept else "",
            )
            for number, row in enumerate(report.trace, 1)
        ),
    )
    return by_language, by_round
