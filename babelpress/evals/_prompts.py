"""How a question of a task is written: templates as rows of a table.

    task,language,kind,before,choice,labels
    xcopa,eng_Latn,cause,{premise} because, {choice},

`before` is what a model is given and `choice` what is scored after it, for every choice; fields of
the question stand in braces, and {choice} is one of its choices. `labels`, with | between, are the
words for answers that are the same few in every question. The language `*` is a template without
words, which serves all. `kind` tells questions of a task apart that are written differently.

Our own rows, English and for XCOPA the connectives of its languages, are data/prompts/choice.csv;
no speaker of those languages has checked the latter.

Tested in tests/evals/test_choice.py.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter

from babelpress.errors import AmbiguousName, BadSetting, UnknownName
from babelpress.evals._tasks import Question, find
from babelpress.system.files import DATA
from babelpress.text import languages
from babelpress.text.languages import ENGLISH

OURS = DATA / "prompts" / "choice.csv"
COLUMNS = ("task", "language", "kind", "before", "choice", "labels")
ANY = "*"
PROMPTS = ("english", "own")


@dataclass(frozen=True, slots=True)
class Template:
    """How questions of one kind are written in one language."""

    before: str
    choice: str
    labels: tuple[str, ...]
    place: str

    def write(self, question: Question) -> list[tuple[str, str, str]]:
        """What is before a choice, the choice as it is scored, and the choice itself, for each.

        Raises BadSetting for a template with a field that the question has not.
        """
        written: list[tuple[str, str, str]] = []
        for choice in self.labels or question.choices:
            fields = {**question.fields, "choice": choice}
            self._check(fields)
            before, scored = (part.format_map(fields) for part in (self.before, self.choice))
            written.append((before, scored, choice))
        return written

    def _check(self, fields: Mapping[str, str]) -> None:
        try:
            asked = (*_fields(self.before), *_fields(self.choice))
        except ValueError as error:
            raise BadSetting(f"{self.place} is no template: {error}. Write {{premise}}.") from error
        if wrong := [name for name, more in asked if name not in fields or more]:
            raise BadSetting(
                f"{self.place} has {{{wrong[0]}}}, which a question has not. It may have "
                f"{', '.join(f'{{{name}}}' for name in fields)}."
            )


class Templates:
    """The templates of a task: our rows, and in their place those of a table that is named."""

    def __init__(self, task: str, path: str = ""):
        """Raises BadSetting for a table that is none or has a row that is not as it should be."""
        self._task = task
        self._where = path or "a table named with --option templates=FILE.csv"
        self._rows = {key: row for at, key, row in _rows(OURS) if at == task}
        if path:
            self._rows |= {key: row for at, key, row in _rows(Path(path)) if at == task}
        labels = find(task).labels
        for row in self._rows.values():
            if len(row.labels) != len(labels):
                wanted = f"one for each of {', '.join(labels)}" if labels else "none"
                raise BadSetting(
                    f"{row.place} has {len(row.labels)} labels. {task} needs {wanted}, with | "
                    "between."
                )

    def of(self, tag: str, kind: str, prompts: str) -> Template:
        """The `own` template of a language, or the `english` one. Raises BadSetting for none."""
        wanted = tag if prompts == "own" else ENGLISH
        for language in (wanted, ANY):
            if (language, kind) in self._rows:
                return self._rows[language, kind]
        raise BadSetting(
            f"there is no template of {self._task} in {wanted}{f' for {kind}' if kind else ''}. "
            f"Add a row to {self._where}, take prompts=english, or leave the language out."
        )


def check_prompts(prompts: str) -> None:
    """Raise BadSetting for a language of templates that is none of those known."""
    if prompts not in PROMPTS:
        raise BadSetting(f"prompts is {prompts!r}. It is {' or '.join(PROMPTS)}.")


@cache
def _fields(pattern: str) -> tuple[tuple[str, str], ...]:
    """The fields in braces of a pattern, each with what is said beside its name."""
    parts = Formatter().parse(pattern)
    return tuple((name, f"{spec}{turn or ''}") for _, name, spec, turn in parts if name is not None)


def _rows(path: Path) -> Iterator[tuple[str, tuple[str, str], Template]]:
    try:
        with path.open(encoding="utf-8", newline="") as table:
            found = list(csv.DictReader(table, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise BadSetting(f"{path} is no table of templates: {error}. Name another.") from error
    for number, row in enumerate(found, 2):
        place = f"{path}, row {number}"
        if set(row) != set(COLUMNS) or None in row.values():
            raise BadSetting(f"{place} is no template. Its columns must be {', '.join(COLUMNS)}.")
        labels = tuple(filter(None, row["labels"].split("|")))
        template = Template(row["before"], row["choice"], labels, place)
        yield row["task"], (_tag(row["language"], place), row["kind"]), template


def _tag(language: str, place: str) -> str:
    try:
        return language if language == ANY else languages.find(language).tag
    except (UnknownName, AmbiguousName) as error:
        raise BadSetting(f"{place}: {error}") from error
