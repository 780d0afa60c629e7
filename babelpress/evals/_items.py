"""Items of a multiple-choice task by language, from a folder or a data set on the hub.

`--corpus` names the folder or hub:ID[@REVISION], whose paths say languages and splits as those of a
corpus do (text/paths.py); XWinograd is also read as the one table of its repository. The test split
is taken, else what has no split in its path, and never train or valid.

Which task it is need not be said: a data set of the hub is known by its name, XWinograd by that of
its table, and all else by the columns of its first record.

Tested in tests/evals/test_choice.py.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from babelpress.errors import BadCorpus
from babelpress.evals import _tasks
from babelpress.evals._prompts import Templates, check_prompts
from babelpress.system.files import sha256_text
from babelpress.text import folders, languages, readers
from babelpress.text.readers import HubFiles, LeftOut, LocalFiles, listed, of_split
from babelpress.text.records import Record

TEST = "test"
USUAL = "xcopa"  # the task that is named for one where nobody says which


@dataclass(frozen=True, slots=True)
class Option:
    """One choice of an item: what is before it, as it is scored, and the choice itself."""

    before: str
    scored: str
    choice: str


@dataclass(frozen=True, slots=True)
class Item:
    """One question, its choices, and which of them is right."""

    id: str
    options: tuple[Option, ...]
    answer: int

    @property
    def text(self) -> str:
        """All that hits depend on: the right one, then every choice in order."""
        right = self.options[self.answer]
        return "\n".join(f"{each.before}|{each.scored}" for each in (right, *self.options))


class Source(Protocol):
    """Records of one language."""

    def records(self) -> Iterable[Record]: ...


@dataclass(frozen=True, slots=True)
class _Rows:
    """Records that were read already."""

    rows: tuple[Record, ...]

    def records(self) -> Iterable[Record]:
        return self.rows


def require(tags: Iterable[str], there: Collection[str], name: str, what: str) -> None:
    """Raise BadCorpus that names every language that `name` has not, and those it has."""
    if missing := [tag for tag in dict.fromkeys(tags) if tag not in there]:
        raise BadCorpus(
            f"{name} has no {what} in {listed(missing)}. It has {listed(there)}. Leave the others "
            "out of --languages."
        )


class Items:
    """The items of a task. Files are opened when a language is asked for, not before."""

    def __init__(
        self,
        task: str,
        name: str,
        sources: Mapping[str, Source],
        left_out: Sequence[LeftOut],
        templates: Templates,
        prompts: str,
    ):
        self._task, self._name, self._left_out = task, name, tuple(left_out)
        self._sources = dict(sorted(sources.items()))
        self._templates, self._prompts = templates, prompts

    @property
    def task(self) -> str:
        """The name of the task."""
        return self._task

    def found(self) -> dict[str, str]:
        """The task, which the options may leave open."""
        return {"task": self._task}

    @property
    def name(self) -> str:
        """How it was asked for; of a hub data set with the commit that was found."""
        return self._name

    def says(self) -> tuple[str, ...]:
        """A sentence about what lies here and is not read; none where all is."""
        return LeftOut.says(self._name, self._left_out)

    def languages(self) -> list[str]:
        """The canonical tags of all languages that have items, in order."""
        return list(self._sources)

    def require(self, tags: Iterable[str]) -> None:
        """Raises BadCorpus that names every language without items, and what there is."""
        require(tags, self._sources, self._name, self._task)

    def documents(self, tag: str, split: str) -> list[Item]:
        """The items of a language; they are all of the test split.

        Files may be sorted by label, as SIB-200's are, so the order is that of the hashes of names:
        the first so many are a sample then, and the same one wherever items have the same names.

        Raises BadCorpus for a record that is no question, BadSetting without a template for it.
        """
        assert split == TEST, split
        self.require([tag])
        found: dict[str, Item] = {}
        for number, record in enumerate(self._sources[tag].records(), 1):
            item = self._item(tag, record, number)
            if item.id in found:
                raise BadCorpus(
                    f"{record.place}, line {record.line}: {item.id} is there twice in {tag}. "
                    "Remove one."
                )
            found[item.id] = item
        if not found:
            raise BadCorpus(f"{self._name} has no test item in {tag}. Leave it out of --languages.")
        return sorted(found.values(), key=lambda item: sha256_text(item.id))

    def _item(self, tag: str, record: Record, number: int) -> Item:
        asked = _tasks.question(self._task, record, number)
        template = self._templates.of(tag, asked.kind, self._prompts)
        options = tuple(Option(*each) for each in template.write(asked))
        # Where equal names are other questions in another language, they are told apart.
        own = () if _tasks.find(self._task).aligned else (tag,)
        return Item("/".join((self._task, *own, asked.name)), options, asked.answer)


def open_items(task: str, corpus: str, *, prompts: str, templates: str) -> Items:
    """Open a task in a folder or on the hub without reading its items yet.

    An empty `task` is the one that the corpus is of: then one record of it is read.

    Raises UnknownName for a task that is none, BadSetting for templates that are none, BadCorpus
    where there is no such folder or data set, nothing in it is named after a language, or its
    columns are those of no task.
    """
    if task:
        _tasks.find(task)
    check_prompts(prompts)
    if corpus.startswith("hub:"):
        name, found = readers.hub_files(corpus, _tag)
        task = task or _tasks.of_hub(corpus.removeprefix("hub:"))
        sources = {tag: _test_of(source, None) for tag, source in found.sources.items()}
        left_out = found.left_out
    else:
        name, folder = corpus, _folder(task, corpus)
        if task in ("", _tasks.TABLED) and (folder / _tasks.TABLE).is_file():
            task, sources, left_out = _tasks.TABLED, _of_table(folder / _tasks.TABLE), ()
        else:
            found = folders.folder_files(folder, _tag)
            sources = {tag: _test_of(source, folder) for tag, source in found.sources.items()}
            left_out = found.left_out
    task = task or _task_of(name, sources)
    return Items(task, name, sources, left_out, Templates(task, templates), prompts)


def _folder(task: str, corpus: str) -> Path:
    """The folder of a task. Raises BadCorpus where there is none."""
    folder = Path(corpus)
    if corpus == "embedded" or not folder.is_dir():
        what = "is inside the package" if corpus == "embedded" else f"is a folder {corpus}"
        raise BadCorpus(
            f"no {task or 'task with choices'} {what}. Name a folder of it with --corpus, or take "
            f"it from the hub: --corpus hub:{_tasks.find(task or USUAL).hub}"
        )
    return folder


def _task_of(name: str, sources: Mapping[str, Source]) -> str:
    """The task of which the first record is, whatever its language. Raises BadCorpus for none."""
    for source in sources.values():
        for record in source.records():
            return _tasks.of_columns(record)
    raise BadCorpus(f"{name} has no test item. Name a data set of a task with --corpus.")


def _test_of(source: readers.Source, folder: Path | None) -> Source:
    """The same, with only the files of the test split, else those that name no split."""
    assert isinstance(source, LocalFiles | HubFiles)
    return of_split(source, folder, _tag, TEST, unsplit=True)


def _of_table(path: Path) -> dict[str, Source]:
    rows: dict[str, list[Record]] = {}
    for language, record in _tasks.table(path):
        rows.setdefault(languages.find(language).tag, []).append(record)
    return {tag: _Rows(tuple(each)) for tag, each in rows.items()}


def _tag(name: str) -> str | None:
    """The tag that a name stands for."""
    language = languages.known(name)
    return language.tag if language else None
