"""What a model says of texts with one label each: which class it finds, and how sure it is.

Shapes: D documents, C labels.

Tested in tests/evals/test_classify.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadSetting
from babelpress.evals._labels import check_labels, labels_of, logits
from babelpress.models.heads import OF_TEXTS
from babelpress.system.progress import Progress
from babelpress.text.labelled import Labelled, LabelledCorpus, find, open_labelled

CLASSIFIED = ("topic", "sentiment")


@dataclass(frozen=True, slots=True)
class Classified:
    """Of D texts the class that is right, the one that is found, and the probability of that."""

    labels: tuple[str, ...]
    right_D: np.ndarray
    found_D: np.ndarray
    sure_D: np.ndarray

    def f1(self) -> dict[str, float]:
        """F1 of each class that is found or right: 2 · right / (found + there)."""
        return {
            self.labels[c]: float(2 * np.sum(self._hit(c)) / np.sum(self._said(c)))
            for c in sorted({*self.right_D.tolist(), *self.found_D.tolist()})
        }

    def influence_D(self) -> np.ndarray:
        """Of each text what it adds to the macro F1, to first order; their mean is that exactly.

        F1 of a class is 2Σr/Σs, r being whether a text is it and found as it, s how often a text
        is it or is found as it. Its first-order form is F + D·(2r − F·s)/Σs, which is F in the
        mean over D texts.
        """
        scores = self.f1()
        total_D = np.zeros(len(self.right_D))
        for label, f1 in scores.items():
            c = self.labels.index(label)
            said_D = self._said(c)
            gap_D = 2 * self._hit(c) - f1 * said_D
            total_D += f1 + len(said_D) * gap_D / said_D.sum()
        return total_D / len(scores)

    def _hit(self, c: int) -> np.ndarray:
        return ((self.right_D == c) & (self.found_D == c)).astype(np.float64)

    def _said(self, c: int) -> np.ndarray:
        return (self.right_D == c).astype(np.float64) + (self.found_D == c)


def open_classes(corpus: str, task: str) -> LabelledCorpus:
    """Labelled texts in a folder or on the hub; an empty task is the one that they are of.

    Raises BadSetting for a task of words, and what `open_labelled` raises.
    """
    if task and find(task).by_word:
        raise BadSetting(
            f"classify is of {' or '.join(CLASSIFIED)}, not of {task}. Score it with --on {task}."
        )
    return open_labelled(task, corpus, CLASSIFIED)


def classified(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tag: str,
    documents: Sequence[Labelled],
    *,
    window: int,
    what: str,
    progress: Progress,
) -> Classified:
    """What a model says of the texts of one language; what is longer than a window is cut.

    Raises BadModel for a model with another head or without a label that is there, and what
    `_labels.logits` raises.
    """
    names = labels_of(model, OF_TEXTS)
    check_labels(names, documents)
    said = logits(
        model, tokenizer, tag, documents, window=window, by_word=False, what=what, progress=progress
    )
    sure_DC = softmax(np.concatenate(said), axis=1)
    found_D = sure_DC.argmax(1)
    right_D = np.array([names.index(each.labels[0]) for each in documents])
    return Classified(names, right_D, found_D, sure_DC.max(1))
