"""Names: F1 of the entities that a model finds in sentences, as seqeval counts them.

An entity is right where its type and both its ends are. F1 is 2 · right / (found + there), summed
over sentences: the micro average of seqeval in its usual mode, in which what begins with I- begins
an entity too. Every word has the label of its first token; long sentences are split, not cut
(text/pieces.py). Tagged text has a word and its label on a line, as MasakhaNER and Universal NER.

`types` counts some types only, as PER,LOC: those that two data sets share, say; then others of a
model are no mistakes. A sentence is a document, with 2 · right over found + there, so that one
without an entity counts nothing.

For one: babelpress eval RUN --on ner --corpus FOLDER

Shapes: W words of a sentence, C labels.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from babelpress.errors import BadCorpus
from babelpress.evals import Detail, unheard
from babelpress.evals._labels import check_labels, labels_of, logits
from babelpress.models.heads import OF_WORDS
from babelpress.numerics.tally import Tally
from babelpress.system.progress import Progress, silent
from babelpress.system.settings import words
from babelpress.text.labelled import OUTSIDE, Labelled, LabelledCorpus, open_labelled

METRIC = "f1"
SPOKEN = "F1 of entities"
LOWER_IS_BETTER = False
HEAD = "ForTokenClassification"
SHOWN = ("PER", "ORG", "LOC", "DATE")  # F1 of those of MasakhaNER

Entity = tuple[str, int, int]
"""Its type, its first word, and the one after its last."""


def texts(corpus: str) -> LabelledCorpus:
    """Tagged sentences in a folder or a data set on the hub. Raises what `open_labelled` does."""
    return open_labelled("ner", corpus)


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Mapping[str, Sequence[Labelled]],
    *,
    window: int,
    types: str = "",
    detail: Detail = unheard,
    progress: Progress = silent,
) -> dict[str, Tally]:
    """Return one Tally per language, 2 · right over found + there.

    `detail` is told the F1 of every type. Raises BadModel for a model with another head or without
    a label that is there, BadCorpus for a language without an entity, and what `_labels.logits`
    raises.
    """
    names = labels_of(model, OF_WORDS)
    only = set(words(types))
    found: dict[str, Tally] = {}
    for tag, some in documents.items():
        there = [_of_types(entities(each.labels), only) for each in some]
        if not any(there):
            what = f"entity of the types {', '.join(sorted(only))}" if only else "entity"
            raise BadCorpus(f"{tag} has no {what} to find. Leave it out of --languages.")
        check_labels(names, [_only(each, only) for each in some])
        said = logits(
            model, tokenizer, tag, some, window=window, by_word=True, what="ner", progress=progress
        )
        mine = [
            _of_types(entities([names[place] for place in each_WC.argmax(1)]), only)
            for each_WC in said
        ]
        both = [each & other for each, other in zip(mine, there, strict=True)]
        right_D, found_D, there_D = (
            np.array([len(each) for each in part], dtype=np.float64) for part in (both, mine, there)
        )
        found[tag] = Tally(tuple(each.id for each in some), 2 * right_D, found_D + there_D)
        detail(tag, _by_type(both, mine, there))
    return found


def entities(labels: Sequence[str]) -> set[Entity]:
    """The entities of a sentence, by seqeval's usual rules for labels O, B-TYPE and I-TYPE.

    I- goes on with an entity of its type, and begins one where there is none.
    """
    found: set[Entity] = set()
    kind, start = "", 0
    for place, label in enumerate([*labels, OUTSIDE]):
        begin, _, of = label.partition("-")
        if kind and not (begin == "I" and of == kind):
            found.add((kind, start, place))
            kind = ""
        if not kind and begin != OUTSIDE:
            kind, start = of, place
    return found


def _of_types(found: set[Entity], only: set[str]) -> set[Entity]:
    return {each for each in found if not only or each[0] in only}


def _only(document: Labelled, only: set[str]) -> Labelled:
    """The same with labels of some types alone, which a model must know."""
    kept = [each if not only or each[2:] in only else OUTSIDE for each in document.labels]
    return Labelled(document.id, document.words, tuple(kept))


def _by_type(
    both: Sequence[set[Entity]], mine: Sequence[set[Entity]], there: Sequence[set[Entity]]
) -> dict[str, float]:
    """F1 of each type that is found or there."""
    right, found, wanted = (
        Counter(kind for each in part for kind, _, _ in each) for part in (both, mine, there)
    )
    return {
        kind: 2 * right[kind] / (found[kind] + wanted[kind]) for kind in sorted({*found, *wanted})
    }
