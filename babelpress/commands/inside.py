"""The command that looks inside models: insight.

Tested in tests/insight/test_doing.py.
"""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from babelpress.commands import checks
from babelpress.commands import outcome as o
from babelpress.commands.declared import Device, Watched, command
from babelpress.commands.outcome import Outcome, Row, Table
from babelpress.errors import BadModel, BadRun, BadSetting
from babelpress.insight._settings import InsightSettings
from babelpress.system.progress import silent

if TYPE_CHECKING:
    from babelpress.insight._kept import Kept

PAGE = "insight.html"
EFFECT = {"moments": "--moments", "beside": "--beside"}


@command(
    rows={
        "analysis": "its name",
        "picture": "name of the picture",
        "question": "what the picture answers",
        "seen": "what is seen in it",
        "rows": "path of the file with all its numbers, one JSON row a line",
    }
)
def insight(
    runs: Annotated[
        Sequence[Path], Parameter(help="Finished runs; some analyses need none, some two.")
    ] = (),
    *,
    asked: InsightSettings,
    out: Annotated[
        Path | None,
        Parameter(
            help="Folder for results and the page; by default insight/ in the run where one is "
            "named, where a report finds it, else insight."
        ),
    ] = None,
    dense: Annotated[
        str, Parameter(help="The dense model; by default the one that the runs began with.")
    ] = "",
    moments: Annotated[
        Path | None,
        Parameter(
            help="Moments of the dense model; by default those that a run's recipe names, else "
            "they are taken of the text."
        ),
    ] = None,
    beside: Annotated[
        Path | None,
        Parameter(help="Moments of other text, such as translations, which features sets beside."),
    ] = None,
    device: Device = "cpu",
    progress: Watched = silent,
) -> Outcome:
    """What is inside a model by language, and what pressing did to it: numbers and one page.

    An analysis that is done for the same inputs is not done again.

    Example: babelpress insight run --on similarity,damage
    """
    out = out or (runs[0] / "insight" if len(runs) == 1 else Path("insight"))
    checks.folder(out)
    model = _cheap(runs, asked, dense, moments, beside)
    checks.load(progress)
    from babelpress.insight._doing import beside as lying_beside
    from babelpress.insight._doing import do
    from babelpress.insight._given import Given
    from babelpress.report.insight import write_page

    given = Given(
        asked,
        model,
        runs,
        out,
        moments=moments,
        beside=beside,
        device=device,
        progress=progress,
    )
    done = do(given)
    page = write_page([*done, *lying_beside(given)], out / PAGE, model=model, runs=given.labels)
    return _told(done, out, page)


def _told(done: "Sequence[Kept]", out: Path, page: Path) -> Outcome:
    rows: list[Row] = [
        {
            "analysis": each.analysis,
            "picture": picture.name,
            "question": picture.question,
            "seen": picture.seen,
            "rows": str(out / f"{each.analysis}.jsonl"),
        }
        for each in done
        for picture in each.pictures
    ]
    columns = (o.key(o.word("question", "question")), o.key(o.word("seen", "what is seen")))
    more = [out / name for each in done for name in each.files if not name.endswith(".jsonl")]
    says = (f"page: {page}", *(f"also: {path}" for path in more))
    return Outcome(rows, out, (Table(columns, rows),), says)


# ---- cheap checks --------------------------------------------------------------------------


def _cheap(
    runs: Sequence[Path],
    asked: InsightSettings,
    dense: str,
    moments: Path | None,
    beside: Path | None,
) -> str:
    """The dense model, when all is sound that can be known before it is opened."""
    from babelpress.insight import check_languages, check_runs, facts, options_of
    from babelpress.insight._cheap import RANGE, beyond
    from babelpress.insight._cheap import languages as known_languages

    check_runs(asked.on, len(runs))
    reads = {part for name in asked.on for part in facts(name).reads}
    for part, folder in (("moments", moments), ("beside", beside)):
        if folder is None:
            continue
        if part not in reads:
            raise BadSetting(
                f"{EFFECT[part]} has no effect on {', '.join(asked.on)}. Leave it out."
            )
        known_languages(folder, checks.of_moments(folder), asked)
    model = dense or _origin(runs)
    for run in runs:
        checks.model(str(run))
        if "scores" in reads:
            checks.scores(run, on=RANGE)
            beyond(run, asked)
    try:
        checks.model(model)
    except BadModel as error:
        if dense or not runs:
            raise
        raise BadModel(
            f"{runs[0]} began with {model}, which cannot be opened ({error}) Name the dense model "
            "with --dense."
        ) from error
    if "text" in reads or ("moments" in reads and moments is None):
        tags = checks.text(asked.corpus, asked.languages)
        if tags:  # else only a hub knows how many there are
            reading = [name for name in asked.on if "text" in facts(name).reads]
            check_languages(reading, options_of(asked.on, asked.options), len(tags))
    return model


def _origin(runs: Sequence[Path]) -> str:
    """The dense model that all runs began with."""
    from babelpress.runs import manifest

    if not runs:
        raise BadSetting("no run is named, and no model. Name runs, or a model with --dense.")
    found: dict[str, Path] = {}
    for run in runs:
        if not manifest.is_finished(run):
            raise BadRun(
                f"{run} is no finished run, so nothing says which model it began with. Finish it, "
                f"or name that model: babelpress insight {quote(str(run))} --dense MODEL"
            )
        found.setdefault(manifest.read(run).origin.name, run)
    if len(found) > 1:
        named = "; ".join(f"{run}: {name}" for name, run in found.items())
        raise BadSetting(f"these runs began with different models ({named}). Name runs of one.")
    return next(iter(found))
