"""Calibration of labels: how far the probability of the label that a model finds is off.

A text is a guess: the label that the model finds likeliest, with the probability p that it gives
it; hit is 1 where that is the right one. Bins, formula and what is tallied are those of ece
(_calibration.py), which is of next tokens. Misra et al. (2023, arXiv:2308.14969) find that sparsity
harms calibration and quantization does not. Data sets and heads are those of classify.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.evals import Detail, unheard
from babelpress.evals._calibration import gaps, tally
from babelpress.evals._classes import classified, open_classes
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent
from babelpress.text.labelled import Labelled, LabelledCorpus

METRIC = "class_ece"
SPOKEN = "expected calibration error of labels"
LOWER_IS_BETTER = True
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
    """Return one Tally of gaps, signed by bin, over texts per language.

    `detail` is told what every bin adds to the error. Raises what `_classes.classified` raises.
    """
    found: dict[str, Tally] = {}
    for tag, some in documents.items():
        said = classified(
            model, tokenizer, tag, some, window=window, what="class_ece", progress=progress
        )
        hit_D = (said.found_D == said.right_D).astype(np.float64)
        gap_DK = gaps(torch.from_numpy(said.sure_D), torch.from_numpy(hit_D)).numpy()
        names = [each.id for each in some]
        found[tag], parts = tally(names, gap_DK, np.ones(len(some)))
        detail(tag, parts)
    return found
