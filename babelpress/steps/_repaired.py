"""How a repair is told: what each language lost before it and loses now, and what stayed.

Tested in tests/steps/test_recover.py.
"""

from babelpress.recover import REPAIRS
from babelpress.steps._kind import Listing, Told
from babelpress.steps._pressing import provenance, some
from babelpress.steps.recover import TUNED, Report


def tell(report: Report) -> Told:
    """What each language lost before and loses now."""
    step, repair = report.step, report.step["repair"]
    read = sum(report.read.values())
    learns = f"{report.trained:,} numbers learnt"
    each = f"of each block ({read:,} tokens)" if report.parts else f"({read:,} tokens)"
    stays, learnt = _stays(report), report.learnt or step["tune"] or TUNED[0]
    return Told(
        done=f"recover by {repair}",
        adjective="repaired",
        means="after pressing, what was left of it learnt to do what the dense model does",
        method=repair,
        how=f"{learnt}, {report.at[-1]:,} steps of {step['batch']:,} tokens",
        mixture=report.mixture.policy,
        lines=(
            f"recover by {repair} against {report.against['name']}: {learns} in "
            f"{step['steps'] if report.parts else report.at[-1]:,} steps {each}{stays}.",
            *_losses(report),
            *_blocks(report),
            *_kept(report),
            *report.apart.get("notes", ()),
        ),
        warnings=tuple(_warnings(report)),
        remarks=(
            *_losses(report),
            f"The dense model is {report.against['name']}. {learns.capitalize()}{stays}.",
            *provenance(REPAIRS, repair),
        ),
        limits=(
            "Losses on text held apart are no score: what the model can do is known from an "
            "evaluation on text of tests.",
        ),
        note=(
            "A repaired model was trained.",
            "Its zeros, grids and shapes are those of the pressed model. A dense model that is "
            "tuned on the same text for as long is the fair comparison: --repair text.",
        ),
        relation="finetune",
        listings=(_table(report),) if report.losses_apart else (),
    )


def _stays(report: Report) -> str:
    parts = []
    if report.zeros:
        parts.append(f"{report.zeros:,} zeros stayed zero")
    if report.coded:
        moved = f", {report.moved:,} of them on another" if report.moved else ""
        parts.append(f"{report.coded:,} weights stayed on their grid{moved}")
    return f"; {' and '.join(parts)}" if parts else ""


def _losses(report: Report) -> list[str]:
    """Mean and worst loss before and after; nothing of a model without a head, which has none."""
    if not report.losses_apart:
        return []
    first, last = report.lacks(0), report.distance
    worst, now = (max(some, key=lambda tag: some[tag]) for some in (first, last))
    means = [100 * sum(some.values()) / len(some) for some in (first, last)]
    return [
        f"Loss against the dense model on text held apart: mean {means[0]:+.1f} to {means[1]:+.1f} "
        f"%, worst {100 * first[worst]:+.1f} ({worst}) to {100 * last[now]:+.1f} % ({now})."
    ]


def _blocks(report: Report) -> list[str]:
    if not report.parts:
        return []
    before, after = (
        sum(each[key] for each in report.parts) / len(report.parts) for key in ("before", "after")
    )
    return [
        f"Error of the blocks on text held apart, as a share of what they give: {before:.3g} to "
        f"{after:.3g} in the mean."
    ]


def _warnings(report: Report) -> list[str]:
    lines = []
    last = report.distance
    first = report.lacks(0) if last else {}
    if worse := [tag for tag in last if last[tag] > first[tag]]:
        lines.append(
            f"Further from the dense model than before: {some(worse)}. Lower --rate, or give more "
            "text or steps."
        )
    if report.stopped:
        lines.append(f"Stopped {report.stopped}.")
    if not report.best:
        lines.append(
            "No step did better on text held apart than what it began with, which is kept. Lower "
            "--rate, or give more steps or text."
        )
    return lines


def _kept(report: Report) -> list[str]:
    """Which step is kept, where it is neither the last nor the first."""
    if report.best in (0, len(report.at) - 1):
        return []
    return [
        f"Kept is what did best on text held apart, of step {report.at[report.best]:,} of "
        f"{report.at[-1]:,}."
    ]


def _table(report: Report) -> Listing:
    """Every language, those that lost most first."""
    first, last = report.lacks(0), report.distance
    order = sorted(first, key=lambda tag: (-first[tag], tag))
    drawn = report.mixture.shares
    return Listing(
        "loss on text held apart, against the dense model",
        ("language", "drawn, %", "dense, nats", "before, %", "after, %"),
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
