"""How a repair is told: what each language lost before it and loses now, and what stayed.

Tested in tests/steps/test_recover.py.
"""

from babelpress.recover import REPAIRS
from babelpress.steps._apart import ended_lines, kept_line, losses_line, table
from babelpress.steps._kind import Told
from babelpress.steps._pressing import provenance, some
from babelpress.steps.recover import TUNED, Report

DENSE = "the dense model"


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
            *losses_line(report, DENSE),
            *_blocks(report),
            *kept_line(report),
            *report.apart.get("notes", ()),
        ),
        warnings=tuple(_warnings(report)),
        remarks=(
            *losses_line(report, DENSE),
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
        listings=(table(report, DENSE),) if report.losses_apart else (),
    )


def _stays(report: Report) -> str:
    parts = []
    if report.zeros:
        parts.append(f"{report.zeros:,} zeros stayed zero")
    if report.coded:
        moved = f", {report.moved:,} of them on another" if report.moved else ""
        parts.append(f"{report.coded:,} weights stayed on their grid{moved}")
    return f"; {' and '.join(parts)}" if parts else ""


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
    return [*lines, *ended_lines(report)]
