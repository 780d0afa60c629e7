"""Classify: the share of texts whose label a model finds, of topics or of sentiments.

The model has a head for whole texts (…ForSequenceClassification), as `babelpress finetune` puts on
an encoder. Which task a folder is of is seen by its columns, or said with `task`: topic is laid out
as SIB-200, sentiment as AfriSenti. A text that is longer than a window is cut.

For one: babelpress eval RUN --on classify --corpus FOLDER

A text is a document with 1 or 0 of 1, so two models are compared by McNemar's test. `chance` is one
over the labels that are there, `majority` what the one that is there most often finds. Where
classes are of unequal size, macro_f1 weighs them alike.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.evals import Detail, unheard
from babelpress.evals._classes import classified, open_classes
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent
from babelpress.text.labelled import Labelled, LabelledCorpus

METRIC = "accuracy"
SPOKEN = "accuracy of labels"
LOWER_IS_BETTER = False
BINARY = True
HEAD = "ForSequenceClassification"
SHOWN = ("macro F1",)


def texts(corpus: str, *, task: str = "") -> LabelledCorpus:
    """Labelled texts in a folder or a data set on the hub. Raises what `open_labelled` does."""
    return open_classes(corpus, task)


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Labelled]],
    *,
    window: int,
    detail: Detail = unheard,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally of right labels over texts per language.

    `detail` is told the F1 of every label and their mean. Raises what `_classes.classified` raises.
    """
    found: dict[str, Tally] = {}
    for tag, some in documents.items():
        said = classified(
            model, tokenizer, tag, some, window=window, what="classify", progress=progress
        )
        hit_D = (said.found_D == said.right_D).astype(np.float64)
        found[tag] = Tally(tuple(each.id for each in some), hit_D, np.ones(len(some)))
        each = said.f1()
        detail(tag, {**each, SHOWN[0]: float(np.mean(list(each.values())))})
    return found


def baselines(documents: Sequence[Labelled]) -> dict[str, float]:
    """What guessing finds of these texts, and what the label that is right most often does."""
    counts = Counter(each.labels[0] for each in documents)
    return {"chance": 1 / len(counts), "majority": max(counts.values()) / len(documents)}
