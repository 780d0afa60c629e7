"""Commands that make something of a model: calibrate, a command for each kind of step, press.

Tested in tests/commands/test_commands.py.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from babelpress.commands import checks
from babelpress.commands import outcome as o
from babelpress.commands.declared import Device, Model, Offload, Out, Watched, command
from babelpress.commands.given import MAPPING, Pairs
from babelpress.commands.outcome import Outcome, Row, Table
from babelpress.errors import BadLayer, BadSetting
from babelpress.steps import KINDS
from babelpress.steps._kind import Estimate, StepSettings
from babelpress.system.early import may_end_early
from babelpress.system.progress import Progress, silent
from babelpress.text.settings import EVENLY, CalibrationSettings

if TYPE_CHECKING:
    from babelpress.runs.manifest import Manifest
    from babelpress.runs.recipe import Recipe

COUNTS = ("blocks", "tokens", "characters", "bytes", "documents")
AUDITED = ("pieces", "script_share", "unknown_share", "pairs")
SHOWN = ("condition", "shots")
CALIBRATED = {
    "language": "canonical tag",
    "blocks": "token blocks of equal length",
    "tokens": "tokens that counted",
    "characters": "characters of the text",
    "bytes": "UTF-8 bytes of the text",
    "documents": "documents that the text came from",
    "pieces": "pieces of documents that were drawn; null for demonstrations and text of the model",
    "script_share": "share of letters in the language's script; null for text of the model",
    "unknown_share": "share of unknown tokens; null for text of the model",
    "pairs": "sentences that were shown of those that English has too; null but for demonstrations",
    "condition": "translation, monolingual or shuffled; null but for demonstrations",
    "shots": "shots in a sample; null but for demonstrations",
}
STEPPED = {
    "step": "number of the step, from 1",
    "language": "canonical tag",
    "share": "share of the language in the mixture",
    "predicted_damage": "share of its layers' outputs that the language loses, mean over sites",
    "predicted_loss": "share by which its loss grows; null where that does not weigh the moments",
    "dev": "score on dev texts of a step that fine-tunes: F1 of entities, accuracy of labels",
    "distance": "of a distilled student from its teacher, in the unit that the step tells; of a "
    "repaired model, what it loses on text held apart as a share of the dense model's loss",
    "covered": "share of the tokens of held-out text whose piece a trimmed model still has",
}


@command(rows=CALIBRATED)
def calibrate(
    model: Model,
    *,
    out: Annotated[
        Path, Parameter(help="The moments folder; a half-written one of the same work is finished.")
    ],
    text: CalibrationSettings,
    gram: Annotated[
        bool, Parameter(help="Also keep Gram matrices, which sparsegpt, gptq and awq need.")
    ] = False,
    offload: Offload = False,
    device: Device = "cpu",
    progress: Watched = silent,
) -> Outcome:
    """Take moments of a model: what every layer sees in every language. Resumes when interrupted.

    Example: babelpress calibrate babel-mini --corpus embedded --gram --out moments
    """
    checks.model(model)
    checks.moments_folder(out)
    checks.calibration(text)
    checks.weighed_by_loss(model, text, offload=offload)
    checks.load(progress)
    from babelpress.moments.calibrate import calibrate as look
    from babelpress.runs.open import open_any

    opened = open_any(model, device=device)
    store = look(opened, text, out, gram=gram, offload=offload, progress=progress)
    facts = store.manifest["calibration"]
    rows: list[Row] = [
        {
            "language": tag,
            **{key: each[key] for key in COUNTS},
            **{key: each.get(key) for key in AUDITED},
            **{key: facts.get(key) for key in SHOWN},
        }
        for tag, each in facts["languages"].items()
    ]
    columns = (
        o.key(o.tag()),
        o.beside(o.name()),
        *(o.count(key, key) for key in ("tokens", "bytes", "documents")),
        *([o.count("pairs", "pairs")] if "condition" in facts else []),
        *_audited(facts["findings"]),
    )
    warned, noted = o.findings([facts])
    line = (
        f"babelpress prune {quote(model)} --moments {quote(str(out))} --mixture uniform --out run"
    )
    tables = (Table(columns, rows),)
    return Outcome(rows, out, tables, (*noted, f"next: {line}"), warnings=warned)


def _audited(findings: Sequence[Mapping[str, Any]]) -> list[o.Column]:
    """Columns for what the audit warned of, beside the line that it warned with."""
    warned = {finding["what"] for finding in findings if finding["level"] == "warning"}
    columns = {
        "script": o.share("script_share", "in script"),
        "unknown tokens": o.share("unknown_share", "unknown"),
    }
    return [column for what, column in columns.items() if what in warned]


def step(kind: str) -> Callable[..., Outcome]:
    """The command of a kind of step: its settings, and those of the text that it looks at.

    A kind whose settings say which text it reads has no others.
    """

    def alone(
        model: Model,
        *,
        out: Out,
        settings: StepSettings,
        offload: Offload = False,
        device: Device = "cpu",
        progress: Watched = silent,
    ) -> Outcome:
        from babelpress.runs import recipe

        plan = recipe.single(model, kind, settings, CalibrationSettings())
        return _press(plan, out, device, offload, progress)

    def do(
        model: Model,
        *,
        out: Out,
        settings: StepSettings,
        text: CalibrationSettings,
        offload: Offload = False,
        device: Device = "cpu",
        progress: Watched = silent,
    ) -> Outcome:
        from babelpress.runs import recipe

        _check_read(kind, settings, text)
        plan = recipe.single(model, kind, settings, text)
        return _press(plan, out, device, offload, progress)

    facts = KINDS.facts(kind)
    made: Callable[..., Outcome] = alone if facts.get("OWN_TEXT") else do
    made.__name__ = made.__qualname__ = kind
    about = KINDS.about(kind).partition("\n\nTested in ")[0]
    made.__doc__ = f"{about}\n\nExample: {facts['EXAMPLE']}"
    return command(rows=STEPPED, settings={"settings": KINDS.module(kind).Settings})(made)


def _check_read(kind: str, settings: StepSettings, text: CalibrationSettings) -> None:
    """Raise BadSetting for an option that says which text is read, where a step reads it not.

    The steps of a recipe share one calibration, so there it may be meant for others.
    """
    if text.weigh != EVENLY and not hasattr(settings, "propagate"):
        raise BadSetting(
            f"{kind}: --weigh says what a token counts in moments, and {kind} takes none. Leave it "
            "out."
        )
    usual = CalibrationSettings()
    for name, why in settings.unread.items():
        if getattr(text, name) != getattr(usual, name):
            flag = name.replace("_", "-")
            raise BadSetting(f"{kind}: --{flag} has no effect with {why}. Leave one of them out.")


@command(
    rows={
        **STEPPED,
        "share": "share of the language in the mixture; with --dry-run the start of a searched one",
        "predicted_damage": "as of prune; null with --dry-run",
        "predicted_loss": "as of prune; null with --dry-run",
    }
)
def press(
    model: Model,
    recipe_file: Annotated[Path, Parameter(help="The recipe."), MAPPING],
    *,
    out: Out,
    change: Annotated[
        Sequence[str],
        Parameter(
            name="--set",
            help="PLACE=VALUE in the recipe, as in calibration.tokens=4096; may be repeated.",
        ),
        Pairs("--set", "calibration.tokens=4096"),
    ] = (),
    dry_run: Annotated[
        bool,
        Parameter(
            help="Say what would be done and what it would take, from trying the first block, and "
            "stop; the exit code is 2 where a step does not fit the model."
        ),
    ] = False,
    offload: Offload = False,
    device: Device = "cpu",
    progress: Watched = silent,
) -> Outcome:
    """Do a recipe: a chain of steps in YAML. Finished steps are not done again.

    Example: babelpress press babel-mini recipe.yaml --set steps.0.prune.pattern=2of4 --out run
    """
    from babelpress.runs import recipe

    plan = recipe.load(recipe_file, model=model, changes=change)
    if dry_run:
        checks.plan(plan, out, offload=offload)
        checks.load(progress)
        return _plan(plan, out, device, offload)
    return _press(plan, out, device, offload, progress)


def _press(plan: "Recipe", out: Path, device: str, offload: bool, progress: Progress) -> Outcome:
    checks.plan(plan, out, offload=offload)
    checks.load(progress)
    from babelpress.models.carried import lines as carried_lines
    from babelpress.models.tokenizers import replaced_line
    from babelpress.report.told import tell
    from babelpress.runs import run

    with may_end_early():
        found = run.do(plan, out, device=device, offload=offload, progress=progress)
    rows: list[Row] = [
        {
            "step": number,
            "language": tag,
            "share": each.mixture.shares.get(tag, 0.0),
            "predicted_damage": each.damage.get(tag),
            "predicted_loss": each.foretold.get(tag, {}).get("best"),
            "dev": each.dev.get(tag),
            "distance": each.distance.get(tag),
            "covered": each.covered.get(tag),
        }
        for number, each in enumerate(found.steps, 1)
        for tag in {**each.damage, **each.dev, **each.distance, **each.covered}
    ]
    last = tell(found.steps[-1])
    # What was found when moments were taken was said then.
    drawn = [step.calibration for step in found.steps if not step.step.get("moments")]
    warned, noted = o.findings(drawn)
    says = (
        *last.lines,
        *carried_lines(found.carried),
        *replaced_line(found.tokenizer),
        *noted,
        *_size(found.ledger),
        f"next: babelpress eval {quote(str(out))}{_scored_on(out, found)}",
    )
    shown = {
        "predicted_damage": o.share("predicted_damage", "predicted damage"),
        "predicted_loss": o.share("predicted_loss", "predicted loss"),
        "dev": o.number("dev", "dev"),
        "distance": o.number("distance", "distance"),
    }
    warned = (*warned, *(line for step in found.steps for line in tell(step).warnings))
    listed = (each for step in found.steps for each in tell(step).listings)
    tables = (*_by_step(rows, shown), *map(o.listing, listed))
    return Outcome(rows, out, tables, says, warnings=warned)


def _scored_on(out: Path, found: "Manifest") -> str:
    """What is scored of a model that has no bits per byte of a text; nothing of a decoder."""
    from babelpress.models.accepted import encodes, opened_as, translates
    from babelpress.runs.manifest import CONFIG
    from babelpress.runs.places import MODEL
    from babelpress.system.files import read_json

    config = read_json(out / MODEL / CONFIG)
    if translates(config):
        return " --on translation_loss"
    if not encodes(config):
        return ""
    _, task = opened_as(config)
    if on := {"token-classification": "ner", "text-classification": "classify"}.get(task):
        learnt = (each.step["corpus"] for each in reversed(found.chain) if each.kind == "finetune")
        return f" --on {on} --corpus {quote(next(learnt, 'FOLDER'))}"
    return " --on masked" if task == "fill-mask" else " --on retrieval"


def _size(ledger: Row) -> list[str]:
    """What the file would weigh packed, where that is less than dense; a step may not say."""
    if not ledger or ledger["bytes_stored"] >= ledger["bytes_dense"]:
        return []
    from babelpress.report.told import cheaper

    dense, stored = (o.size(ledger[key]) for key in ("bytes_dense", "bytes_stored"))
    parts = ", ".join(
        f"{part['part']} {100 * part['bytes_stored'] / ledger['bytes_stored']:.0f} %"
        for part in ledger["parts"]
    )
    return [
        f"packed {stored} of {dense} dense, {ledger['bits_per_weight']:.2f} bits a "
        f"weight: {parts}. {cheaper(ledger)}".strip()
    ]


def _plan(plan: "Recipe", out: Path, device: str, offload: bool) -> Outcome:
    from babelpress.runs.estimate import estimate

    rows: list[Row] = []
    says = []
    for number, each in enumerate(plan.steps, 1):
        shares = _shares(plan, each.kind, each.work)
        rows += [
            {**dict.fromkeys(STEPPED), "step": number, "language": tag, "share": share}
            for tag, share in shares.items()
        ]
        said = KINDS.module(each.kind).say(each.work)
        says.append(f"step {number}: {said}{_on(plan, each.work, len(shares))}")
    near = next(parent for parent in out.absolute().parents if parent.exists())
    try:
        told = estimate(plan, device=device, offload=offload, near=near)
    except BadLayer as error:  # the plan is shown all the same, with what is to be mended
        return Outcome(rows, out, _by_step(rows, {}), (*says, f"cannot be done: {error}"), 2)
    for number, found in enumerate(told, 1):
        says.append(f"step {number}: {_cost(found)}")
    return Outcome(rows, out, _by_step(rows, {}), (*says, f"into {out}; nothing was done."))


def _on(plan: "Recipe", work: Any, languages: int) -> str:
    """What a step looks at, where it looks at anything."""
    if not languages:
        return ""
    moments, fed = getattr(work, "moments", None), getattr(work, "propagate", None)
    source = moments or f"{plan.calibration.corpus}, {plan.calibration.tokens:,} tokens"
    propagate = f", propagate {fed}" if fed else ""
    return f", on {source} in {languages} languages{propagate}"


def _shares(plan: "Recipe", kind: str, work: Any) -> dict[str, float]:
    """The shares that a step begins with, without opening the model; none without a mixture."""
    from babelpress.models.open import config_of
    from babelpress.moments.store import Store
    from babelpress.runs.places import origin_of, place_of
    from babelpress.text import mixtures
    from babelpress.text.draw import languages_of, tagged
    from babelpress.text.labelled import trained_on

    if not hasattr(work, "mixture") or KINDS.facts(kind).get("OWN_TEXT"):
        return {}
    if task := getattr(work, "task", None):
        tags = trained_on(task, plan.calibration.corpus, plan.calibration.languages)
    elif getattr(work, "moments", None):
        tags = Store.open(Path(work.moments)).identity["languages"]
    else:
        text = tagged(plan.calibration.corpus, config_of(place_of(plan.model)))
        tags = languages_of(text, plan.calibration.languages)
    mixed = mixtures.mixture(work.mixture, tags, model=origin_of(plan.model))
    mixtures.check_there(mixed, tags)
    return mixed.shares


def _cost(found: Estimate) -> str:
    """An estimate in a line, the longest phases named."""
    longest = sorted(found.phases.items(), key=lambda each: -each[1])[:3]
    phases = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in longest if seconds >= 1)
    memory, disk = found.memory_bytes / 2**30, o.size(found.disk_bytes)
    return (
        f"about {found.seconds:.0f} s{f' ({phases})' if phases else ''}, {memory:.2f} GiB of "
        f"memory, {disk} of disk"
    )


def _by_step(rows: Sequence[Row], more: Mapping[str, o.Column]) -> tuple[Table, ...]:
    """A table for every step; `more` are columns that only those have that have their key."""
    names, share = (o.key(o.tag()), o.beside(o.name())), o.share("share", "share")
    numbers = sorted({row["step"] for row in rows})
    found: list[Table] = []
    for number in numbers:
        own = [row for row in rows if row["step"] == number]
        there = [each for key, each in more.items() if any(row[key] is not None for row in own)]
        if any(row["share"] for row in own):
            there = [share, *there]
        title = f"step {number}" if len(numbers) > 1 else ""
        if there:  # else the step has tables of its own
            found.append(Table((*names, *there), own, title))
    return tuple(found)
