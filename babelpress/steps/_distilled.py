"""How a distillation is told: layers of both, and what each language lacked before and lacks now.

Tested in tests/steps/test_distill.py.
"""

from babelpress.distill import OBJECTIVES
from babelpress.steps._apart import ended_lines, kept_line, losses_line, table
from babelpress.steps._kind import Told
from babelpress.steps._pressing import provenance, some
from babelpress.steps.distill import RANDOM, Report

SHOWN = 8  # languages of a line
TEACHER = "the teacher"


def tell(report: Report) -> Told:
    """Layers of both, what each language lacked before and lacks now."""
    mine, its = report.layers
    by = ", ".join(report.objectives)
    remarks = [line for name in report.objectives for line in provenance(OBJECTIVES, name)]
    return Told(
        done=f"distil {mine} of {its} layers",
        adjective="distilled",
        means="a smaller student was trained on what its teacher says",
        method=by,
        how=f"{report.step['steps']:,} steps of {report.step['batch']} blocks, {_begun(report)}",
        mixture=report.mixture.policy,
        lines=(
            f"a student of {mine} layers{_size(report)} from a teacher of {its}, {by}: "
            f"{report.trained:,} numbers trained in {_steps(report)}.",
            *losses_line(report, TEACHER),
            _distances(report),
            *kept_line(report),
            *report.apart.get("notes", ()),
        ),
        warnings=(*_lost(report), *ended_lines(report)),
        remarks=(*losses_line(report, TEACHER), _distances(report), *remarks),
        limits=(
            "Distance to the teacher is no score: what the student can do is known from an "
            "evaluation on text of tests.",
        ),
        relation="finetune",
        listings=(table(report, TEACHER),) if report.losses_apart else (),
    )


def _size(report: Report) -> str:
    """How large it is."""
    if not report.parameters:
        return ""
    return f" and {report.parameters[0]:,} of {report.parameters[1]:,} parameters"


def _steps(report: Report) -> str:
    """How long it learnt."""
    steps = report.at[-1] if report.at else report.step["steps"]
    read = f" ({sum(report.read.values()):,} tokens)" if report.losses_apart else ""
    return f"{steps:,} steps{read}"


def _begun(report: Report) -> str:
    """What the student began as."""
    if report.step.get("init") == RANDOM:
        return "begun at random"
    if not report.kept:
        return f"begun as {report.step['student'] or 'it was shrunk'}"
    return f"begun as layers {', '.join(str(index + 1) for index in report.kept)}"


def _distances(report: Report) -> str:
    """The distance of each language before and after, those that lack most first."""
    first, last = report.distances[0], report.distance
    order = sorted(last, key=lambda tag: -last[tag])
    named = [f"{tag} {first[tag]:.3g} to {last[tag]:.3g}" for tag in order[:SHOWN]]
    more = f" and {len(order) - SHOWN} languages more" * (len(order) > SHOWN)
    return f"distance to the teacher, {report.unit}: {', '.join(named)}{more}."


def _lost(report: Report) -> list[str]:
    """Languages that are further from the teacher than before, and tensors that a student lacks."""
    first, last = report.distances[0], report.distance
    further = [tag for tag in last if last[tag] > first[tag]]
    lines = []
    if further:
        lines.append(
            f"Further from the teacher than before: {some(further)}. Lower --rate, or give more "
            "text or steps."
        )
    if report.dropped:
        lines.append(
            f"Tensors beside the teacher's model that the student lacks: {some(report.dropped)}."
        )
    return lines
