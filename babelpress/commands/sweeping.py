"""The command that does many recipes: sweep.

Tested in tests/commands/test_commands.py and tests/sweeps/test_plan.py.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import join, quote
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from babelpress.commands import checks
from babelpress.commands import outcome as o
from babelpress.commands.declared import Device, Watched, command
from babelpress.commands.given import MAPPING, Pairs
from babelpress.commands.hands import Hands, check, working
from babelpress.commands.outcome import Outcome, Row, Table
from babelpress.errors import BabelpressError, BadSetting
from babelpress.evals import EVALUATIONS
from babelpress.system.progress import silent

if TYPE_CHECKING:
    from babelpress.sweeps.plan import Entry, Sweep
    from babelpress.sweeps.schedule import Swept
    from babelpress.sweeps.setup import Job, Setup

NAMED = 3  # recipes of a line about several
EMPTY: Row = dict.fromkeys(
    ("evaluation", "corpus", "metric", "language", "value", "dense", "change", "weights", "error")
)


SWEPT = {
    "fingerprint": "of the recipe and its evaluation; its run is OUT/runs/FINGERPRINT",
    "recipe": "what it has at the places that vary, in words",
    "places": "the same as a mapping",
    "evaluation": "its name; null with --dry-run and where the recipe failed, as are all below",
    "corpus": "whose text was scored",
    "metric": "what its value is",
    "language": "canonical tag",
    "value": "score of the recipe",
    "dense": "score of the dense model",
    "change": "relative change, 0.05 is 5 %; positive is worse",
    "weights": "SHA-256 of the pressed weights",
    "error": "why the recipe failed, or cannot be done; null where it did not",
}


Changes = Annotated[
    Sequence[str],
    Parameter(
        name="--set",
        help="PLACE=VALUE in the sweep, as in model=babel-mini or evaluate.documents=12; may be "
        "repeated.",
    ),
    Pairs("--set", "evaluate.documents=12"),
]


OnePass = Annotated[
    bool,
    Parameter(
        help="Press recipes of one model and text (propagate dense) together, block by block, from "
        "moments that are not stored; only on a CPU. What they make lies on the disk until each is "
        "scored. Recipes that cannot share a pass are done as without; the command says why. "
        "Ctrl-C ends a pass where the recipe at work has pressed its block or saved its model."
    ),
]


@command(rows=SWEPT)
def sweep(
    sweep_file: Annotated[
        Path,
        Parameter(help="The sweep: a base recipe, what to vary in it, how to score."),
        MAPPING,
    ],
    *,
    change: Changes = (),
    out: Annotated[
        Path, Parameter(help="Folder of the sweep; on a cluster one that all machines share.")
    ],
    hands: Hands,
    results: Annotated[
        str,
        Parameter(
            help="Where the files of results go, a folder or an fsspec URL; OUT/results by default."
        ),
    ] = "",
    keep_models: Annotated[
        bool,
        Parameter(
            help="Keep the weights of every recipe. They can be made again from its recipe.yaml."
        ),
    ] = False,
    one_pass: OnePass = False,
    dry_run: Annotated[bool, Parameter(help="List the recipes and stop.")] = False,
    device: Device = "cpu",
    progress: Watched = silent,
) -> Outcome:
    """Do a grid of recipes and score each in every language; what is done is not done again.

    Killed at any point, here or on a cluster, the same command does what is missing: what it had
    pressed and scored stays. Moments that recipes share (propagate dense) are taken once, and a
    model that they begin with is trained once: it is what they are held against where a step gave
    it its head. What is to be scored is read before anything is pressed. A recipe that fails stops
    no other; it is named at the end, and the exit code is 2.

    Example: babelpress sweep sweep.yaml --on ray --address auto --out sweep
    """
    from babelpress.sweeps import plan

    _check(hands, device, one_pass=one_pass)
    asked = plan.load(sweep_file, changes=change)
    where = out.absolute()
    results = results or str(where / "results")
    checks.sweep(asked.entries, out, results)
    checks.load(progress)
    from babelpress.sweeps import schedule
    from babelpress.sweeps.setup import Setup

    labels = {e.fingerprint: {"recipe": e.label, "places": e.places} for e in asked.entries}
    setup = Setup(where, results, device, keep_models, one_pass)
    if dry_run:
        return _told(_plan(asked, setup, labels, hands), asked)
    with working(hands, setup, device, progress) as doing:
        swept = schedule.do(asked, setup, doing, progress=progress)
    return _told(_outcome(swept, labels, out, setup), asked)


def _told(done: Outcome, asked: "Sweep") -> Outcome:
    """What came of a sweep, with what is known of it before."""
    return replace(done, warnings=(*_set_aside(asked), *done.warnings))


def _set_aside(asked: "Sweep") -> tuple[str, ...]:
    """What has no score because others are compared with it."""
    return tuple(dict.fromkeys(s for each in asked.entries for s in _aside(each)))


def _not_together(alone: Mapping[str, str], labels: Mapping[str, Row]) -> list[str]:
    """A line for all recipes that are done as without one pass, for the same reason."""
    rows: list[Row] = [
        {**labels[mark], "fingerprint": mark, "error": why} for mark, why in alone.items()
    ]
    return _failures(rows, "not in the one pass")


def _aside(entry: "Entry") -> list[str]:
    return [said for each in entry.evaluate for said in each.set_aside()]


def _outcome(swept: "Swept", labels: Mapping[str, Row], out: Path, setup: "Setup") -> Outcome:
    """The rows of all recipes, and what came of those that failed."""
    from babelpress.sweeps import found

    rows: list[Row] = [
        {
            "fingerprint": row["fingerprint"],
            **labels[row["fingerprint"]],
            **{key: row.get(key) for key in EMPTY},
        }
        for row in swept.rows
    ]
    lost = [
        {**EMPTY, "fingerprint": mark, **labels[mark], "error": error}
        for mark, error in swept.failed.items()
    ]
    says = (
        *_not_together(swept.alone, labels),
        *_failures(lost),
        *(f"failed: the scores of {model}: {why}" for model, why in swept.unscored.items()),
        *(f"no memory was reserved: {what}: {why}" for what, why in swept.unsized.items()),
        f"{len(labels) - len(lost)} of {len(labels)} recipes are done, {swept.skipped} of them "
        f"before. Results: {out}/{found.RESULTS}",
        *_by_chance(rows, out),
        *_next(rows, out, setup),
    )
    tables = (Table(_columns(), _summaries(rows)),) if rows else ()
    warned, noted = _findings(out, labels)
    code = 2 if lost or swept.unscored else 0
    return Outcome([*rows, *lost], out, tables, (*noted, *says), exit_code=code, warnings=warned)


def _findings(out: Path, names: Collection[str]) -> tuple[tuple[str, ...], list[str]]:
    """What the audits of the texts found that the runs were calibrated on."""
    from babelpress.runs import manifest
    from babelpress.sweeps.found import RUNS

    there = [out / RUNS / name for name in names]
    known = [manifest.read(run) for run in there if manifest.is_finished(run)]
    return o.findings(step.calibration for each in known for step in each.chain)


def _by_chance(rows: Sequence[Row], out: Path) -> list[str]:
    """A line where a change may be that of a language in which the dense model only guesses."""
    names = dict.fromkeys(row["evaluation"] for row in rows if row["evaluation"])
    held = [name for name in names if EVALUATIONS.defines(name, "baselines")]
    if not held:
        return []
    return [
        f"{', '.join(held)}: these changes are told where the dense model only guesses too; "
        f"babelpress report {quote(str(out))} --on {held[0]} says where that is"
    ]


def _failures(lost: Sequence[Row], said: str = "failed") -> list[str]:
    """A line for all recipes that failed of the same."""
    alike: dict[str, list[str]] = {}
    for row in lost:
        alike.setdefault(row["error"], []).append(f"{row['recipe']} ({row['fingerprint']})")
    return [
        f"{said}: {', '.join(names[:NAMED])}"
        f"{f' and {len(names) - NAMED} more, which --json names' * (len(names) > NAMED)}: {error}"
        for error, names in alike.items()
    ]


def _check(hands: Hands, device: str, *, one_pass: bool) -> None:
    """Raise BadSetting for options that mean nothing."""
    if one_pass and device != "cpu":
        raise BadSetting(
            f"--one-pass keeps what many recipes press on the disk of the machine, and --device is "
            f"{device}. Use --device cpu, or leave --one-pass out."
        )
    check(hands, device)


def _wrong(asked: "Sweep") -> dict[str, str]:
    """Recipes whose model, text, mixtures or moments are none, and why."""
    found: dict[str, str] = {}
    for entry in asked.entries:
        try:
            checks.recipe(entry.recipe)
        except BabelpressError as error:
            found[entry.fingerprint] = str(error)
    return found


def _plan(asked: "Sweep", setup: "Setup", labels: Mapping[str, Row], hands: Hands) -> Outcome:
    """What a sweep would do."""
    from babelpress.sweeps import schedule

    unfit, rest = schedule.fitting(asked, setup)
    unfit |= {mark: why for mark, why in _wrong(rest).items() if setup.shelf.get(mark) is None}
    apart = hands.on == "ray"  # there languages are seen one a job
    sized = apart and hands.memory_mb is None
    jobs = schedule.missing(rest, setup, apart=apart, sized=sized) if rest.entries else []
    todo = {job.name for job in jobs}
    rows = [{**EMPTY, "fingerprint": mark, **label} for mark, label in labels.items()]
    rows = [{**row, "error": unfit.get(row["fingerprint"])} for row in rows]
    shown = [{**row, "state": _state(row, todo)} for row in rows]
    columns = (o.word("fingerprint", "run"), o.word("state", "state"), o.word("recipe", "recipe"))
    missing = sum(row["state"] == "to do" for row in shown)
    line = (
        f"{missing} of {len(rows)} recipes to do, and {len(todo) - missing} jobs that they share; "
        "nothing was done."
    )
    says = [
        *_not_together(schedule.alone(jobs), labels),
        *_room(jobs),
        *_failures([row for row in rows if row["error"]], "cannot be done"),
    ]
    tables = (Table(columns, shown),)
    return Outcome(rows, setup.out, tables, (*says, line), exit_code=2 if unfit else 0)


def _room(jobs: Iterable["Job"]) -> list[str]:
    """What passes will have on the disk."""
    from babelpress.sweeps.passing import Pass

    said: list[str] = []
    for job in (job for job in jobs if isinstance(job, Pass)):
        each = f"; each takes up to {job.model_bytes:,} bytes" if job.model_bytes else ""
        said.append(
            f"{job.label}: as many pressed models lie on the disk until each is scored, and one "
            f"more while it is saved{each}"
        )
    return said


def _state(row: Row, todo: Collection[str]) -> str:
    if row["error"]:
        return "cannot be done"
    return "to do" if row["fingerprint"] in todo else "done"


def _columns() -> tuple[o.Column, ...]:
    return (
        o.beside(o.word("fingerprint", "run")),
        o.key(o.word("recipe", "recipe")),
        o.beside(o.word("metric", "metric")),
        o.number("mean", "mean"),
        o.change("mean_change", "mean change"),
        o.key(o.change("worst_change", "worst")),
        o.key(o.name("worst")),
    )


def _summaries(rows: Sequence[Row]) -> list[Row]:
    """One row a recipe, evaluation and corpus: the mean over languages, and which loses most."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        key = row["fingerprint"], row["evaluation"], row["corpus"] or ""
        groups.setdefault(key, []).append(row)
    found = []
    for group in groups.values():
        changes = {row["language"]: row["change"] for row in group if row["change"] is not None}
        worst = max(changes, key=lambda tag: changes[tag], default=None)
        found.append(
            {
                **group[0],
                "mean": math.fsum(row["value"] for row in group) / len(group),
                "mean_change": math.fsum(changes.values()) / len(changes) if changes else None,
                "worst": worst,
                "worst_change": changes[worst] if worst else None,
            }
        )
    return found


def _next(rows: Sequence[Row], out: Path, setup: "Setup") -> list[str]:
    """How to have the weights of a recipe that were not kept, from the model that it begins with.

    What other recipes begin with too is trained already: a recipe goes on from that.
    """
    from babelpress.runs import manifest, recipe

    if setup.keep_models or not rows:
        return []
    path = out / "runs" / rows[0]["fingerprint"] / manifest.RECIPE
    if not path.exists():
        return []
    words = ["babelpress", "press", recipe.load(path).model, str(path), "--out", "run"]
    return [f"weights were not kept. One again: {join(words)}"]
