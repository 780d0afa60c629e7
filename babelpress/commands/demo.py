"""The command that shows the whole job: demo."""

from pathlib import Path
from shlex import quote
from textwrap import fill
from typing import Annotated

from cyclopts import Parameter

from babelpress.commands import outcome as o
from babelpress.commands.declared import Watched, command
from babelpress.commands.outcome import Outcome, Row, Table
from babelpress.system.progress import silent

LINE = 79  # characters of a line of prose


@command(
    rows={
        "calibration": "mixture policy that the run was calibrated with; fit of the searched model",
        "summary": "mean, worst or low_resource (of the languages of the text)",
        "change": "relative change of bits per byte against the dense model; positive is worse",
        "low": "lower end of its 95 % interval",
        "high": "upper end",
        "language": "canonical tag of the worst language; null for the others",
    }
)
def demo(
    *,
    out: Annotated[
        Path,
        Parameter(
            help="Folder for moments, runs and the report; a second call goes on from what is "
            "there."
        ),
    ] = Path("demo-run"),
    progress: Watched = silent,
) -> Outcome:
    """The whole job on the embedded model and text, on a CPU, in under two minutes.

    Example: babelpress demo --out demo-run
    """
    from babelpress.commands import demonstration

    shown = demonstration.do(out, progress)
    columns = (
        o.word("words", "calibrated on"),
        *(
            o.Column(title, lambda row, name=name: _two_lines(row[name]))
            for name, title in demonstration.SHOWN.items()
        ),
    )
    table = Table(columns, demonstration.side_by_side(shown.rows), f"{shown.about}\n")
    moments, new = quote(str(out / "moments")), quote(str(out / "only-swahili"))
    fitted = shown.fitted
    worst = next(each for each in fitted.proof.summaries if each.name == "worst")
    rows = [*shown.rows, *demonstration.searched(fitted)]
    says = (
        fill(f"{shown.finding} Changes are of bits per byte, with 95 % intervals.", LINE),
        "",
        fill(
            f"Then the best way to half the size for {demonstration.served()}, as `babelpress fit` "
            f"finds it: {fitted.best.label}; {o.size(fitted.bytes)} with tokenizer and all. On "
            f"text that chose nothing {o.spoken(worst.language or '')} loses most, "
            f"{o.signed(worst.value)} ({o.between(worst.low, worst.high)}).",
            LINE,
        ),
        "",
        f"report: {shown.page}",
        f"model:  {out / 'fitted' / 'exported'}",
        f"next:   babelpress prune babel-mini --moments {moments} --mixture only:sw --out {new}",
    )
    return Outcome(rows, shown.page, (table,), says)


def _two_lines(row: Row) -> str:
    language = f"  {o.spoken(row['language'])}" if row["language"] else ""
    return f"{o.signed(row['change'])}{language}\n{o.between(row['low'], row['high'])}"
