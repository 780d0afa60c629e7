"""lm-eval: a task of the LM Evaluation Harness, document by document.

The harness (Gao et al. 2023, doi:10.5281/zenodo.10256836) loads the task by its name, writes its
prompts, scores them with its own class for transformers models, and gives `metric` for every
document; only what is kept, and per language, is ours. So numbers are those that `lm_eval` itself
gives, with its rules: BOS comes first only where the tokenizer adds it by itself. Few-shot examples
are those that the task's own file says.

`--corpus FOLDER` names a folder with task files (YAML); without it the task is one of the harness's
own, which fetches its data from the hub. Each task of a group is of the language that its data
set's configuration or its name says (xcopa_sw, belebele_yor_Latn); `language` says it where neither
does.

An item is a document with the metric's value of 1, so where that is 1 or 0 two models are compared
by McNemar's test. `chance` and `majority` are there for tasks with choices.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadCorpus, BadSetting, MissingPackage, UnknownName
from babelpress.evals._items import require
from babelpress.evals._windows import evaluating
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent
from babelpress.text import languages
from babelpress.text.readers import LeftOut, listed

METRIC = "acc"
SPOKEN = "score of a task of lm-eval"
LOWER_IS_BETTER = False
ONE_SIDED = True
BINARY = True

EMBEDDED = "embedded"  # what --corpus is where nobody names one
NAMED = 3  # metrics of a task that an error names


@dataclass(frozen=True, slots=True)
class Asked:
    """One document of a task of the harness; `options` and `answer` where it has choices."""

    task: Any
    number: int
    id: str
    text: str
    options: int = 0
    answer: int | None = None


class Tasks:
    """The tasks of a name by language, as the harness has loaded them."""

    def __init__(self, name: str, tasks: Mapping[str, Any], language: str):
        self._name = name
        self._tasks: dict[str, list[Any]] = {}
        left_out: list[LeftOut] = []
        for each, task in tasks.items():
            tag = _language(each, task, language)
            if tag:
                self._tasks.setdefault(tag, []).append(task)
            else:
                left_out.append(LeftOut(each, "says no language"))
        self._left_out = tuple(left_out)
        if not self._tasks:
            raise BadSetting(
                f"{self.name}: no task says its language ({listed(tasks)}). Say it with --option "
                "language=LANGUAGE."
            )

    @property
    def name(self) -> str:
        """The version of the harness, and the name of the task."""
        return self._name

    def says(self) -> tuple[str, ...]:
        """A sentence about tasks that are not read; none where all are."""
        return LeftOut.says(self._name, self._left_out)

    def languages(self) -> list[str]:
        """The canonical tags of all tasks, in order."""
        return sorted(self._tasks)

    def require(self, tags: Iterable[str]) -> None:
        """Raises BadCorpus that names every language without a task, and what there is."""
        require(tags, self.languages(), self._name, "task")

    def documents(self, tag: str, split: str) -> list[Asked]:
        """The documents that the harness evaluates on: the task's own choice of a split."""
        assert split == "test", split
        self.require([tag])
        return [
            _asked(task, number, fields)
            for task in self._tasks[tag]
            for number, fields in enumerate(task.eval_docs)
        ]


def texts(corpus: str, *, task: str = "", language: str = "") -> Tasks:
    """A task of the harness, or all of a group.

    Raises MissingPackage without the harness, UnknownName for a task that it has not, BadCorpus for
    a folder that is none, BadSetting without a language.
    """
    if not task:
        raise BadSetting("lm_eval needs the name of a task: --option task=xcopa_sw.")
    tag = languages.find(language).tag if language else ""
    return Tasks(f"lm-eval@{_package('lm_eval').__version__}:{task}", _loaded(task, corpus), tag)


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Asked]],
    *,
    window: int,
    metric: str = "acc",
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of the metric over documents per language.

    Texts longer than `window` tokens lose their beginning. Raises BadSetting for a metric that the
    task has not, that is no number for each document, or that is better when lower.
    """
    models = _package("lm_eval.models.huggingface")
    found: dict[str, Tally] = {}
    with evaluating(model):
        harness = models.HFLM(
            pretrained=model,
            tokenizer=tokenizer,
            backend="causal",
            max_length=window,
            truncation=True,
            batch_size=1,
        )
        for done, (tag, asked) in enumerate(documents.items(), 1):
            values = [each for task in _by_task(asked) for each in _values(harness, task, metric)]
            found[tag] = Tally(
                tuple(each.id for each in asked), np.array(values), np.ones(len(asked))
            )
            progress("lm-eval", done, len(documents))
    return found


def baselines(documents: Sequence[Asked]) -> dict[str, float]:
    """What guessing finds, and the place that is right most often; of tasks with choices."""
    if not all(each.options for each in documents):
        return {}
    found = {"chance": float(np.mean([1 / each.options for each in documents]))}
    if all(each.answer is not None for each in documents):
        ((_, most),) = Counter(each.answer for each in documents).most_common(1)
        found["majority"] = most / len(documents)
    return found


# ---- the harness ---------------------------------------------------------------------------


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackage("lm-eval", "tasks") from error


@lru_cache(maxsize=1)  # it reads thousands of files, and is asked for twice in a call
def _loaded(task: str, corpus: str) -> dict[str, Any]:
    """Tasks by name. Raises UnknownName with near misses."""
    own = corpus != EMBEDDED
    if own and not Path(corpus).is_dir():
        raise BadCorpus(
            f"there is no folder {corpus} with task files of lm-eval. Leave --corpus out for those "
            "of lm-eval itself."
        )
    manager = _package("lm_eval.tasks").TaskManager(
        include_path=corpus if own else None, include_defaults=not own
    )
    if task not in manager.all_tasks:
        where = f"{corpus}/{task}.yaml" if own else "a folder, and name it with --corpus"
        raise UnknownName("task of lm-eval", task, manager.all_tasks, where)
    return manager.load(task)["tasks"]


def _language(name: str, task: Any, said: str) -> str:
    """The tag of a task: as it is said, as its data set's configuration, or as the end of its name.

    Empty where nothing of that is a language.
    """
    if said:
        return said
    parts = name.split("_")
    ends = ["_".join(parts[place:]) for place in range(1, len(parts))]
    for each in (str(task.config.dataset_name or ""), *ends):
        if (known := languages.known(each)) is not None:
            return known.tag
    return ""


def _asked(task: Any, number: int, fields: Any) -> Asked:
    name, answer = f"{task.task_name}/{number}", task.doc_to_target(fields)
    # All that a score hangs on: a task file may be changed and keep its name and its documents.
    hangs_on = [fields, task.doc_to_text(fields), answer, task.config.num_fewshot]
    if task.OUTPUT_TYPE != "multiple_choice":
        return Asked(task, number, name, _written(hangs_on))
    choices = task.doc_to_choice(fields)
    text = _written([*hangs_on, choices])
    if isinstance(answer, str):
        answer = choices.index(answer) if answer in choices else None
    known = answer if isinstance(answer, int) else None  # some tasks have several right ones
    return Asked(task, number, name, text, len(choices), known)


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _by_task(asked: Sequence[Asked]) -> list[list[Asked]]:
    """Documents of one task after another, as they came."""
    found: dict[str, list[Asked]] = {}
    for each in asked:
        found.setdefault(each.task.task_name, []).append(each)
    return list(found.values())


def _values(harness: Any, asked: Sequence[Asked], metric: str) -> list[float]:
    """What the harness gives for each of some documents of one task, in their order."""
    task = asked[0].task
    name = task.task_name
    if not task.higher_is_better().get(metric, True):
        raise BadSetting(f"{metric} of {name} is better when lower. Take another: metric=acc.")
    numbers = sorted(each.number for each in asked)  # the harness goes by their place in order
    results = _package("lm_eval.evaluator").evaluate(
        harness,
        {"tasks": {name: task}, "groups": {}, "group_map": {}},
        samples={name: numbers},
        bootstrap_iters=0,
    )
    rows = results["samples"][name]
    first = [row for row in rows if row["filter"] == rows[0]["filter"]]
    by_number = {row["doc_id"]: row for row in first}
    found = [by_number[each.number].get(metric) for each in asked]
    for value in found:
        if not isinstance(value, int | float):
            has = ", ".join(first[0]["metrics"][:NAMED])
            raise BadSetting(
                f"{name} gives no number for each document that is called {metric}. It has {has}. "
                "Name one with --option metric=NAME."
            )
    return [float(value) for value in found]
