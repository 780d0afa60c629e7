"""Choice: the share of items whose right answer the model finds likelier than every other.

Nothing is written by the model: each choice of an item is scored as it follows the item's text, and
the likeliest one is the answer (`_choices.py`). `normalise=tokens` and `bytes` weigh the
log-likelihood by the length of the choice, as acc_norm of lm-eval does by characters. Tasks are
those of `_tasks.py`; which one the corpus is of is seen by its columns, or said with `task`.
Templates are those of `_prompts.py`: in English, or with `prompts=own` in the language of the task.

For one: babelpress eval MODEL --on choice --corpus FOLDER --out dense

An item is a document with 1 or 0 of 1, so two models are compared by McNemar's test. `chance` is
what guessing finds, `majority` what giving one place (of labels: one label) for every item does.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.evals._choices import Kept, check_normalise, first, said
from babelpress.evals._items import Item, Items, open_items
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent

METRIC = "accuracy"
SPOKEN = "accuracy of choices"
LOWER_IS_BETTER = False
ONE_SIDED = True
BINARY = True


def texts(corpus: str, *, task: str = "", prompts: str = "english", templates: str = "") -> Items:
    """The items of a task in a folder or a data set on the hub. Raises what `open_items` does."""
    return open_items(task, corpus, prompts=prompts, templates=templates)


def check(options: Mapping[str, Any]) -> None:
    """Raise BadSetting for a way to weigh lengths that is none."""
    check_normalise(options["normalise"])


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Item]],
    *,
    window: int,
    normalise: str = "none",
    memory_mb: int = 256,
    kept: Kept | None = None,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of right answers over items per language.

    `kept` is where log-likelihoods (in nats) are looked for, and left. Raises what `_choices.said`
    raises.
    """
    check_normalise(normalise)
    found: dict[str, Tally] = {}
    for tag, items in documents.items():
        told = said(
            model,
            tokenizer,
            tag,
            items,
            window=window,
            memory_mb=memory_mb,
            kept=kept,
            what="choice",
            progress=progress,
        )
        hit_D = np.array([first(each.scores(normalise)) == each.item.answer for each in told])
        found[tag] = Tally(tuple(item.id for item in items), hit_D * 1.0, np.ones(len(items)))
    return found


def baselines(items: Sequence[Item]) -> dict[str, float]:
    """What guessing finds of these items, and what the one place that is right most often does."""
    chance = sum(1 / len(item.options) for item in items) / len(items)
    ((_, most),) = Counter(item.answer for item in items).most_common(1)
    return {"chance": chance, "majority": most / len(items)}
