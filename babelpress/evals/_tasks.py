"""What multiple-choice tasks ask: a record of a data set as a question, by the columns it has.

xcopa        Ponti et al. 2020 (arXiv:2005.00333)        the more plausible cause or effect
xwinograd    Tikhonov and Ryabinin 2021 (arXiv:2106.12066)  whom a pronoun means
sib200       Adelani et al. 2023 (arXiv:2309.07445)      the topic of a sentence, of seven
afrisenti    Muhammad et al. 2023 (arXiv:2302.08956)     the feeling of a tweet, of three
belebele     Bandarkar et al. 2023 (arXiv:2308.16884)    a question about a passage, of four answers
xstorycloze  Lin et al. 2021 (arXiv:2112.10668)          how a story of four sentences ends
xnli         Conneau et al. 2018 (arXiv:1809.05053)      whether one sentence follows from another

Column names are those of the data sets; what stands in a record beside them is not read.

Tested in tests/evals/test_choice.py.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from babelpress.errors import BadCorpus, UnknownName
from babelpress.text import labelled
from babelpress.text.labelled import AFRISENTI, SIB200
from babelpress.text.records import Record

TABLED = "xwinograd"  # the task that may be one table
TABLE = "dataset.tsv"  # as the repository of XWinograd calls its one file, without a first row
QUOTES = {"``": '"', "''": '"'}  # how its tokens write what its sentences write as "
MARKS = ".。!?！？…।۔። "  # that end a premise, where a connective goes on with it


class Question(NamedTuple):
    """One question: `fields` for its template, its choices where a record has them, the right one.

    `kind` says which of several templates; `name` is its own within a language.
    """

    name: str
    fields: Mapping[str, str]
    choices: tuple[str, ...]
    answer: int
    kind: str = ""


Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Task:
    """A task: its columns and its data set on the hub.

    `labels` are what its answers may be, in the order of its templates' labels, where it is the
    same few for every question. `aligned` says whether equal names are the same question in all
    languages.
    """

    hub: str
    columns: tuple[str, ...]
    ask: Callable[[Row, int], Question]
    labels: tuple[str, ...] = ()
    aligned: bool = True


def find(name: str) -> Task:
    """The task of this name. Raises UnknownName."""
    if name not in TASKS:
        raise UnknownName("task", name, TASKS, "babelpress/evals/_tasks.py")
    return TASKS[name]


def of_hub(dataset: str) -> str:
    """The task whose data set on the hub this is, ID[@REVISION]; empty where it is of none."""
    own = dataset.partition("@")[0]
    return next((name for name, each in TASKS.items() if each.hub.partition("@")[0] == own), "")


def of_columns(record: Record) -> str:
    """The task that has the columns of a record. Raises BadCorpus where none has, or several."""
    there = set(record.fields)
    fitting = [name for name, each in TASKS.items() if there.issuperset(each.columns)]
    if len(fitting) == 1:
        return fitting[0]
    where = f"{record.place}, line {record.line}"
    if fitting:
        raise BadCorpus(
            f"{where} has the columns of {' and '.join(fitting)}. Say which it is: --option "
            f"task={fitting[0]}."
        )
    near = max(TASKS, key=lambda name: len(there.intersection(TASKS[name].columns)))
    lacks = [column for column in TASKS[near].columns if column not in there]
    raise BadCorpus(
        f"{where} has the columns of no task: {_has(record)}. {near}, which is nearest, has "
        f"{', '.join(lacks)} too. Name the data set of one of {', '.join(TASKS)} with --corpus."
    )


def _has(record: Record) -> str:
    return ", ".join(" ".join(each.split()) for each in record.fields) or "no column"


def question(name: str, record: Record, number: int) -> Question:
    """A record, the `number`th of its language, as a question.

    Raises BadCorpus naming the line and the column that is wrong.
    """
    task = find(name)
    where = f"{record.place}, line {record.line}"
    for column in task.columns:
        if not isinstance(record.fields.get(column), str | int):
            raise BadCorpus(
                f"{where} has no column '{column}' with a text or a number. It has "
                f"{_has(record)}; {name} needs {', '.join(task.columns)}. Name the data set of "
                f"{name} with --corpus."
            )
    try:
        asked = task.ask({key: str(record.fields[key]) for key in task.columns}, number)
    except _Wrong as error:
        raise BadCorpus(f"{where}: {error}.") from error
    choices = len(task.labels) or len(asked.choices)
    if not 0 <= asked.answer < choices:
        raise BadCorpus(f"{where}: its right answer is none of its {choices} choices.")
    return asked


class _Wrong(ValueError):
    """What is wrong with a value of a record."""


def _xcopa(row: Row, _number: int) -> Question:
    fields = {"premise": row["premise"].strip().rstrip(MARKS)}
    choices = tuple(_small(row[key]) for key in ("choice1", "choice2"))
    return Question(row["idx"], fields, choices, _whole(row, "label"), row["question"])


def _small(sentence: str) -> str:
    """A sentence as it goes on after a connective."""
    return sentence[:1].lower() + sentence[1:].strip()


def _xwinograd(row: Row, number: int) -> Question:
    before, blank, after = row["sentence"].partition("_")
    if not blank:
        raise _Wrong("its sentence has no _ where the pronoun was")
    fields = {"before": before, "after": after}
    choices = (row["option1"], row["option2"])
    last = "" if after.strip() else "last"  # nothing follows that could be scored: the choice is
    return Question(str(number), fields, choices, _whole(row, "answer") - 1, last)


def _sib200(row: Row, _number: int) -> Question:
    answer = _label(row, "category", SIB200)
    return Question(row["index_id"], {"text": row["text"].strip()}, (), answer)


def _afrisenti(row: Row, number: int) -> Question:
    answer = _label(row, "label", AFRISENTI)
    return Question(str(number), {"text": row["tweet"].strip()}, (), answer)


def _belebele(row: Row, _number: int) -> Question:
    fields = {"passage": row["flores_passage"].strip(), "question": row["question"].strip()}
    choices = tuple(row[f"mc_answer{number}"].strip() for number in range(1, 5))
    name = f"{row['link']}#{row['question_number']}"
    return Question(name, fields, choices, _whole(row, "correct_answer_num") - 1)


def _xstorycloze(row: Row, _number: int) -> Question:
    story = " ".join(row[f"input_sentence_{number}"].strip() for number in range(1, 5))
    choices = (row["sentence_quiz1"].strip(), row["sentence_quiz2"].strip())
    answer = _whole(row, "answer_right_ending") - 1
    return Question(row["story_id"], {"story": story}, choices, answer)


def _xnli(row: Row, number: int) -> Question:
    fields = {key: row[key].strip() for key in ("premise", "hypothesis")}
    return Question(str(number), fields, (), _whole(row, "label"))


def _whole(row: Row, column: str) -> int:
    try:
        return int(row[column])
    except ValueError as error:
        raise _Wrong(f"its {column} is {row[column]!r}, which is no whole number") from error


def _label(row: Row, column: str, labels: Sequence[str]) -> int:
    if row[column] not in labels:
        raise _Wrong(f"its {column} is {row[column]!r}, which is none of {', '.join(labels)}")
    return labels.index(row[column])


XNLI = ("entailment", "neutral", "contradiction")  # as its numbers say them
TASKS = {
    "xcopa": Task(
        "cambridgeltl/xcopa",
        ("premise", "choice1", "choice2", "question", "label", "idx"),
        _xcopa,
    ),
    "xwinograd": Task(
        "Muennighoff/xwinograd@refs/convert/parquet",
        ("sentence", "option1", "option2", "answer"),
        _xwinograd,
        aligned=False,
    ),
    "sib200": Task(labelled.TASKS["topic"].hub, ("index_id", "category", "text"), _sib200, SIB200),
    "afrisenti": Task(
        labelled.TASKS["sentiment"].hub,
        ("tweet", "label"),
        _afrisenti,
        AFRISENTI,
        aligned=False,
    ),
    "belebele": Task(
        "facebook/belebele@refs/convert/parquet",
        (
            *("link", "question_number", "flores_passage", "question"),
            *("mc_answer1", "mc_answer2", "mc_answer3", "mc_answer4", "correct_answer_num"),
        ),
        _belebele,
    ),
    "xstorycloze": Task(
        "juletxara/xstory_cloze@refs/convert/parquet",
        (
            *("story_id", "input_sentence_1", "input_sentence_2", "input_sentence_3"),
            *("input_sentence_4", "sentence_quiz1", "sentence_quiz2", "answer_right_ending"),
        ),
        _xstorycloze,
    ),
    "xnli": Task("facebook/xnli", ("premise", "hypothesis", "label"), _xnli, XNLI),
}


# ---- the one file of XWinograd -------------------------------------------------------------


def table(path: Path) -> Iterator[tuple[str, Record]]:
    """Records of the file of XWinograd with the columns of its hub data set, and their languages.

    Raises BadCorpus for a line that has not what its README says.
    """
    for number, line in enumerate(_lines(path), 1):
        try:
            language, _, _, sentence, *parts = line.split("\t")
            tokens, pronoun, candidates = map(json.loads, parts)
            start = _place(sentence, tokens[: pronoun[1][0] + 1])
            right = [place for place, each in enumerate(candidates) if each[3]]
            first, second = (each[0] for each in candidates)
        except (ValueError, TypeError, IndexError) as error:
            raise BadCorpus(
                f"{path}, line {number} is no line of XWinograd: {error}. Restore the file, or "
                "name another with --corpus."
            ) from error
        blank = f"{sentence[:start]}_{sentence[start + len(pronoun[0]) :]}"
        fields: dict[str, object] = {
            "sentence": blank,
            "option1": first,
            "option2": second,
            "answer": right[0] + 1 if len(right) == 1 else 0,
        }
        yield language, Record(str(path), number, fields)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise BadCorpus(f"{path} cannot be read: {error}. Restore the file.") from error


def _place(sentence: str, tokens: Sequence[str]) -> int:
    """Where the last of some tokens begins, which are a sentence's first ones in order."""
    end = place = 0
    for token in tokens:
        found = [(sentence.find(each, end), each) for each in (token, QUOTES.get(token, token))]
        place, written = max(found[0], found[1], key=lambda each: each[0] >= 0)
        if place < 0:
            raise ValueError(f"its sentence has no {token!r}")
        end = place + len(written)
    return place
