"""Macro F1: how well a model finds the labels of texts, every label weighing the same.

The mean over labels of 2 · right / (found + there), as scikit-learn's `f1_score` of `average=macro`
over the labels that are there or are found. Data sets and heads are those of classify.

It is no sum over documents. What is tallied is its first-order form, so that intervals and compare
work: of each text what it adds to the mean, over 1. Their mean is exactly the score, a text may
count below zero or above one, and the interval is that of the delta method.

`majority` is what the label that is there most often gives, for every text.
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

METRIC = "macro_f1"
SPOKEN = "macro F1 of labels"
LOWER_IS_BETTER = False
FIRST_ORDER = True
HEAD = "ForSequenceClassification"


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
    """Return one Tally per language whose value is the macro F1.

    `detail` is told the F1 of every label. Raises what `_classes.classified` raises.
    """
    found: dict[str, Tally] = {}
    for tag, some in documents.items():
        said = classified(
            model, tokenizer, tag, some, window=window, what="macro_f1", progress=progress
        )
        names = tuple(each.id for each in some)
        found[tag] = Tally(names, said.influence_D(), np.ones(len(some)))
        detail(tag, said.f1())
    return found


def baselines(documents: Sequence[Labelled]) -> dict[str, float]:
    """What the label that is right most often gives, for every text."""
    counts = Counter(each.labels[0] for each in documents)
    most = max(counts.values())
    return {"majority": 2 * most / (most + len(documents)) / len(counts)}
