"""The command that makes a store of synthetic text.

Tested in tests/runs/test_synthetic.py.
"""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter

from babelpress.commands import checks
from babelpress.commands import outcome as o
from babelpress.commands.declared import Device, Model, Offers, Watched, command
from babelpress.commands.given import COMMAS
from babelpress.commands.outcome import Outcome, Row, Table
from babelpress.errors import BadSetting
from babelpress.system.progress import silent
from babelpress.text.labelled import TASKS
from babelpress.text.synthetic import NO_TASK, REASONS, UNSURE

SURE = 0.5
WRITTEN = {
    "language": "canonical tag",
    "written": "texts that the model wrote",
    "kept": "texts that are in the store",
    "short": "dropped: fewer characters than asked for",
    "repeats": "dropped: the text says the same again and again",
    "foreign": "dropped: the text is not in its language",
    "duplicate": "dropped: the same text is there already",
    "known": "dropped: the text stands in what is kept apart",
    "unsure": "dropped: the teacher is too little sure of its label; null without a teacher",
    "confidence": "mean probability of the labels that were kept; null without a teacher",
}


@command(rows=WRITTEN)
def write(
    model: Model,
    *,
    out: Annotated[Path, Parameter(help="A new folder.")],
    languages: Annotated[str, Parameter(help="Languages or groups."), COMMAS],
    tokens: Annotated[int, Parameter(help="Tokens to write in every language.")] = 8192,
    length: Annotated[int, Parameter(help="Tokens of a text at most.")] = 64,
    teacher: Annotated[
        str, Parameter(help="A fine-tuned model that labels what was written.")
    ] = "",
    task: Annotated[
        str, Parameter(help=f"What the teacher labels: {', '.join(TASKS)}."), Offers(tuple(TASKS))
    ] = "",
    confidence: Annotated[
        float, Parameter(help="Least probability of a label; of words in the mean.")
    ] = SURE,
    least: Annotated[int, Parameter(help="Least characters of a text.")] = 20,
    top_p: Annotated[
        float, Parameter(help="Tokens are drawn from the likeliest of this probability together.")
    ] = 0.95,
    evaluation: Annotated[
        str, Parameter(help="Corpus or labelled text whose valid and test texts are kept apart.")
    ] = "",
    seed: Annotated[int, Parameter(help="Which text is drawn.")] = 0,
    device: Device = "cpu",
    progress: Watched = silent,
) -> Outcome:
    """Let a decoder write text by language, sift it, and let a teacher label it: a store.

    Example: babelpress write babel-mini --languages sw,yo --tokens 4096 --out written
    """
    from babelpress.text.labelled import find
    from babelpress.text.languages import select

    _check(tokens, length, confidence, least, top_p)
    tags = tuple(select(_words(languages)))
    if task:
        find(task)
    _check_labels(teacher, task, confidence)
    checks.new_folder(out)
    checks.model(model)
    if teacher:
        checks.model(teacher)
    checks.load(progress)
    from babelpress.runs import synthetic

    asked = synthetic.Asked(
        tags, tokens, length, seed, top_p, least, confidence, evaluation or None
    )
    given = {"teacher": teacher or None, "task": task or None, "device": device}
    found = synthetic.write(model, out, asked, **given, progress=progress)
    return _outcome(found, task, out)


def _outcome(found: Row, task: str, out: Path) -> Outcome:
    """What was kept of each language, and how to go on."""
    rows: list[Row] = [_row(tag, each) for tag, each in found["languages"].items()]
    columns = (
        o.key(o.tag()),
        o.beside(o.name()),
        *(o.count(name, name) for name in ("written", "kept", *REASONS)),
        *([o.count("unsure", "unsure"), o.share("confidence", "confidence")] if task else []),
    )
    then = f"--task {task} --corpus DATA --store" if task else "--corpus"
    line = f"next: babelpress distill MODEL --layers N {then} {quote(str(out))} --out run"
    told = f"languages were told by {found['told_by']}."
    return Outcome(rows, out, (Table(columns, rows),), (told, line))


def _words(languages: str) -> Sequence[str]:
    return [each.strip() for each in languages.split(",") if each.strip()]


def _check(tokens: int, length: int, confidence: float, least: int, top_p: float) -> None:
    """Raise BadSetting for a number that cannot be."""
    if tokens < 1 or length < 8:
        raise BadSetting(
            f"--tokens {tokens} of --length {length} are no text. Give at least 1 and at least 8."
        )
    if not (0 <= confidence <= 1 and 0 < top_p <= 1 and least >= 0):
        raise BadSetting(
            f"--confidence {confidence} and --top-p {top_p} are probabilities, and --least {least} "
            "a number of characters: give from 0 to 1, above 0 to 1, and 0 or more."
        )


def _check_labels(teacher: str, task: str, confidence: float) -> None:
    """Raise BadSetting for a teacher without a task, or the other way round, or what is of both."""
    if bool(teacher) != bool(task):
        raise BadSetting(NO_TASK)
    if not teacher and confidence != SURE:
        raise BadSetting(
            f"--confidence {confidence} is that of labels, which a teacher gives. Leave it out, or "
            "name one with --teacher and --task."
        )


def _row(tag: str, found: Row) -> Row:
    """A language's row of results."""
    return {
        "language": tag,
        "written": found["written"],
        "kept": found["kept"],
        **{reason: found["dropped"][reason] for reason in REASONS},
        "unsure": found["dropped"].get(UNSURE),
        "confidence": found.get("confidence"),
    }
