"""Do analyses and keep their results; what is there for the same inputs is not done again.

Tested in tests/insight/test_doing.py.
"""

from collections.abc import Sequence
from typing import Any

from babelpress.errors import BadRun
from babelpress.insight import ANALYSES, _kept, check_languages, check_runs, facts, options_of
from babelpress.insight._given import Given
from babelpress.insight._kept import Kept
from babelpress.insight._pictures import listed
from babelpress.system.claims import held, remove_partials
from babelpress.system.files import fingerprint
from babelpress.system.progress import remark


def do(given: Given) -> list[Kept]:
    """The results of every analysis that is asked for, in that order.

    Raises BadSetting where there are too few runs or languages, or the model has not what an
    option names, and what reading its parts raises.
    """
    asked = given.asked
    check_runs(asked.on, len(given.labels))
    options = options_of(asked.on, asked.options)
    given.check_origins()
    if reading := [name for name in asked.on if "text" in facts(name).reads]:
        check_languages(reading, options, len(given.text))
    for name in asked.on:
        if check := ANALYSES.optional(name, "check"):
            check(given, **options[name])
    found: list[Kept] = []
    with held(given.out):
        remove_partials(given.out)
        for name in asked.on:
            found.append(_one(given, name, options[name]))
    return found


def _one(given: Given, name: str, options: dict[str, Any]) -> Kept:
    declared = facts(name)
    identity = {
        "inputs": fingerprint(given.identity(declared.reads)),
        "options": {**ANALYSES.options(name), **options},
    }
    there = _there(given, name)
    if there and there.identity == identity:
        remark(given.progress, f"{name} is done: nothing is done again")
        return there
    if there:
        remark(given.progress, f"{name} is done anew, and replaces that of {there.about}")
    rows = ANALYSES.get(name)(given, **options)
    drawn = ANALYSES.module(name).pictures(rows)
    kept = Kept(
        name,
        given.model,
        declared.spoken,
        _about(given, declared.reads),
        identity,
        tuple(drawn),
        {},
    )
    more = ANALYSES.optional(name, "files")
    return _kept.write(given.out, kept, rows, more(rows) if more else {})


def _there(given: Given, name: str) -> Kept | None:
    """What was done before; what is damaged counts as nothing, for it is made again."""
    try:
        return _kept.read_one(given.out, name)
    except BadRun as error:
        remark(given.progress, f"{name} is done again, for it is damaged: {error}")
        return None


def beside(given: Given) -> list[Kept]:
    """What lies in the folder of the same model and was not asked for; all else is named."""
    found: list[Kept] = []
    for name in ANALYSES.names():
        if name in given.asked.on:
            continue
        try:
            there = _kept.read_one(given.out, name)
        except BadRun as error:
            remark(given.progress, f"{name} is not on the page, for it is damaged: {error}")
            continue
        if there and there.model == given.model:
            found.append(there)
        elif there:
            remark(given.progress, f"{name} is not on the page: it is of {there.about}")
    return found


def _about(given: Given, reads: Sequence[str]) -> str:
    """The model, runs and text of an analysis, in words."""
    found = [given.name]
    if given.labels and {"runs", "scores"} & set(reads):
        found.append(f"pressed: {listed(given.labels)}")
    if "moments" in reads:
        store = given.moments
        found.append(
            f"moments of {store.identity['corpus']}, {len(given.languages(store))} languages, "
            f"{store.identity['tokens']:,} tokens of each at most"
        )
    if "text" in reads:
        found.append(
            f"text of {given.asked.corpus}, {len(given.text)} languages, {given.asked.tokens:,} "
            "tokens of each at most"
        )
    return "; ".join(found)
