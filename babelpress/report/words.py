"""The words of a page, explained where they stand: what is measured, mixture policies.

What a method or an evaluation is, its own file says first; what a model is after a step, the step.

Tested in tests/report/test_words.py.
"""

from babelpress import evals
from babelpress.errors import UnknownName
from babelpress.report.data import clean, tongue

POLICIES = {
    "english": "calibration text in English alone",
    "only": "calibration text in {} alone",
    "uniform": "as many tokens of calibration text in every language",
    "proportional": "calibration text shared out as the model’s training text was",
    "temperature": "as trained, but evened out: large shares shrink, small ones grow",
    "mbs": "as trained, in whole parts, and every language gets at least one",
    "minimax": "shares searched so that the language predicted to lose most loses least",
    "measured": "shares searched so that the language measured to lose most loses least",
    "lacking": "languages drawn in proportion to what the student still lacks",
}


def policy(asked: str) -> str:
    """A mixture policy in one line; "" for one that is no policy of ours."""
    head, _, rest = asked.partition(":")
    if asked.endswith((".yaml", ".yml")):
        return "shares from a file"
    return POLICIES.get(head, "").format(tongue(rest).name)


def metric(evaluation: str) -> str:
    """What an evaluation measures, and which way is better, in a sentence or two."""
    try:
        found, about = evals.facts(evaluation), evals.EVALUATIONS.about(evaluation)
    except UnknownName:
        return ""
    first = " ".join(about.split("\n\n")[0].split()).partition(":")[2].strip()
    better = "Lower is better." if found.lower_is_better else "Higher is better."
    return clean(f"{first[:1].upper()}{first[1:]} {better}".strip())
